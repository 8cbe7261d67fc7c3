/* SPDX-License-Identifier: Apache-2.0 */
/* Areas that a receiver has read and that somebody still uses: each lies in memory of its own, and goes back to
 * the kernel when so much has been read after it. */
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

/* Keeps `limit` bytes, in areas of `least` bytes or more. False when there is no memory for the account. */
bool retained_init(struct retained *retained, size_t limit, size_t least);
/* Keeps one more area, which munmap() frees; with a limit of 0 it is given back at once. Returns how many were given
 * back: a system call each. */
unsigned retained_add(struct retained *retained, void *at, size_t length);
void retained_free(struct retained *retained);

#endif
