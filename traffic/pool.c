/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "hugepage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *pages_allocate(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_NOHUGEPAGE); /* fails where there are none, which is fine */
    memset(memory, 0x5a, bytes);
    return memory;
}

bool pool_init(struct pool *pool, size_t buffer_bytes, size_t bytes, bool same)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    *pool = (struct pool){.stride = (buffer_bytes + page - 1) / page * page, .used = 1};
    pool->count = (uint32_t)(bytes / pool->stride < 2 ? 2 : bytes / pool->stride);
    pool->step = same ? 0 : pool->stride;
    pool->bytes = same ? pool->stride : pool->stride * pool->count;
    pool->pending = calloc(pool->count, sizeof(*pool->pending));
    pool->memory = hugepage_reserve(pool->bytes);
    if (pool->memory && pool->pending) {
        memset(pool->memory, 0x5a, pool->stride);
        return true;
    }
    pool_free(pool);
    return false;
}

void pool_free(struct pool *pool)
{
    if (pool->memory)
        hugepage_free(pool->memory, pool->bytes);
    free(pool->pending);
    *pool = (struct pool){0};
}

unsigned char *pool_buffer(const struct pool *pool)
{
    return pool->memory + pool->step * pool->next;
}

bool pool_busy(const struct pool *pool)
{
    return pool->pending[pool->next] > 0;
}

void pool_advance(struct pool *pool)
{
    pool->next = (pool->next + 1) % pool->used;
}

bool pool_grow(struct pool *pool)
{
    if (pool->used == pool->count)
        return false;
    pool->next = pool->used++;
    if (pool->step)
        memset(pool_buffer(pool), 0x5a, pool->stride); /* back each page */
    return true;
}
