/* SPDX-License-Identifier: Apache-2.0 */
/* Receive buffers aligned to 2 MiB, on huge pages where there are some. */
#ifndef ZCLAB_HUGEPAGE_H
#define ZCLAB_HUGEPAGE_H

#include <stddef.h>

#define HUGEPAGE_BYTES ((size_t)2 << 20)

/* Memory whose pages have been written once; `huge_bytes` says how much of it is on huge pages. NULL when
 * there is no memory. */
void *hugepage_allocate(size_t bytes, size_t *huge_bytes);
/* The same without a write: pages that are not touched take no memory. */
void *hugepage_reserve(size_t bytes);
void hugepage_free(void *memory, size_t bytes);
/* An aligned read-only mapping of a socket, or MAP_FAILED and errno. munmap() frees it. */
void *hugepage_map(int fd, size_t bytes);

#endif
