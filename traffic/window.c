/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include "clock.h"
#include "mark.h"

#include <netinet/in.h>
#include <stdatomic.h>

void tcp_sample_take(struct tcp_sample *sample, int fd)
{
    sample->length = sizeof(sample->info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &sample->info, &sample->length) < 0)
        sample->length = 0;
}

/* The cheap readings that matter most (time, CPU of this thread) are taken next to the window, inside the
 * expensive ones: `opening` puts them last, otherwise they come first. */
static void snapshot_take(struct window *window, struct snapshot *snapshot, int fd,
                          const struct counters *counters, bool opening)
{
    snapshot->counters = *counters;
    snapshot->perf = (struct perf_sample){.known = window->perf != NULL};
    if (opening) {
        group_window_opens(window->group);
        tcp_sample_take(&snapshot->tcp, fd);
        if (window->perf)
            perf_start(window->perf);
        getrusage(RUSAGE_THREAD, &snapshot->usage);
        snapshot->thread_ns = clock_read(CLOCK_THREAD_CPUTIME_ID);
        snapshot->at_ns = clock_now();
        mark_window(window->at_receiver, true);
    } else {
        mark_window(window->at_receiver, false);
        snapshot->at_ns = clock_now();
        snapshot->thread_ns = clock_read(CLOCK_THREAD_CPUTIME_ID);
        getrusage(RUSAGE_THREAD, &snapshot->usage);
        if (window->perf)
            perf_read(window->perf, &snapshot->perf);
        tcp_sample_take(&snapshot->tcp, fd);
        group_window_closed(window->group);
    }
}

void window_start(struct window *window, int fd, const struct counters *counters, int64_t now)
{
    int64_t none = 0;

    if (!atomic_compare_exchange_strong(&window->group->first_ns, &none, now))
        now = window->group->first_ns > now ? now : window->group->first_ns;
    window->first_ns = now;
    window->state = WINDOW_WARMUP;
    window_tick(window, fd, counters, clock_now());
}

void window_tick(struct window *window, int fd, const struct counters *counters, int64_t now)
{
    if (window->state == WINDOW_WAITING) {
        const int64_t first = atomic_load_explicit(&window->group->first_ns, memory_order_relaxed);

        if (first)
            window_start(window, fd, counters, first);
    } else if (window->state == WINDOW_WARMUP && now - window->first_ns >= window->warmup_ns) {
        snapshot_take(window, &window->open, fd, counters, true);
        window->state = WINDOW_OPEN;
        window->turn_ns = window->open.at_ns;
    } else if (window->state == WINDOW_OPEN) {
        if (now - window->turn_ns > window->longest_pause_ns)
            window->longest_pause_ns = now - window->turn_ns;
        window->turn_ns = now;
        if (window->length_ns && now - window->open.at_ns >= window->length_ns)
            window_close(window, fd, counters, true);
    }
}

void window_close(struct window *window, int fd, const struct counters *counters, bool complete)
{
    if (window->state != WINDOW_OPEN)
        return;
    snapshot_take(window, &window->close, fd, counters, false);
    window->state = WINDOW_CLOSED;
    window->complete = complete;
}
