/* SPDX-License-Identifier: Apache-2.0 */
/* Why a mapping mode copied bytes, as far as the mapping call's result and the size of the segments tell. The
 * first that applies, in this order:
 *
 * urgent          read to step over an urgent byte, in front of which mapping stops (SIOCATMARK was true)
 * refused         the mapping call failed, or mapped nothing and returned recv_skip_hint 0 with a page
 *                 or more queued
 * less_than_page  fewer bytes than a page were left in the queue, or the kernel went on to fill the copy
 *                 buffer behind a mapping that was full
 * short_segment   the peer's segments do not carry whole pages (tcp_info's rcv_mss is not a multiple of the
 *                 page), or fewer bytes than a page come before the next page that can be mapped: a segment
 *                 that ended early, or a header
 * unaligned       more than a page, but not whole pages, come before it: the read position is inside a page
 * compound_page   whole pages of whole segments that the kernel nevertheless does not map: parts of compound
 *                 pages (a sender that copies, on veth or loopback), of the page cache, or payload that does
 *                 not begin where a page begins (a NIC that does not split headers)
 * unknown         the rest
 */
#ifndef ZCLAB_UNMAPPED_H
#define ZCLAB_UNMAPPED_H

#include <stddef.h>
#include <stdint.h>

enum unmapped {
    UNMAPPED_SHORT_SEGMENT,
    UNMAPPED_UNALIGNED,
    UNMAPPED_COMPOUND_PAGE,
    UNMAPPED_LESS_THAN_PAGE,
    UNMAPPED_URGENT,
    UNMAPPED_REFUSED,
    UNMAPPED_UNKNOWN,
    UNMAPPED_CAUSES
};

extern const char *const unmapped_names[UNMAPPED_CAUSES];

/* The cause of `skip` bytes that have to be copied before the next page that can be mapped, of `queued`
 * bytes in all (a FIN counts as one). `rcv_mss` is 0 when unknown. Not the causes that only the caller
 * knows: urgent, refused, and a full mapping. */
enum unmapped unmapped_cause(size_t page, uint32_t rcv_mss, size_t skip, size_t queued);

/* The kernel's estimate of the peer's segment size. It may change, but is read only now and then: asking
 * before every copy would cost too much. */
struct segment_size {
    uint32_t rcv_mss; /* bytes; 0 unknown */
    uint32_t uses;    /* since it was read */
};
uint32_t segment_size(struct segment_size *size, int fd);

#endif
