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

#endif
