/* SPDX-License-Identifier: Apache-2.0 */
/* What the streams of one end share: when the first payload byte moved, the host's readings around the
 * window, and whether one of them has failed. Stream 0 runs in the main thread, each other one in a thread of
 * its own. */
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

/* The host at one edge of a span. */
struct host_sample {
    struct host_cpu cpu;
    struct perf_sample perf; /* all processors */
    struct zerocopy_stat zerocopy;
};

struct group {
    int streams;
    pthread_mutex_t lock; /* of the host's readings, of meetings, of perf_why */
    pthread_cond_t met;
    int members; /* streams that have a thread */
    int here;    /* of them, waiting for the others */
    int meetings;
    _Atomic int64_t first_ns; /* first payload byte of any stream; 0: none yet */
    atomic_int opened;        /* streams whose window has opened */
    atomic_int closed;
    atomic_bool broken; /* a stream has failed: the others need not go on */
    struct host_sample open;
    struct host_sample close;
    int64_t baseline_ns; /* how long it really was; 0: none taken */
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

/* The window of one stream opens or has closed: the first one and the last one read the host. */
void group_window_opens(struct group *group);
void group_window_closed(struct group *group);

/* Watches the host for `ns` with nobody moving payload; false when a stop was asked for meanwhile. */
bool group_baseline(struct group *group, int64_t ns);

/* Waits until all streams are here. Every stream passes it, also one that has failed. */
void group_barrier(struct group *group);
/* Keeps the first reason why there are no hardware events. */
void group_lacks_perf(struct group *group, const char *why);

#endif
