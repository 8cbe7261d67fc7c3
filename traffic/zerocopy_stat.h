/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's count of what became of bytes to be mapped, for all sockets of the network namespace:
 * /proc/net/tcp_zerocopy, of kernels with that patch. */
#ifndef ZCLAB_ZEROCOPY_STAT_H
#define ZCLAB_ZEROCOPY_STAT_H

#include <stdbool.h>
#include <stdint.h>

#define FATES 10

extern const char *const fate_names[FATES];

struct zerocopy_stat {
    bool known;
    uint64_t bytes[FATES]; /* of both mapping interfaces together */
};

/* Reads the counters; not known where the kernel has none. */
void zerocopy_stat_take(struct zerocopy_stat *stat);

#endif
