/* SPDX-License-Identifier: Apache-2.0 */
#include "placement.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

bool placement_parse(struct placement *placement, const char *text)
{
    placement->count = 0;
    for (;;) {
        char *end;
        long first, last;

        if (*text < '0' || *text > '9')
            return false;
        first = last = strtol(text, &end, 10);
        if (*end == '-') {
            text = end + 1;
            if (*text < '0' || *text > '9')
                return false;
            last = strtol(text, &end, 10);
        }
        if (last < first || last >= CPU_SETSIZE)
            return false;
        for (; first <= last; first++) {
            if (placement->count == PLACES_MAX)
                return false;
            placement->cpu[placement->count++] = (int)first;
        }
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
}

int placement_of(const struct placement *placement, int stream)
{
    return placement->count ? placement->cpu[stream % placement->count] : -1;
}

static bool move_to(int cpu, struct ending *ending)
{
    cpu_set_t set;
    int error;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (error == EINVAL)
        return ending_set(ending, OUTCOME_ERROR,
                          "--cpus: processor %d is not there, or not allowed to this process", cpu);
    if (error)
        return ending_set(ending, OUTCOME_ERROR, "--cpus: can not move to processor %d: %s", cpu,
                          strerror(error));
    return true;
}

bool placement_check(const struct placement *placement, struct ending *ending)
{
    for (int i = 0; i < placement->count; i++)
        if (!move_to(placement->cpu[i], ending))
            return false;
    return true;
}

bool placement_apply(const struct placement *placement, int stream, struct ending *ending)
{
    const int cpu = placement_of(placement, stream);

    return cpu < 0 || move_to(cpu, ending);
}
