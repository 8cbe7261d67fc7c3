/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include "clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void tcp_sample_take(struct tcp_sample *sample, int fd)
{
    sample->length = sizeof(sample->info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &sample->info, &sample->length) < 0)
        sample->length = 0;
}

/* Reads only the head of /proc/stat: the interrupt lines behind it are long and not wanted. */
static void host_cpu_take(struct host_cpu *host)
{
    char text[32768];
    uint64_t user, nice_, system, idle, iowait, irq, softirq;
    size_t used = 0;
    ssize_t got = 0;
    int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);

    host->known = false;
    if (fd < 0)
        return;
    while (used < sizeof(text) - 1 && (got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    close(fd);
    text[used] = '\0';
    if (sscanf(text, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
               &user, &nice_, &system, &idle, &iowait, &irq, &softirq) != 7)
        return;
    host->busy = user + nice_ + system + irq + softirq;
    host->softirq = softirq;
    host->cpus = 0;
    for (const char *line = strchr(text, '\n'); line && !strncmp(line, "\ncpu", 4);
         line = strchr(line + 1, '\n'))
        host->cpus++;
    host->known = host->cpus > 0;
}

/* The cheap readings that matter most (time, CPU of this process) are taken next to the window, inside of the
 * expensive ones: `opening` puts them last, otherwise they come first. */
static void snapshot_take(struct snapshot *snapshot, int fd, const struct counters *counters, bool opening)
{
    snapshot->counters = *counters;
    if (opening) {
        host_cpu_take(&snapshot->host);
        tcp_sample_take(&snapshot->tcp, fd);
        getrusage(RUSAGE_SELF, &snapshot->usage);
        snapshot->at_ns = clock_now();
    } else {
        snapshot->at_ns = clock_now();
        getrusage(RUSAGE_SELF, &snapshot->usage);
        tcp_sample_take(&snapshot->tcp, fd);
        host_cpu_take(&snapshot->host);
    }
}

void window_start(struct window *window, int fd, const struct counters *counters, int64_t now)
{
    window->first_ns = now;
    window->state = WINDOW_WARMUP;
    window_tick(window, fd, counters, now);
}

void window_tick(struct window *window, int fd, const struct counters *counters, int64_t now)
{
    if (window->state == WINDOW_WARMUP && now - window->first_ns >= window->warmup_ns) {
        snapshot_take(&window->open, fd, counters, true);
        window->state = WINDOW_OPEN;
    } else if (window->state == WINDOW_OPEN && window->length_ns &&
               now - window->open.at_ns >= window->length_ns) {
        window_close(window, fd, counters, true);
    }
}

void window_close(struct window *window, int fd, const struct counters *counters, bool complete)
{
    if (window->state != WINDOW_OPEN)
        return;
    snapshot_take(&window->close, fd, counters, false);
    window->state = WINDOW_CLOSED;
    window->complete = complete;
}
