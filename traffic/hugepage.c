/* SPDX-License-Identifier: Apache-2.0 */
#include "hugepage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#define HUGE_2MIB (21 << 26) /* of this size, whatever the host's default is: MAP_HUGE_2MB */

static size_t rounded(size_t bytes)
{
    return (bytes + HUGEPAGE_BYTES - 1) / HUGEPAGE_BYTES * HUGEPAGE_BYTES;
}

/* Maps `bytes` of memory at an aligned address. */
static void *reserve(size_t bytes, int protection)
{
    const size_t room = bytes + HUGEPAGE_BYTES;
    unsigned char *all = mmap(NULL, room, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t head;

    if (all == MAP_FAILED)
        return NULL;
    head = (HUGEPAGE_BYTES - (uintptr_t)all % HUGEPAGE_BYTES) % HUGEPAGE_BYTES;
    if (head)
        munmap(all, head);
    munmap(all + head + bytes, room - head - bytes);
    return all + head;
}

/* Bytes of [memory, memory + bytes) that smaps says are on transparent huge pages. */
static size_t transparent_bytes(const void *memory, size_t bytes)
{
    const uintptr_t from = (uintptr_t)memory, to = from + bytes;
    uintptr_t start = 0, end = 0;
    size_t kib, found = 0;
    char line[512];
    FILE *file = fopen("/proc/self/smaps", "re");

    while (file && fgets(line, sizeof(line), file)) {
        uintptr_t a, b;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &a, &b) == 2) {
            start = a;
            end = b;
        } else if (start < to && end > from && sscanf(line, "AnonHugePages: %zu kB", &kib) == 1) {
            found += kib << 10;
        }
    }
    if (file)
        fclose(file);
    return found < bytes ? found : bytes;
}

/* Memory from the hugetlb pool, or NULL. A reservation is not enough: a limit of the cgroup or the memory
 * node could still deny the pages, and then a write would be fatal. */
static void *set_aside(size_t room)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGE_2MIB;
    void *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    if (madvise(memory, room, MADV_POPULATE_WRITE) == 0)
        return memset(memory, 0x5a, room);
    munmap(memory, room);
    return NULL;
}

void *hugepage_allocate(size_t bytes, size_t *huge_bytes)
{
    const size_t room = rounded(bytes);
    void *memory = set_aside(room);

    *huge_bytes = memory ? room : 0;
    if (memory)
        return memory;
    memory = hugepage_reserve(bytes);
    if (!memory)
        return NULL;
    memset(memory, 0x5a, room);
    *huge_bytes = transparent_bytes(memory, room);
    return memory;
}

void *hugepage_reserve(size_t bytes)
{
    void *memory = reserve(rounded(bytes), PROT_READ | PROT_WRITE);

    if (memory)
        madvise(memory, rounded(bytes), MADV_HUGEPAGE); /* fails where there are none, which is fine */
    return memory;
}

void hugepage_free(void *memory, size_t bytes)
{
    munmap(memory, rounded(bytes));
}

void *hugepage_map(int fd, size_t bytes)
{
    void *place = reserve(bytes, PROT_NONE);
    void *mapping;

    if (!place) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    mapping = mmap(place, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (mapping == MAP_FAILED) {
        int error = errno;

        munmap(place, bytes);
        errno = error;
    }
    return mapping;
}
