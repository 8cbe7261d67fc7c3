/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware events through perf_event_open(): cycles and instructions, user and kernel together. */
#ifndef ZCLAB_PERF_H
#define ZCLAB_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PERF_CYCLES, PERF_INSTRUCTIONS, PERF_EVENTS };

/* Counted since perf_start(), scaled up where the counters were multiplexed. */
struct perf_sample {
    bool known;
    uint64_t value[PERF_EVENTS];
};

struct perf {
    int fd[PERF_EVENTS]; /* -1: not open */
};

/* Opens counters for the calling thread. False with the reason in `why` when this host has no such events
 * or does not allow it; nothing is left open then. */
bool perf_open_thread(struct perf *perf, char *why, size_t room);
/* Opens counters for one processor, whatever runs on it. */
bool perf_open_cpu(struct perf *perf, int cpu, char *why, size_t room);
/* Starts counting. */
void perf_start(const struct perf *perf);
/* Adds what has been counted by now to `sample`; unknown if it cannot be read. */
void perf_read(const struct perf *perf, struct perf_sample *sample);
void perf_close(struct perf *perf);

#endif
