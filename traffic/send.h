/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZCLAB_SEND_H
#define ZCLAB_SEND_H

#include "session.h"

/* Runs the sending end to its outcome, which is left in the session. */
void send_run(struct session *sessions, int streams);

#endif
