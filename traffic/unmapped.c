/* SPDX-License-Identifier: Apache-2.0 */
#include "unmapped.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define USES_PER_READING 64

const char *const unmapped_names[UNMAPPED_CAUSES] = {
    [UNMAPPED_SHORT_SEGMENT] = "short_segment", [UNMAPPED_UNALIGNED] = "unaligned",
    [UNMAPPED_COMPOUND_PAGE] = "compound_page", [UNMAPPED_LESS_THAN_PAGE] = "less_than_page",
    [UNMAPPED_URGENT] = "urgent",               [UNMAPPED_REFUSED] = "refused",
    [UNMAPPED_UNKNOWN] = "unknown",
};

enum unmapped unmapped_cause(size_t page, uint32_t rcv_mss, size_t skip, size_t queued)
{
    if (skip < page && queued <= page)
        return UNMAPPED_LESS_THAN_PAGE;
    if (skip < page || rcv_mss % page)
        return UNMAPPED_SHORT_SEGMENT;
    if (skip % page)
        return UNMAPPED_UNALIGNED;
    return rcv_mss ? UNMAPPED_COMPOUND_PAGE : UNMAPPED_UNKNOWN;
}

uint32_t segment_size(struct segment_size *size, int fd)
{
    if (size->uses++ % USES_PER_READING == 0) {
        struct tcp_info info = {0};
        socklen_t length = sizeof(info);

        size->rcv_mss =
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ? 0 : info.tcpi_rcv_mss;
    }
    return size->rcv_mss;
}
