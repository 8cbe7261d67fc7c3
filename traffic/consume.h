/* SPDX-License-Identifier: Apache-2.0 */
/* What the receive modes share: every byte read from the socket is counted once and, with --verify,
 * checked. */
#ifndef ZCLAB_CONSUME_H
#define ZCLAB_CONSUME_H

#include "retained.h"
#include "unmapped.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct receive_mode;
struct session;

/* One stream's receiver. */
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

enum consumed {
    CONSUMED_SOME,
    CONSUMED_NOTHING, /* nothing was queued after all: wait again */
    CONSUMED_END,     /* the peer will send no more */
    CONSUMED_FAILED,  /* the session's outcome says why */
};

/* Bytes that are mapped at `at`. */
void consume_mapped(struct receiver *receiver, const unsigned char *at, size_t length);
/* Bytes that were copied to `at` because of `cause` (any will do for a mode that does not map). */
void consume_copied(struct receiver *receiver, const unsigned char *at, size_t length, enum unmapped cause);
/* Sets the session's outcome from an errno. */
enum consumed consume_failed(struct session *session, const char *action, int error);
/* What the return value of a receive call says, and errno if it is negative. */
enum consumed consume_received(struct session *session, ssize_t got);
/* Reads at most `want` bytes, and at most a chunk, by copying; never blocks. */
enum consumed consume_by_copy(struct receiver *receiver, size_t want, enum unmapped cause);
/* Is an urgent byte next? FIONREAD counts only up to there. */
bool consume_at_mark(struct session *session);
/* The socket is readable, but the mapping call mapped nothing and returned recv_skip_hint 0, though
 * `queued` bytes may be there: the end of the stream, an error of the connection, an urgent byte, or a
 * kernel that does not map. Returns CONSUMED_NOTHING at most once in a row while a page or more is queued. */
enum consumed consume_without_hint(struct receiver *receiver, size_t queued);

#endif
