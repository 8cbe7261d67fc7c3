/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to end early: SIGTERM, SIGINT, SIGHUP, or the end of standard input. */
#ifndef ZCLAB_STOP_H
#define ZCLAB_STOP_H

#include "ending.h"

#include <stdbool.h>

void stop_install(void);

/* Starts a thread that waits for the end of standard input. A thread, because an added descriptor in the poll
 * sets would cost every wait of the measured loop; not PR_SET_PDEATHSIG, because that fires at the death of
 * the parent's thread, and a caller may well start us from a short-lived one. */
bool stop_watch_stdin(struct ending *ending);

/* Has a stop been asked for? */
bool stop_asked(void);
/* Asked twice: do not even wait for what is still in flight. */
bool stop_insisted(void);

#endif
