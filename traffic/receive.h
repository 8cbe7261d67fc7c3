/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZCLAB_RECEIVE_H
#define ZCLAB_RECEIVE_H

#include "session.h"

/* Runs the receiving end to its outcome, which is left in the session. */
void receive_run(struct session *sessions, int streams);

#endif
