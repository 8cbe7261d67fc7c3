# SPDX-License-Identifier: Apache-2.0
"""What the traffic tool reads of its host, where the host is made up: its files, its counters, its memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.traffic_lab import TRAFFIC

HEAD = r"""
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); return 1; } } while (0)
"""

HOST_CPU = r"""
#include "host_cpu.h"
#include <fcntl.h>

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

static const char *directory;

int __wrap_open(const char *path, int flags, ...)
{
    char other[4096];

    snprintf(other, sizeof(other), "%s/%s", directory, strrchr(path, '/') + 1);
    return __real_open(other, flags);
}

static struct host_cpu host;

int main(int argc, char **argv)
{
    (void)argc;
    directory = argv[1];
    host_cpu_take(&host);
    CHECK(host.known && host.cpus == 2);
    CHECK(host.all.busy == 10 + 20 + 30 + 60 + 70 && host.all.softirq == 70 && host.all.idle == 40 + 50);
    CHECK(host.each[0].cpu == 0 && host.each[0].ticks.busy == 1 + 2 + 3 + 6 + 7);
    CHECK(host.each[1].cpu == 3 && host.each[1].ticks.softirq == 17 && host.each[1].ticks.idle == 14 + 15);
    CHECK(host.softirqs == 3);
    CHECK(!strcmp(host.softirq[0].name, "HI") && host.softirq[0].count == 3);
    CHECK(!strcmp(host.softirq[1].name, "NET_TX") && host.softirq[1].count == 0);
    CHECK(!strcmp(host.softirq[2].name, "NET_RX") && host.softirq[2].count == 5000000300);
    CHECK(host.softnet_known && host.processed == 0x10 + 0x1f && host.dropped == 0xa && host.squeezed == 3);

    directory = "/nowhere";
    host_cpu_take(&host);
    CHECK(!host.known && host.cpus == 0 && host.softirqs == 0 && !host.softnet_known);
    return 0;
}
"""

HOST_FILES = {
    "stat": """\
cpu  10 20 30 40 50 60 70 80 90 0
cpu0 1 2 3 4 5 6 7 8 9 0
cpu3 11 12 13 14 15 16 17 18 19 0
intr 999 1 2 3
ctxt 5
""",
    "softirqs": """\
                    CPU0       CPU3
          HI:          1          2
      NET_TX:          0          0
      NET_RX: 5000000000        300
""",
    "softnet_stat": """\
00000010 0000000a 00000001 00000000
0000001f 00000000 00000002 00000000
""",
}

PERF = r"""
#include "perf.h"
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

long __wrap_syscall(long number, ...);
ssize_t __wrap_read(int fd, void *to, size_t room);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_close(int fd);

static int opened, closed, enabled, refuse_from = 1000;
static struct { uint64_t value, enabled, running; } counters[PERF_EVENTS];

long __wrap_syscall(long number, ...)
{
    struct perf_event_attr *attributes;
    va_list args;

    va_start(args, number);
    attributes = va_arg(args, struct perf_event_attr *);
    va_end(args);
    if (number != SYS_perf_event_open || !attributes->disabled || attributes->exclude_kernel ||
        attributes->exclude_user || attributes->inherit || opened >= refuse_from) {
        errno = EACCES;
        return -1;
    }
    return 100 + opened++;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    enabled += fd >= 100 && request == PERF_EVENT_IOC_ENABLE;
    return 0;
}

ssize_t __wrap_read(int fd, void *to, size_t room)
{
    memcpy(to, &counters[fd - 100], sizeof(counters[0]));
    return room == sizeof(counters[0]) ? (ssize_t)room : -1;
}

int __wrap_close(int fd)
{
    closed += fd >= 100;
    return 0;
}

