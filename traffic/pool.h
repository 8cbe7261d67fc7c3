/* SPDX-License-Identifier: Apache-2.0 */
/* Page-aligned buffers that are used in turn: no more of them than it takes, because few stay in the cache. Where
 * nothing is ever written to them they are all the same memory, and only how many are in flight counts. */
#ifndef ZCLAB_POOL_H
#define ZCLAB_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed? No: every page is written once, so that it is there and is its own. NULL when there is no memory.
 * Small pages only, so that the figures do not depend on the host's huge page setting. munmap() frees it. */
void *pages_allocate(size_t bytes);

struct pool {
    unsigned char *memory;
    size_t bytes;  /* of memory */
    size_t stride; /* bytes of a buffer, whole pages */
    size_t step;   /* bytes from one buffer to the next: 0 when they are the same memory */
    uint32_t count; /* at most */
    uint32_t used;  /* that have been used by now: the others have no memory yet */
    uint32_t next;
    uint32_t *pending; /* for each buffer: sends that the kernel has not completed yet */
};

/* At most `bytes` of buffers of `buffer_bytes`, but two at least. Begins with one. `same`: of the same memory. */
bool pool_init(struct pool *pool, size_t buffer_bytes, size_t bytes, bool same);
void pool_free(struct pool *pool);
/* The buffer whose turn it is. */
unsigned char *pool_buffer(const struct pool *pool);
/* Is it still in flight? */
bool pool_busy(const struct pool *pool);
/* Takes a buffer that has not been used yet in place of the one whose turn it is; false if there is none. */
bool pool_grow(struct pool *pool);
void pool_advance(struct pool *pool);

#endif
