/* SPDX-License-Identifier: Apache-2.0 */
/* Areas that a receiver has read and that somebody still uses: each lies in memory of its own, and goes back to
 * the kernel when so much has been read after it. */
#ifndef ZCLAB_KEEP_H
#define ZCLAB_KEEP_H

#include <stdbool.h>
#include <stddef.h>

struct kept {
    void *at;
    size_t length;
};

struct keep {
    struct kept *areas; /* a ring */
    size_t room;        /* areas that fit into it */
    size_t first, count;
    size_t bytes, limit;
};

/* Keeps `limit` bytes, in areas of `least` bytes or more. False when there is no memory for the account. */
bool keep_init(struct keep *keep, size_t limit, size_t least);
/* Keeps one more area, which munmap() frees; with a limit of 0 it is given back at once. Returns how many were given
 * back: a system call each. */
unsigned keep_add(struct keep *keep, void *at, size_t length);
void keep_free(struct keep *keep);

#endif
