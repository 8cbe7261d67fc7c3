/* SPDX-License-Identifier: Apache-2.0 */
#include "perf.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint64_t configs[PERF_EVENTS] = {
    [PERF_CYCLES] = PERF_COUNT_HW_CPU_CYCLES,
    [PERF_INSTRUCTIONS] = PERF_COUNT_HW_INSTRUCTIONS,
};
static const char *const names[PERF_EVENTS] = {
    [PERF_CYCLES] = "cycles",
    [PERF_INSTRUCTIONS] = "instructions",
};

static void explain(char *why, size_t room, const char *event, int error)
{
    if (error == ENOENT || error == ENODEV || error == EOPNOTSUPP)
        snprintf(why, room, "this host's processor gives it no %s events", event);
    else if (error == EACCES || error == EPERM)
        snprintf(why, room, "counting %s is not allowed: set kernel.perf_event_paranoid to 0 or less", event);
    else if (error == ENOSYS)
        snprintf(why, room, "this kernel has no perf events");
    else
        snprintf(why, room, "cannot count %s: %s", event, strerror(error));
}

static bool open_all(struct perf *perf, pid_t pid, int cpu, char *why, size_t room)
{
    for (int event = 0; event < PERF_EVENTS; event++)
        perf->fd[event] = -1;
    for (int event = 0; event < PERF_EVENTS; event++) {
        struct perf_event_attr attributes = {
            .type = PERF_TYPE_HARDWARE,
            .size = sizeof(attributes),
            .config = configs[event],
            .disabled = 1,
            .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        };

        perf->fd[event] = (int)syscall(SYS_perf_event_open, &attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (perf->fd[event] < 0) {
            explain(why, room, names[event], errno);
            perf_close(perf);
            return false;
        }
    }
    return true;
}

bool perf_open_thread(struct perf *perf, char *why, size_t room)
{
    return open_all(perf, 0, -1, why, room);
}

bool perf_open_cpu(struct perf *perf, int cpu, char *why, size_t room)
{
    return open_all(perf, -1, cpu, why, room);
}

void perf_start(const struct perf *perf)
{
    for (int event = 0; event < PERF_EVENTS; event++)
        ioctl(perf->fd[event], PERF_EVENT_IOC_ENABLE, 0); /* failed: it will not have run */
}

void perf_read(const struct perf *perf, struct perf_sample *sample)
{
    for (int event = 0; event < PERF_EVENTS; event++) {
        struct {
            uint64_t value, enabled, running;
        } got;

        if (perf->fd[event] < 0 || read(perf->fd[event], &got, sizeof(got)) != sizeof(got) ||
            !got.running) { /* it never got a counter */
            sample->known = false;
            return;
        }
        if (got.running < got.enabled)
            got.value = (uint64_t)((double)got.value * (double)got.enabled / (double)got.running);
        sample->value[event] += got.value;
    }
}

void perf_close(struct perf *perf)
{
    for (int event = 0; event < PERF_EVENTS; event++) {
        if (perf->fd[event] >= 0)
            close(perf->fd[event]);
        perf->fd[event] = -1;
    }
}
