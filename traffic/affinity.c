/* SPDX-License-Identifier: Apache-2.0 */
#include "affinity.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

bool affinity_parse(struct affinity *affinity, const char *text)
{
    affinity->count = 0;
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
            if (affinity->count == AFFINITY_MAX)
                return false;
            affinity->cpu[affinity->count++] = (int)first;
        }
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
}

int affinity_cpu(const struct affinity *affinity, int stream)
{
    return affinity->count ? affinity->cpu[stream % affinity->count] : -1;
}

static bool move_to(int cpu, struct outcome *outcome)
{
    cpu_set_t set;
    int error;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (error == EINVAL)
        return outcome_set(outcome, OUTCOME_ERROR,
                           "--cpus: processor %d is not there, or not allowed to this process", cpu);
    if (error)
        return outcome_set(outcome, OUTCOME_ERROR, "--cpus: cannot move to processor %d: %s", cpu,
                           strerror(error));
    return true;
}

bool affinity_check(const struct affinity *affinity, struct outcome *outcome)
{
    for (int i = 0; i < affinity->count; i++)
        if (!move_to(affinity->cpu[i], outcome))
            return false;
    return true;
}

bool affinity_apply(const struct affinity *affinity, int stream, struct outcome *outcome)
{
    const int cpu = affinity_cpu(affinity, stream);

    return cpu < 0 || move_to(cpu, outcome);
}
