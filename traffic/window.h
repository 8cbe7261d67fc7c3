/* SPDX-License-Identifier: Apache-2.0 */
/* The measured window: what the counters, the CPU and the connection said when it opened and when it closed.
 */
#ifndef ZCLAB_WINDOW_H
#define ZCLAB_WINDOW_H

#include "unmapped.h"

#include <linux/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* What one end did since the start of the stream. */
struct counters {
    uint64_t bytes;
    uint64_t mapped; /* receiver only */
    uint64_t copied; /* receiver only */
    uint64_t unmapped[UNMAPPED_CAUSES]; /* receiver only: what was copied, by cause */
    uint64_t calls;  /* system calls that wait for, move or account for data; bookkeeping is not counted */
};

/* All processors of this host together, in clock ticks since boot. */
struct host_cpu {
    bool known;
    uint64_t busy; /* user, nice, system, irq and softirq; neither idle nor stolen time */
    uint64_t softirq;
    int cpus;
};

/* tcp_info as far as this kernel fills it. */
struct tcp_sample {
    socklen_t length;
    struct tcp_info info;
};

struct snapshot {
    int64_t at_ns;
    struct counters counters;
    struct rusage usage;
    struct host_cpu host;
    struct tcp_sample tcp;
};

enum window_state { WINDOW_WAITING, WINDOW_WARMUP, WINDOW_OPEN, WINDOW_CLOSED };

struct window {
    int64_t warmup_ns;
    int64_t length_ns; /* 0: closed by its user, not by time */
    int64_t first_ns;  /* first payload byte */
    enum window_state state;
    bool complete; /* closed where it should, not by a failure or a stop */
    struct snapshot open;
    struct snapshot close;
};

/* The first payload byte is about to move. */
void window_start(struct window *window, int fd, const struct counters *counters, int64_t now);
/* Opens and closes the window when its time has come. */
void window_tick(struct window *window, int fd, const struct counters *counters, int64_t now);
/* Closes an open window now; no effect on any other. */
void window_close(struct window *window, int fd, const struct counters *counters, bool complete);

void tcp_sample_take(struct tcp_sample *sample, int fd);

#endif
