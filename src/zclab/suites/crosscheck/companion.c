/* SPDX-License-Identifier: Apache-2.0 */
/* Linked into the programs of others, so that what they measure can be compared. */
#include <sys/mman.h>
#include <sys/types.h>

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);

/* Memory that may be written to has pages of its own from the start. tcp_mmap sends from memory that it never
 * writes to, which would be the kernel's one page of zeros again and again, always in the first level cache. */
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if ((protection & PROT_WRITE) && (flags & MAP_ANONYMOUS))
        flags |= MAP_POPULATE;
    return __real_mmap(address, length, protection, flags, fd, offset);
}
