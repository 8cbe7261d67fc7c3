/* SPDX-License-Identifier: Apache-2.0 */
#include "latency.h"

/* The linear part: as many buckets as values with one bit more than the significant ones. */
#define HALF (1u << LATENCY_SIGNIFICANT_BITS)

static size_t bucket_of(int64_t ns)
{
    const unsigned int top_bit = 63 - (unsigned int)__builtin_clzll((unsigned long long)ns | HALF);
    const unsigned int shift = top_bit - LATENCY_SIGNIFICANT_BITS;

    return (size_t)shift * HALF + (size_t)(ns >> shift);
}

void latency_record(struct latency *latency, int64_t ns)
{
    if (ns < 0) /* a monotonic clock does not go back */
        ns = 0;
    if (!latency->total || ns < latency->min_ns)
        latency->min_ns = ns;
    if (ns > latency->max_ns)
        latency->max_ns = ns;
    latency->counts[bucket_of(ns < LATENCY_HIGHEST_NS ? ns : LATENCY_HIGHEST_NS)]++;
    latency->total++;
}

int64_t latency_lowest(size_t bucket)
{
    const size_t shift = bucket < 2 * HALF ? 0 : bucket / HALF - 1;

    return (int64_t)(bucket - shift * HALF) << shift;
}
