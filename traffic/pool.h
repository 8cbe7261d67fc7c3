/* SPDX-License-Identifier: Apache-2.0 */
/* Page-aligned send buffers, used in turn: no more than needed, because a few stay in the cache. Buffers
 * that are never written to are all the same memory; only the number in flight counts then. */
#ifndef ZCLAB_POOL_H
#define ZCLAB_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory whose pages have been written once, so that each is backed by a page of its own; NULL when there
 * is none. Small pages only, so that the figures do not depend on the host's huge page setting. munmap()
 * frees it. */
void *pages_allocate(size_t bytes);

struct pool {
    unsigned char *memory;
    size_t bytes;  /* of memory */
    size_t stride; /* bytes of a buffer, whole pages */
    size_t step;   /* bytes from one buffer to the next; 0: all are the same memory */
    uint32_t count; /* at most */
    uint32_t used;  /* used so far; the others have no memory yet */
    uint32_t next;
    uint32_t *pending; /* for each buffer: sends that the kernel has not completed yet */
};

/* At most `bytes` of buffers of `buffer_bytes` each, but at least two. Starts with one in use. `same`: all
 * are the same memory. */
bool pool_init(struct pool *pool, size_t buffer_bytes, size_t bytes, bool same);
void pool_free(struct pool *pool);
/* The current buffer. */
unsigned char *pool_buffer(const struct pool *pool);
/* Is it still in flight? */
bool pool_busy(const struct pool *pool);
/* Makes an unused buffer the current one; false if there is none. */
bool pool_grow(struct pool *pool);
void pool_advance(struct pool *pool);

#endif
