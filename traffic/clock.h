/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZCLAB_CLOCK_H
#define ZCLAB_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

/* Every wait ends after this long, so that a stop request or a deadline is never seen later than that. */
#define TICK_NS (250 * NS_PER_MS)

/* Monotonic time, nanoseconds. */
static inline int64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

#endif
