/* SPDX-License-Identifier: Apache-2.0 */
/* One stream's receiver: what the receive modes work on. */
#ifndef ZCLAB_RECEIVER_H
#define ZCLAB_RECEIVER_H

#include "retained.h"
#include "unmapped.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct receive_mode;
struct session;

struct receiver {
    struct session *session;
    const struct receive_mode *mode;
    size_t chunk_bytes;
    unsigned char *buffer;    /* page-aligned; where bytes are copied to */
    size_t copy_buffer;       /* bytes the kernel may copy within the mapping call; 0: none */
    unsigned char *copy_area; /* where it copies them to */
    void *mapping;            /* the standing mapping of the socket, or NULL */
    struct retained retained; /* received data still in use; limit 0: each chunk overwrites the last one */
    bool clean;               /* the mapping holds no page */
    size_t page;              /* the page size */
    bool verify;              /* check every byte */
    int64_t burnt_ns;         /* injected CPU time used so far */
    bool more;                /* a whole chunk was read and more is likely queued: read on without waiting */
    bool stalled;             /* the last call mapped nothing, without a hint, though a page was queued */
    struct segment_size segments;
    /* map_each */
    size_t map_bytes;    /* whole pages to map next */
    size_t skip_bytes;   /* whole pages to copy next, should one page be refused */
    uint64_t segment_at; /* where a segment began; pages are counted from there if there are no headers */
};

#endif
