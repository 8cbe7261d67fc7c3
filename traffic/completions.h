/* SPDX-License-Identifier: Apache-2.0 */
/* The account of MSG_ZEROCOPY sends: the kernel numbers them with 32 bits and reports ranges of numbers,
 * in any order, once it no longer needs their pages. */
#ifndef ZCLAB_COMPLETIONS_H
#define ZCLAB_COMPLETIONS_H

#include <stdbool.h>
#include <stdint.h>

#define COMPLETIONS_MAX 65536u /* sends in flight at most; a power of two */

struct completions {
    uint32_t next_id;
    uint32_t outstanding;
    uint64_t sends;      /* calls that sent something with MSG_ZEROCOPY */
    uint64_t completed;  /* of these, reported by the kernel */
    uint64_t copied;     /* of these, copied by the kernel nevertheless */
    uint64_t no_buffers; /* calls that failed with ENOBUFS and were repeated */
    uint32_t *owner;     /* by id modulo COMPLETIONS_MAX: the buffer's index + 1; 0: not in flight */
};

bool completions_init(struct completions *completions);
void completions_free(struct completions *completions);
/* No room to account for another send: wait for a completion first. */
bool completions_full(const struct completions *completions);
/* The kernel has accepted one send from buffer `owner`, which is counted in `pending`. */
void completions_sent(struct completions *completions, uint32_t owner, uint32_t *pending);
/* The kernel reports ids `lo` to `hi`, both included, wrapping after 2^32 - 1. False when any of them is not
 * in flight. */
bool completions_range(struct completions *completions, uint32_t lo, uint32_t hi, bool copied,
                       uint32_t *pending);

enum reaped {
    REAPED_SOME,
    REAPED_NOTHING,
    REAPED_FAILED, /* errno; EPROTO: the kernel reported sends that were not in flight */
};
/* Reads all queued reports, without waiting; adds its system calls to `calls`. */
enum reaped completions_reap(struct completions *completions, int fd, uint32_t *pending, uint64_t *calls);

#endif
