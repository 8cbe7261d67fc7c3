/* SPDX-License-Identifier: Apache-2.0 */
/* Which processor each stream's thread runs on. */
#ifndef ZCLAB_AFFINITY_H
#define ZCLAB_AFFINITY_H

#include "outcome.h"

#include <stdbool.h>

#define AFFINITY_MAX 1024

struct affinity {
    int count; /* 0: anywhere */
    int cpu[AFFINITY_MAX];
};

/* Reads a list like 0,2-3; false when it is not one. */
bool affinity_parse(struct affinity *affinity, const char *text);
/* The processor of a stream, -1: any. */
int affinity_cpu(const struct affinity *affinity, int stream);
/* May this process use every processor of the list? Moves the calling thread to each to find out. */
bool affinity_check(const struct affinity *affinity, struct outcome *outcome);
/* Moves the calling thread there. */
bool affinity_apply(const struct affinity *affinity, int stream, struct outcome *outcome);

#endif
