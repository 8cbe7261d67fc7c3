/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of all processors of this host: /proc/stat, /proc/softirqs and
 * /proc/net/softnet_stat. */
#ifndef ZCLAB_HOST_CPU_H
#define ZCLAB_HOST_CPU_H

#include <stdbool.h>
#include <stdint.h>

#define HOST_CPUS_MAX 1024
#define SOFTIRQS_MAX 16
#define SOFTIRQ_NAME 16

/* Clock ticks since boot. `busy` is user, nice, system, irq and softirq; neither idle nor stolen time. */
struct cpu_ticks {
    uint64_t busy;
    uint64_t softirq;
    uint64_t idle;
};

struct softirq {
    char name[SOFTIRQ_NAME];
    uint64_t count; /* all processors together */
};

struct host_cpu {
    bool known;
    struct cpu_ticks all;
    int cpus;
    struct {
        int cpu;
        struct cpu_ticks ticks;
    } each[HOST_CPUS_MAX];
    int softirqs; /* 0: unknown */
    struct softirq softirq[SOFTIRQS_MAX];
    bool softnet_known;
    uint64_t processed; /* packets */
    uint64_t dropped;   /* packets */
    uint64_t squeezed;  /* polls that used up their budget with packets left */
};

/* Reads all of it in less than a millisecond; what cannot be read is not known. */
void host_cpu_take(struct host_cpu *host);
/* Reads /proc/stat only. */
void host_cpu_take_ticks(struct host_cpu *host);

#endif
