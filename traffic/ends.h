/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of a session. Each runs to its outcome, which is left in the sessions. */
#ifndef ZCLAB_ENDS_H
#define ZCLAB_ENDS_H

#include "rpc_modes.h"
#include "session.h"

void receive_run(struct session *sessions, int streams);
void send_run(struct session *sessions, int streams);
/* Ping-pong of small messages: the client sends a request, the server answers each with a reply, one at a
 * time on one connection. Both ends receive in the chosen mode and count their system calls by kind. `rpc` is
 * zeroed memory. */
void rpc_run(struct rpc *rpc, struct session *session);

#endif
