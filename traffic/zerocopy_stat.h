/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's count of what became of bytes to be mapped, for all sockets of the network namespace:
 * /proc/net/tcp_zerocopy, of kernels with that patch. */
#ifndef ZCLAB_ZEROCOPY_STAT_H
#define ZCLAB_ZEROCOPY_STAT_H

#include <stdbool.h>
#include <stdint.h>

enum zerocopy_fate {
    FATE_MAPPED,
    FATE_COPIED,
    FATE_LINEAR,
    FATE_SHORT_SEGMENT,
    FATE_UNALIGNED,
    FATE_COMPOUND_PAGE,
    FATE_PAGE_CACHE,
    FATE_LESS_THAN_PAGE,
    FATE_URGENT,
    FATE_REFUSED,
    FATES
};

extern const char *const fate_names[FATES];

struct zerocopy_stat {
    bool known;
    uint64_t bytes[FATES]; /* of both mapping interfaces together */
};

/* Reads the counters; not known where the kernel has none. */
void zerocopy_stat_take(struct zerocopy_stat *stat);

#endif
