/* SPDX-License-Identifier: Apache-2.0 */
/* getsockopt(TCP_ZEROCOPY_RECEIVE): its argument, and a probe of what this kernel supports. */
#ifndef ZCLAB_ZEROCOPY_RECEIVE_H
#define ZCLAB_ZEROCOPY_RECEIVE_H

#include "outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kernel's struct tcp_zerocopy_receive; older systems' headers lack the copy buffer. */
struct zerocopy_receive {
    uint64_t address;        /* of the mapping */
    uint32_t length;         /* in: bytes to map at most; out: bytes mapped */
    uint32_t recv_skip_hint; /* out: bytes to read before the next page that can be mapped */
    uint32_t inq;            /* out: bytes still queued */
    int32_t err;             /* out: the socket's pending error, which this call clears */
    uint64_t copybuf_address;
    int32_t copybuf_len; /* in: bytes of room; out: bytes copied, or a negative errno */
    uint32_t flags;      /* ZEROCOPY_RECEIVE_CLEAN or none */
};

/* The mapping is empty: the kernel need not unmap the last call's pages, which it does with the socket
 * locked. Kernels before 5.11 ignore it. */
#define ZEROCOPY_RECEIVE_CLEAN 1u

/* One call: maps at most `map_bytes` bytes at `mapping`, and copies at most `copy_bytes` to `copy_to`.
 * Returns what getsockopt() returns. */
int zerocopy_receive(int fd, struct zerocopy_receive *call, void *mapping, size_t map_bytes, void *copy_to,
                     size_t copy_bytes, uint32_t flags);

/* Does this kernel have the call, with socket errors reported in it, and with a copy buffer if asked for?
 * Tries it on a new socket. If not, sets the outcome, naming the first kernel that has it, and returns
 * false. */
bool zerocopy_receive_probe(struct outcome *outcome, bool copy_buffer);

#endif
