/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to take payload from the socket. A new one is a new row of the table. */
#ifndef ZCLAB_RECEIVE_MODES_H
#define ZCLAB_RECEIVE_MODES_H

#include "consume.h"
#include "outcome.h"
#include "receiver.h"

#include <stdbool.h>

struct receive_mode {
    const char *name;
    const char *help;
    bool maps;        /* needs chunks of whole pages */
    bool copy_buffer; /* takes --copy-buffer */
    bool framing;     /* takes --header-bytes and --message-bytes, to know where pages begin */
    /* Can this kernel do it? Called before anybody is let in. May be NULL. */
    bool (*probe)(struct outcome *outcome);
    /* Called with the connection there and no payload yet. */
    bool (*prepare)(struct receiver *receiver);
    /* Takes at most one chunk; the socket was seen readable, or `more` was set. Never blocks. */
    enum consumed (*consume)(struct receiver *receiver);
};

extern const struct receive_mode receive_modes[]; /* ended by a row without a name */

const struct receive_mode *receive_mode_find(const char *name);

#endif
