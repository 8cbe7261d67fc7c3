/* SPDX-License-Identifier: Apache-2.0 */
#include "host_cpu.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES (1 << 18)

/* The head of a file as text; NULL when it cannot be read. One caller at a time. */
static const char *read_file(const char *path)
{
    static char text[TEXT_BYTES];
    size_t used = 0;
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    while (used < sizeof(text) - 1 && (got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    close(fd);
    text[used] = '\0';
    return used ? text : NULL;
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');

    return end && end[1] ? end + 1 : NULL;
}

static bool read_ticks(const char *numbers, struct cpu_ticks *ticks)
{
    uint64_t user, nice_, system, idle, iowait, irq, softirq;

    if (sscanf(numbers, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
               &user, &nice_, &system, &idle, &iowait, &irq, &softirq) != 7)
        return false;
    *ticks = (struct cpu_ticks){
        .busy = user + nice_ + system + irq + softirq, .softirq = softirq, .idle = idle + iowait};
    return true;
}

void host_cpu_take_ticks(struct host_cpu *host)
{
    const char *line = read_file("/proc/stat");

    host->cpus = 0;
    host->known = line && !strncmp(line, "cpu ", 4) && read_ticks(line + 4, &host->all);
    if (!host->known)
        return;
    while ((line = next_line(line)) && !strncmp(line, "cpu", 3) && host->cpus < HOST_CPUS_MAX) {
        int digits = 0;

        if (sscanf(line, "cpu%d%n", &host->each[host->cpus].cpu, &digits) == 1 &&
            read_ticks(line + digits, &host->each[host->cpus].ticks))
            host->cpus++;
    }
    host->known = host->cpus > 0;
}

/* "  NET_RX:   1   2": one row per kind, one column per processor, after a line of headings. */
static void take_softirqs(struct host_cpu *host)
{
    const char *line = read_file("/proc/softirqs");

    host->softirqs = 0;
    while (line && (line = next_line(line)) && host->softirqs < SOFTIRQS_MAX) {
        struct softirq *one = &host->softirq[host->softirqs];
        uint64_t count;
        int used = 0;
        const char *at = line;

        if (sscanf(at, " %15[A-Z_]:%n", one->name, &used) != 1 || !used)
            continue;
        one->count = 0;
        for (at += used; sscanf(at, "%*[ ]%" SCNu64 "%n", &count, &used) == 1; at += used)
            one->count += count;
        host->softirqs++;
    }
}

/* One line per processor, hexadecimal columns: processed, dropped, squeezed, ... */
static void take_softnet(struct host_cpu *host)
{
    const char *line = read_file("/proc/net/softnet_stat");

    host->softnet_known = line != NULL;
    host->processed = host->dropped = host->squeezed = 0;
    for (; line; line = next_line(line)) {
        uint64_t processed, dropped, squeezed;

        if (sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, &processed, &dropped, &squeezed) != 3)
            continue;
        host->processed += processed;
        host->dropped += dropped;
        host->squeezed += squeezed;
    }
}

void host_cpu_take(struct host_cpu *host)
{
    take_softirqs(host);
    take_softnet(host);
    host_cpu_take_ticks(host);
}
