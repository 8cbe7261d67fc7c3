/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZCLAB_CLOCK_H
#define ZCLAB_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

/* No wait is longer than this, so that a stop request or a deadline is noticed in time. */
#define TICK_NS (250 * NS_PER_MS)

/* Nanoseconds. */
static inline int64_t clock_read(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static inline int64_t clock_now(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

/* Sleeps until `due`, but for one tick at most. */
static inline void clock_sleep_towards(int64_t due, int64_t now)
{
    const int64_t until = due - now < TICK_NS ? due : now + TICK_NS;
    const struct timespec target = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &target, NULL);
}

#endif
