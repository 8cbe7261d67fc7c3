/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to receive one small message. A new one is a new row of the table. */
#ifndef ZCLAB_RPC_MODES_H
#define ZCLAB_RPC_MODES_H

#include "outcome.h"
#include "receive_modes.h"

#include <stdbool.h>

struct rpc;

struct rpc_mode {
    const char *name;
    const char *help;
    bool polls;       /* waits by poll() before each take; otherwise the take blocks, for a tick at most */
    bool maps;
    bool copy_buffer; /* gives the mapping call room for the whole message */
    /* Takes what is there of the message, at most the rest of it. */
    enum consumed (*consume)(struct rpc *rpc);
};

extern const struct rpc_mode rpc_modes[]; /* ended by a row without a name */

const struct rpc_mode *rpc_mode_find(const char *name);

#endif
