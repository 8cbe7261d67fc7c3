/* SPDX-License-Identifier: Apache-2.0 */
/* Ping-pong of small messages: the client sends a request, the server answers each with a reply, one at a
 * time on one connection. Both ends receive in the chosen mode and count their system calls by kind. */
#ifndef ZCLAB_RPC_H
#define ZCLAB_RPC_H

#include "rpc_modes.h"
#include "session.h"

/* Runs one end to its outcome, which is left in the session. `rpc` is zeroed memory. */
void rpc_run(struct rpc *rpc, struct session *session);

#endif
