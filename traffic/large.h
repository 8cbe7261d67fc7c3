/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for receiving, aligned to 2 MiB, so that it can lie on huge pages where there are some. */
#ifndef ZCLAB_LARGE_H
#define ZCLAB_LARGE_H

#include <stddef.h>

#define LARGE_ALIGNMENT ((size_t)2 << 20)

/* Memory that has been written to once; `huge_bytes` says how much of it is on huge pages. NULL when there is
 * none. Without huge pages it is ordinary memory. */
void *large_allocate(size_t bytes, size_t *huge_bytes);
/* The same without a first write: what is not touched takes no memory. */
void *large_reserve(size_t bytes);
void large_free(void *memory, size_t bytes);
/* An aligned read-only mapping of a socket; MAP_FAILED with errno when the socket can not be mapped.
 * munmap() ends it. */
void *large_map(int fd, size_t bytes);

#endif
