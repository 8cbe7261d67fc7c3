/* SPDX-License-Identifier: Apache-2.0 */
#include "group.h"

#include "clock.h"
#include "signals.h"

#include <stdio.h>
#include <string.h>

void group_init(struct group *group, int streams)
{
    memset(group, 0, sizeof(*group));
    group->streams = group->members = streams;
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->met, NULL);
}

static void close_cpus(struct group *group)
{
    while (group->perf_cpus)
        perf_close(&group->perf[--group->perf_cpus]);
}

void group_watch_host(struct group *group)
{
    static struct host_cpu host;

    host_cpu_take_ticks(&host);
    for (; group->perf_cpus < host.cpus; group->perf_cpus++)
        if (!perf_open_cpu(&group->perf[group->perf_cpus], host.each[group->perf_cpus].cpu, group->perf_why,
                           sizeof(group->perf_why))) {
            close_cpus(group);
            return;
        }
}

void group_free(struct group *group)
{
    close_cpus(group);
    pthread_cond_destroy(&group->met);
    pthread_mutex_destroy(&group->lock);
}

void group_window_opens(struct group *group)
{
    pthread_mutex_lock(&group->lock);
    if (group->opened++ == 0) {
        host_cpu_take(&group->open.cpu);
        zerocopy_stat_take(&group->open.zerocopy);
        group->open.perf = (struct perf_sample){.known = group->perf_cpus > 0};
        for (int i = 0; i < group->perf_cpus; i++)
            perf_start(&group->perf[i]);
    }
    pthread_mutex_unlock(&group->lock);
}

void group_window_closed(struct group *group)
{
    pthread_mutex_lock(&group->lock);
    if (++group->closed == group->streams) {
        group->close.perf = (struct perf_sample){.known = group->perf_cpus > 0};
        for (int i = 0; i < group->perf_cpus; i++)
            perf_read(&group->perf[i], &group->close.perf);
        zerocopy_stat_take(&group->close.zerocopy);
        host_cpu_take(&group->close.cpu);
    }
    pthread_mutex_unlock(&group->lock);
}

bool group_baseline(struct group *group, int64_t ns)
{
    const int64_t start = clock_now(), end = start + ns;

    if (!ns)
        return true;
    host_cpu_take_ticks(&group->baseline_from);
    for (int64_t now = start; now < end; now = clock_now()) {
        if (signals_stop_requested())
            return false;
        clock_sleep_towards(end, now);
    }
    host_cpu_take_ticks(&group->baseline_to);
    group->baseline_ns = clock_now() - start;
    return true;
}

void group_barrier(struct group *group)
{
    pthread_mutex_lock(&group->lock);
    const int meeting = group->meetings;

    if (++group->here == group->members) {
        group->here = 0;
        group->meetings++;
        pthread_cond_broadcast(&group->met);
    }
    while (group->meetings == meeting)
        pthread_cond_wait(&group->met, &group->lock);
    pthread_mutex_unlock(&group->lock);
}

void group_lacks_perf(struct group *group, const char *why)
{
    pthread_mutex_lock(&group->lock);
    if (!group->perf_why[0])
        snprintf(group->perf_why, sizeof(group->perf_why), "%s", why);
    pthread_mutex_unlock(&group->lock);
}
