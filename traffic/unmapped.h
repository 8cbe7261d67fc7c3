/* SPDX-License-Identifier: Apache-2.0 */
/* Why bytes were copied that a mapping mode would rather have mapped: as far as can be told from what the
 * mapping call said and from the size of the segments. The first that fits, in this order:
 *
 * urgent          read to step over an urgent byte, in front of which mapping stops (SIOCATMARK was true)
 * refused         the mapping call itself failed, or mapped nothing, named nothing to skip, and a page or
 *                 more was queued
 * less_than_page  fewer bytes than a page were left: in the queue, or (copy buffer) of the area, when the
 *                 kernel went on to copy behind a mapping that had filled the area
 * short_segment   the peer's segments do not carry whole pages (tcp_info's rcv_mss is no multiple of the
 *                 page), or fewer bytes than a page stood before the next one that can be mapped: a segment
 *                 that ended early, or a header
 * unaligned       more than a page stood there, but not whole pages: reading stands inside a page
 * compound_page   whole pages of whole segments that the kernel does not map all the same: parts of compound
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

/* The cause of `skip` bytes that have to be copied before the next that can be mapped, of `queued` bytes in
 * all (or one more: the end of the stream counts as one). `rcv_mss` is 0 when unknown. Not what only the
 * caller can know: urgent, refused, and the end of the area. */
enum unmapped unmapped_cause(size_t page, uint32_t rcv_mss, size_t skip, size_t queued);

/* The size of the peer's segments as the kernel estimates it, read anew now and then: it may change, and to
 * ask before every copy would cost more than it tells. */
struct segment_size {
    uint32_t rcv_mss; /* bytes; 0 unknown */
    uint32_t uses;    /* since it was read */
};
uint32_t segment_size(struct segment_size *size, int fd);

#endif
