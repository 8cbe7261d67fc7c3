/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to take payload from the socket. A new one is a new row of the table. */
#ifndef ZCLAB_RECEIVE_MODES_H
#define ZCLAB_RECEIVE_MODES_H

#include "outcome.h"
#include "retained.h"
#include "unmapped.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

struct receiver {
    struct session *session;
    const struct receive_mode *mode;
    size_t chunk_bytes;
    unsigned char *buffer;    /* page-aligned; what is copied goes here */
    size_t copy_buffer;       /* bytes the kernel may copy within the mapping call; 0: none */
    unsigned char *straggler; /* where it copies them */
    void *mapping;            /* the standing mapping of the socket, or NULL */
    struct retained retained;         /* what was read and is still used; limit 0: each chunk goes where the last was */
    bool clean;               /* no page is in it */
    size_t page;              /* the page size */
    bool verify;              /* look at every byte */
    int64_t burnt_ns;         /* planted CPU that has been used */
    bool more;                /* a whole chunk was taken and more is likely there: try without waiting */
    bool balked;              /* the kernel named nothing to take the last time, though there was something */
    struct segment_size segments;
    /* map_each */
    size_t map_bytes;    /* whole pages to try next */
    size_t skip_bytes;   /* whole pages to copy next, should one page be refused */
    uint64_t segment_at; /* where a segment began; pages are counted from there if there are no headers */
};

enum consumed {
    CONSUMED_SOME,
    CONSUMED_NOTHING, /* there was nothing after all: wait again */
    CONSUMED_END,     /* the peer will send no more */
    CONSUMED_FAILED,  /* the session's outcome says why */
};

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
