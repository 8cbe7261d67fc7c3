/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of one end, one per stream; stream 0 runs in the main thread. */
#ifndef ZCLAB_STREAMS_H
#define ZCLAB_STREAMS_H

#include "session.h"

/* Runs `body` once for each session, all at the same time, and waits for all of them. */
void streams_run(struct session *sessions, int streams, void (*body)(struct session *session));

#endif
