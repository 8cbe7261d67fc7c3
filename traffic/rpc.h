/* SPDX-License-Identifier: Apache-2.0 */
/* Ping-pong of small messages: the client sends a request, the server answers each with a reply, one at a
 * time on one connection. Both ends receive in the chosen mode and count their system calls by kind. */
#ifndef ZCLAB_RPC_H
#define ZCLAB_RPC_H

#include "latency.h"
#include "session.h"

#include <stddef.h>
#include <stdint.h>

/* System calls of the measured loop. The blocking recvmsg() waits and receives in one call. */
struct rpc_calls {
    uint64_t poll;
    uint64_t getsockopt; /* TCP_ZEROCOPY_RECEIVE */
    uint64_t recvmsg;
    uint64_t sendmsg;
};

struct rpc_counters {
    uint64_t rpcs;
    uint64_t mapped; /* received bytes */
    uint64_t copied; /* received bytes */
    struct rpc_calls calls;
};

struct rpc {
    struct session *session;
    const struct rpc_mode *mode;
    size_t out_bytes;
    size_t in_bytes;
    unsigned char *out; /* the message that this end sends */
    unsigned char *in;  /* where a message is copied to */
    void *mapping;      /* the standing mapping of the socket, or NULL */
    size_t mapping_bytes;
    size_t have;            /* bytes of the incoming message that are there */
    unsigned char kind;     /* the first byte of the message */
    bool window_over_there; /* client: the server's window has closed */
    struct rpc_counters counters;
    struct rpc_counters open; /* as the window opened */
    struct rpc_counters close;
    struct latency latency; /* client: of every RPC of the window */
};

/* Runs one end to its outcome, which is left in the session. `rpc` is zeroed memory. */
void rpc_run(struct rpc *rpc, struct session *session);

#endif
