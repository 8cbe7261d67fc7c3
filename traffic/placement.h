/* SPDX-License-Identifier: Apache-2.0 */
/* Which processor each stream's thread runs on. */
#ifndef ZCLAB_PLACEMENT_H
#define ZCLAB_PLACEMENT_H

#include "ending.h"

#include <stdbool.h>

#define PLACES_MAX 1024

struct placement {
    int count; /* 0: anywhere */
    int cpu[PLACES_MAX];
};

/* Reads a list like 0,2-3; false when it is none. */
bool placement_parse(struct placement *placement, const char *text);
/* The processor of a stream, -1: any. */
int placement_of(const struct placement *placement, int stream);
/* Can this process use every processor of the list? Moves the calling thread about to find out. */
bool placement_check(const struct placement *placement, struct ending *ending);
/* Moves the calling thread there. */
bool placement_apply(const struct placement *placement, int stream, struct ending *ending);

#endif
