/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for receiving, aligned to 2 MiB, so that it can lie on huge pages where there are some. */
#ifndef ZCLAB_HUGEPAGE_H
#define ZCLAB_HUGEPAGE_H

#include <stddef.h>

#define HUGEPAGE_BYTES ((size_t)2 << 20)

/* Memory that has been written to once; `huge_bytes` says how much of it is on huge pages. NULL when there is
 * none. Without huge pages it is ordinary memory. */
void *hugepage_allocate(size_t bytes, size_t *huge_bytes);
/* The same without a first write: what is not touched takes no memory. */
void *hugepage_reserve(size_t bytes);
void hugepage_free(void *memory, size_t bytes);
/* An aligned read-only mapping of a socket; MAP_FAILED with errno when the socket cannot be mapped.
 * munmap() ends it. */
void *hugepage_map(int fd, size_t bytes);

#endif
