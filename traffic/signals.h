/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to stop early: SIGTERM, SIGINT, SIGHUP, or the end of standard input. */
#ifndef ZCLAB_SIGNALS_H
#define ZCLAB_SIGNALS_H

#include "outcome.h"

#include <stdbool.h>

void signals_install(void);

/* Starts a thread that waits for the end of standard input. A thread, because an added descriptor in the poll
 * sets would cost every wait of the measured loop; not PR_SET_PDEATHSIG, because that fires at the death of
 * the parent's thread, and a caller may well start us from a short-lived one. */
bool signals_watch_stdin(struct outcome *outcome);

/* Was a stop requested? */
bool signals_stop_requested(void);
/* Was it requested twice? Then nothing in flight is waited for. */
bool signals_stop_repeated(void);

#endif
