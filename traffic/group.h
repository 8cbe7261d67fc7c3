/* SPDX-License-Identifier: Apache-2.0 */
/* What the streams of one end share: the time of the first payload byte, the host's counters around the
 * window, and whether one of them has failed. */
#ifndef ZCLAB_GROUP_H
#define ZCLAB_GROUP_H

#include "host_cpu.h"
#include "perf.h"
#include "zerocopy_stat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define STREAMS_MAX 64
#define WHY_BYTES 160

/* The host's counters at one point in time. */
struct host_sample {
    struct host_cpu cpu;
    struct perf_sample perf; /* all processors */
    struct zerocopy_stat zerocopy;
};

struct group {
    int streams;
    pthread_mutex_t lock; /* of the host's counters, of the barrier, of perf_why */
    pthread_cond_t met;
    int members; /* streams that have a thread */
    int here;    /* of them, waiting at the barrier */
    int meetings;
    _Atomic int64_t first_ns; /* first payload byte of any stream; 0: none yet */
    atomic_int opened;        /* streams whose window has opened */
    atomic_int closed;
    atomic_bool broken; /* a stream has failed: the others stop */
    struct host_sample open;
    struct host_sample close;
    int64_t baseline_ns; /* measured length; 0: no baseline */
    struct host_cpu baseline_from;
    struct host_cpu baseline_to;
    int perf_cpus; /* 0: not counted */
    struct perf perf[HOST_CPUS_MAX];
    char perf_why[WHY_BYTES]; /* not empty: why there are no hardware events */
};

void group_init(struct group *group, int streams);
/* Opens the processors' counters. */
void group_watch_host(struct group *group);
void group_free(struct group *group);

/* The window of one stream opens, or has closed: the first to open and the last to close read the host. */
void group_window_opens(struct group *group);
void group_window_closed(struct group *group);

/* Measures the idle host for `ns`; false when a stop was requested meanwhile. */
bool group_baseline(struct group *group, int64_t ns);

/* Waits for all streams. Every stream calls it, also one that has failed. */
void group_barrier(struct group *group);
/* Records why there are no hardware events, unless a reason is recorded already. */
void group_lacks_perf(struct group *group, const char *why);

#endif
