/* SPDX-License-Identifier: Apache-2.0 */
/* The measured window of one stream: what its counters, its thread's CPU and its connection said when it
 * opened and when it closed. All streams of an end count from the first payload byte of any of them. */
#ifndef ZCLAB_WINDOW_H
#define ZCLAB_WINDOW_H

#include "perf.h"
#include "group.h"
#include "unmapped.h"

#include <linux/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Counted since the start of the stream. */
struct counters {
    uint64_t bytes;
    uint64_t mapped; /* receiver only */
    uint64_t copied; /* receiver only */
    uint64_t unmapped[UNMAPPED_CAUSES]; /* receiver only: what was copied, by cause */
    uint64_t calls;  /* system calls that wait for, move or account for data; bookkeeping is not counted */
};

/* tcp_info, of which this kernel has filled `length` bytes. */
struct tcp_sample {
    socklen_t length;
    struct tcp_info info;
};

struct snapshot {
    int64_t at_ns;
    struct counters counters;
    struct rusage usage; /* this thread's */
    int64_t thread_ns;   /* its CPU time to this moment; usage lags by up to a tick while it runs */
    struct perf_sample perf;
    struct tcp_sample tcp;
};

enum window_state { WINDOW_WAITING, WINDOW_WARMUP, WINDOW_OPEN, WINDOW_CLOSED };

struct window {
    struct group *group;
    struct perf *perf; /* of this thread; NULL: not counted */
    bool at_receiver;  /* or at the RPC server; else at the other end */
    int64_t warmup_ns;
    int64_t length_ns; /* 0: closed by its user, not by time */
    int64_t first_ns;  /* first payload byte of any stream */
    enum window_state state;
    bool complete; /* closed at its planned end, not by a failure or a stop */
    struct snapshot open;
    struct snapshot close;
    int64_t turn_ns;          /* when the stream last looked after its window */
    int64_t longest_pause_ns; /* the longest time between two such looks while it was open */
};

/* Called just before the first payload byte. */
void window_start(struct window *window, int fd, const struct counters *counters, int64_t now);
/* Opens or closes the window when it is time. */
void window_tick(struct window *window, int fd, const struct counters *counters, int64_t now);
/* Closes an open window now; no effect on any other. */
void window_close(struct window *window, int fd, const struct counters *counters, bool complete);

void tcp_sample_take(struct tcp_sample *sample, int fd);

#endif
