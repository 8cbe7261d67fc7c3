/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program, all of its clocks jump by an hour when it has run for two seconds; then the file
 * that JUMPED names is made. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define AFTER_SECONDS 2
#define JUMP_SECONDS 3600

static time_t jump(void)
{
    static atomic_long began, jumped;
    struct timespec now;
    long none = 0;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    atomic_compare_exchange_strong(&began, &none, now.tv_sec);
    if (now.tv_sec - began < AFTER_SECONDS)
        return 0;
    none = 0;
    if (atomic_compare_exchange_strong(&jumped, &none, 1))
        close(open(getenv("JUMPED"), O_CREAT | O_WRONLY, 0600));
    return JUMP_SECONDS;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const int failed = (int)syscall(SYS_clock_gettime, clock, now);

    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC))
        now->tv_sec += jump();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    const int failed = (int)syscall(SYS_gettimeofday, now, zone);

    if (!failed)
        now->tv_sec += jump();
    return failed;
}

time_t time(time_t *now)
{
    struct timespec found;

    clock_gettime(CLOCK_REALTIME, &found);
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}
