/* SPDX-License-Identifier: Apache-2.0 */
/* Received data that stays in use, as by an application: each area has memory of its own, which is freed when
 * `limit` more bytes have been received. */
#ifndef ZCLAB_RETAINED_H
#define ZCLAB_RETAINED_H

#include <stdbool.h>
#include <stddef.h>

struct retained_area {
    void *at;
    size_t length;
};

struct retained {
    struct retained_area *areas; /* a ring */
    size_t room;        /* areas that fit into it */
    size_t first, count;
    size_t bytes, limit;
};

/* Retains `limit` bytes, in areas of at least `least` bytes. False when there is no memory for the
 * account. */
bool retained_init(struct retained *retained, size_t limit, size_t least);
/* Retains one more area, which munmap() frees; with a limit of 0 at once. Returns the number of munmap()
 * calls. */
unsigned retained_add(struct retained *retained, void *at, size_t length);
void retained_free(struct retained *retained);

#endif
