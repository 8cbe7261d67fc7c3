/* SPDX-License-Identifier: Apache-2.0 */
#include "team.h"

#include "clock.h"
#include "session.h"
#include "stop.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

void team_init(struct team *team, int streams)
{
    memset(team, 0, sizeof(*team));
    team->streams = team->members = streams;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->met, NULL);
}

void team_watch_host(struct team *team)
{
    static struct host_cpu host;

    host_cpu_take_ticks(&host);
    for (int i = 0; i < host.cpus; i++) {
        if (!perf_open_cpu(&team->perf[i], host.each[i].cpu, team->perf_why, sizeof(team->perf_why))) {
            while (team->perf_cpus)
                perf_close(&team->perf[--team->perf_cpus]);
            return;
        }
        team->perf_cpus++;
    }
}

void team_free(struct team *team)
{
    while (team->perf_cpus)
        perf_close(&team->perf[--team->perf_cpus]);
    pthread_cond_destroy(&team->met);
    pthread_mutex_destroy(&team->lock);
}


void team_opens(struct team *team)
{
    pthread_mutex_lock(&team->lock);
    if (team->opened++ == 0) {
        host_cpu_take(&team->open.cpu);
        zerocopy_stat_take(&team->open.zerocopy);
        team->open.perf = (struct perf_sample){.known = team->perf_cpus > 0};
        for (int i = 0; i < team->perf_cpus; i++)
            perf_start(&team->perf[i]);
    }
    pthread_mutex_unlock(&team->lock);
}

void team_closed(struct team *team)
{
    pthread_mutex_lock(&team->lock);
    if (++team->closed == team->streams) {
        team->close.perf = (struct perf_sample){.known = team->perf_cpus > 0};
        for (int i = 0; i < team->perf_cpus; i++)
            perf_read(&team->perf[i], &team->close.perf);
        zerocopy_stat_take(&team->close.zerocopy);
        host_cpu_take(&team->close.cpu);
    }
    pthread_mutex_unlock(&team->lock);
}

bool team_baseline(struct team *team, int64_t ns)
{
    const int64_t start = clock_now(), end = start + ns;

    if (!ns)
        return true;
    host_cpu_take_ticks(&team->baseline_from);
    for (int64_t now = start; now < end; now = clock_now()) {
        const int64_t until = end - now < TICK_NS ? end : now + TICK_NS;
        const struct timespec target = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};

        if (stop_asked())
            return false;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &target, NULL);
    }
    host_cpu_take_ticks(&team->baseline_to);
    team->baseline_ns = clock_now() - start;
    return true;
}

struct task {
    struct session *session;
    void (*body)(struct session *session);
};

static void *work(void *argument)
{
    const struct task *task = argument;

    task->body(task->session);
    return NULL;
}

void team_run(struct session *sessions, int streams, void (*body)(struct session *session))
{
    static pthread_t threads[STREAMS_MAX];
    static struct task tasks[STREAMS_MAX];
    sigset_t all, before;
    struct team *team = sessions->team;
    int started = 1;

    /* Signals are the main thread's; the others see what they ask for within a tick. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; started < streams; started++) {
        int error;

        tasks[started] = (struct task){.session = &sessions[started], .body = body};
        error = pthread_create(&threads[started], NULL, work, &tasks[started]);
        if (error) {
            ending_set(&sessions[0].ending, OUTCOME_ERROR, "can not start a thread for stream %d: %s",
                       started, strerror(error));
            pthread_mutex_lock(&team->lock); /* the others wait for those that have started only */
            team->members = started;
            team->broken = true;
            pthread_mutex_unlock(&team->lock);
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    body(&sessions[0]);
    for (int i = 1; i < started; i++)
        pthread_join(threads[i], NULL);
    for (int i = started; i < streams; i++)
        session_close(&sessions[i]);
}

void team_meet(struct team *team)
{
    pthread_mutex_lock(&team->lock);
    const int meeting = team->meetings;

    if (++team->here == team->members) {
        team->here = 0;
        team->meetings++;
        pthread_cond_broadcast(&team->met);
    }
    while (team->meetings == meeting)
        pthread_cond_wait(&team->met, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

void team_lacks_perf(struct team *team, const char *why)
{
    pthread_mutex_lock(&team->lock);
    if (!team->perf_why[0])
        snprintf(team->perf_why, sizeof(team->perf_why), "%s", why);
    pthread_mutex_unlock(&team->lock);
}