int main(void)
{
    struct perf perf;
    struct perf_sample sample = {.known = true, .value = {1, 2}};
    char why[160] = "";

    CHECK(perf_open_thread(&perf, why, sizeof(why)) && opened == PERF_EVENTS && !enabled && !why[0]);
    perf_start(&perf);
    CHECK(enabled == PERF_EVENTS);
    counters[PERF_CYCLES].value = 1000; /* had a counter all the time */
    counters[PERF_CYCLES].enabled = counters[PERF_CYCLES].running = 50;
    counters[PERF_INSTRUCTIONS].value = 3000; /* had one for a quarter of it */
    counters[PERF_INSTRUCTIONS].enabled = 80;
    counters[PERF_INSTRUCTIONS].running = 20;
    perf_read(&perf, &sample);
    CHECK(sample.known && sample.value[PERF_CYCLES] == 1001 && sample.value[PERF_INSTRUCTIONS] == 12002);
    counters[PERF_INSTRUCTIONS].value = counters[PERF_INSTRUCTIONS].running = 0; /* never */
    perf_read(&perf, &sample);
    CHECK(!sample.known);
    perf_close(&perf);
    CHECK(closed == PERF_EVENTS && perf.fd[0] == -1);

    refuse_from = opened + 1; /* one event is there, the other is not: nothing stays open */
    CHECK(!perf_open_cpu(&perf, 0, why, sizeof(why)) && closed == opened);
    CHECK(strstr(why, "instructions") && strstr(why, "kernel.perf_event_paranoid"));
    return 0;
}
"""

HUGEPAGE = r"""
#include "hugepage.h"
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_madvise(void *at, size_t length, int advice);
int __real_munmap(void *at, size_t length);
int __wrap_munmap(void *at, size_t length);

static int set_aside, deny, asked, populated, given_back;
static void *last;

void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_HUGETLB) { /* ordinary memory plays the pages set aside, since most hosts have none */
        asked++;
        if (!set_aside) {
            errno = ENOMEM;
            return MAP_FAILED;
        }
        return last = __real_mmap(at, length, protection, flags & 0xff, fd, offset);
    }
    return __real_mmap(at, length, protection, flags, fd, offset);
}

int __wrap_madvise(void *at, size_t length, int advice)
{
    (void)length;
    if (at == last && advice == 23) {
        populated++;
        return deny ? -1 : 0;
    }
    errno = EINVAL; /* a kernel without transparent huge pages */
    return -1;
}

int __wrap_munmap(void *at, size_t length)
{
    if (last && at == last) {
        given_back++;
        last = NULL; /* the address may come back as another mapping's */
    }
    return __real_munmap(at, length);
}

int main(void)
{
    size_t huge = 1;
    unsigned char *memory;

    for (size_t bytes = 1; bytes < 3 * HUGEPAGE_BYTES; bytes += HUGEPAGE_BYTES - 1) { /* none */
        memory = hugepage_allocate(bytes, &huge);
        CHECK(memory && (uintptr_t)memory % HUGEPAGE_BYTES == 0 && huge == 0);
        memset(memory, 1, bytes);
        hugepage_free(memory, bytes);
    }
    CHECK(asked == 4 && !populated);
    set_aside = 1;
    memory = hugepage_allocate(HUGEPAGE_BYTES + 1, &huge);
    CHECK(memory == last && populated == 1 && huge == 2 * HUGEPAGE_BYTES);
    hugepage_free(memory, HUGEPAGE_BYTES + 1);
    CHECK(given_back == 1);
    deny = 1; /* reserved, but not to be had */
    memory = hugepage_allocate(HUGEPAGE_BYTES, &huge);
    CHECK(populated == 2 && given_back == 2);
    CHECK(memory && (uintptr_t)memory % HUGEPAGE_BYTES == 0 && huge == 0);
    hugepage_free(memory, HUGEPAGE_BYTES);
    CHECK(given_back == 2);
    CHECK(hugepage_map(-1, HUGEPAGE_BYTES) == MAP_FAILED && errno == EBADF);
    return 0;
}
"""


def check(directory: Path, program: str, source: str, wrapped: tuple[str, ...], *arguments: str) -> None:
    """Build a test of one source file of the tool, some of whose calls are wrapped, and run it."""
    code, binary = directory / "test.c", directory / "test"
    code.write_text(HEAD + program)
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=address,undefined"]
    wrap = [f"-Wl,--wrap={name}" for name in wrapped]
    files = ["-I", str(TRAFFIC), str(code), str(TRAFFIC / source), "-o", str(binary)]
    built = subprocess.run(["cc", *flags, *wrap, *files], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(binary), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_host_files(tmp_path: Path) -> None:
    for name, content in HOST_FILES.items():
        (tmp_path / name).write_text(content)
    check(tmp_path, HOST_CPU, "host_cpu.c", ("open",), str(tmp_path))


def test_shared_and_missing_counters(tmp_path: Path) -> None:
    check(tmp_path, PERF, "perf.c", ("syscall", "read", "ioctl", "close"))


def test_huge_pages_set_aside(tmp_path: Path) -> None:
    check(tmp_path, HUGEPAGE, "hugepage.c", ("mmap", "madvise", "munmap"))
