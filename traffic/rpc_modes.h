/* SPDX-License-Identifier: Apache-2.0 */
/* The modes of an RPC, which are ways to receive a message. A new one is a new row of the table. */
#ifndef ZCLAB_RPC_MODES_H
#define ZCLAB_RPC_MODES_H

#include "consume.h"
#include "latency.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

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
    size_t have;             /* bytes of the incoming message received so far */
    unsigned char kind;     /* the first byte of the message */
    bool peer_window_closed; /* client: the server's window has closed */
    struct rpc_counters counters;
    struct rpc_counters open; /* as the window opened */
    struct rpc_counters close;
    struct latency latency; /* client: of every RPC of the window */
};

struct rpc_mode {
    const char *name;
    const char *help;
    bool polls;       /* calls poll() before consume(), which otherwise blocks, for one tick at most */
    bool maps;
    bool copy_buffer; /* gives the mapping call room for the whole message */
    /* Receives what has arrived of the message, at most the rest of it. */
    enum consumed (*consume)(struct rpc *rpc);
};

extern const struct rpc_mode rpc_modes[]; /* ended by a row without a name */

const struct rpc_mode *rpc_mode_find(const char *name);

#endif
