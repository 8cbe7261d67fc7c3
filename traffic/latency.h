/* SPDX-License-Identifier: Apache-2.0 */
/* A histogram of latencies in log-linear buckets: up to 255 ns one bucket per nanosecond, above that 128
 * buckets for each doubling, so that none is wider than 1/128 of its values. This is the layout that
 * HdrHistogram has for 1 ns to 60 s and 2 significant digits: bucket for bucket the same. */
#ifndef ZCLAB_LATENCY_H
#define ZCLAB_LATENCY_H

#include <stddef.h>
#include <stdint.h>

#define LATENCY_SIGNIFICANT_BITS 7
#define LATENCY_HIGHEST_NS INT64_C(60000000000)
#define LATENCY_BUCKETS 3840

struct latency {
    uint64_t total;
    int64_t min_ns; /* of what was recorded; 0 while nothing was */
    int64_t max_ns; /* true also where it lies beyond the last bucket */
    uint64_t counts[LATENCY_BUCKETS];
};

/* Counts one latency; one beyond LATENCY_HIGHEST_NS falls into that value's bucket. Allocates nothing. */
void latency_record(struct latency *latency, int64_t ns);
/* The lowest value of a bucket, nanoseconds. */
int64_t latency_lowest(size_t bucket);

#endif
