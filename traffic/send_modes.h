/* SPDX-License-Identifier: Apache-2.0 */
/* The send modes. A new one is a new row of the table. */
#ifndef ZCLAB_SEND_MODES_H
#define ZCLAB_SEND_MODES_H

#include "pool.h"

#include <stdbool.h>
#include <stdint.h>

struct session;

struct sender {
    struct session *session;
    const struct send_mode *mode;
    struct pool pool;
    unsigned char *header;    /* --header-bytes of it, or NULL */
    bool peer_window_closed; /* as the receiver has reported */
};

struct send_mode {
    const char *name;
    const char *help;
    int flags; /* for send() */
    /* A mode to which a call below means nothing has NULL there. */
    /* Called on the connected socket before the first payload byte. */
    bool (*prepare)(struct sender *sender);
    /* Waits until the current buffer may be used. */
    bool (*acquire)(struct sender *sender);
    /* A send call has accepted bytes of that buffer. */
    void (*sent)(struct sender *sender);
    /* send() failed with ENOBUFS: true when it is worth trying again. NULL: an error like others. */
    bool (*no_buffers)(struct sender *sender);
    /* Waits until the kernel no longer needs any buffer, at most until `deadline_ns`. */
    bool (*settle)(struct sender *sender, int64_t deadline_ns);
};

extern const struct send_mode send_modes[]; /* ended by a row without a name */

const struct send_mode *send_mode_find(const char *name);

#endif
