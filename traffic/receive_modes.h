/* SPDX-License-Identifier: Apache-2.0 */
/* The receive modes. A new one is a new row of the table. */
#ifndef ZCLAB_RECEIVE_MODES_H
#define ZCLAB_RECEIVE_MODES_H

#include "consume.h"
#include "outcome.h"

#include <stdbool.h>

struct receive_mode {
    const char *name;
    const char *help;
    bool maps;        /* needs chunks of whole pages */
    bool copy_buffer; /* takes --copy-buffer */
    bool framing;     /* takes --header-bytes and --message-bytes, to know where pages begin */
    /* Does this kernel support it? Called before any connection is accepted. May be NULL. */
    bool (*probe)(struct outcome *outcome, bool copy_buffer);
    /* Called on the connected socket before the first payload byte. May be NULL. */
    bool (*prepare)(struct receiver *receiver);
    /* Reads at most one chunk from a readable socket, or after `more` was set. Never blocks. */
    enum consumed (*consume)(struct receiver *receiver);
};

extern const struct receive_mode receive_modes[]; /* ended by a row without a name */

const struct receive_mode *receive_mode_find(const char *name);

#endif
