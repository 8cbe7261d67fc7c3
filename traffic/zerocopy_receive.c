/* SPDX-License-Identifier: Apache-2.0 */
#include "zerocopy_receive.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_ZEROCOPY_RECEIVE
#define TCP_ZEROCOPY_RECEIVE 35
#endif

#define LENGTH_WITH_ERR offsetof(struct zerocopy_receive, copybuf_address)
_Static_assert(sizeof(struct zerocopy_receive) == 40 && LENGTH_WITH_ERR == 24, "layout of the kernel's ABI");

int zerocopy_receive(int fd, struct zerocopy_receive *call, void *mapping, size_t map_bytes, void *copy_to,
                     size_t copy_bytes, uint32_t flags)
{
    socklen_t length = sizeof(*call);

    *call = (struct zerocopy_receive){
        .address = (uint64_t)(uintptr_t)mapping,
        .length = (uint32_t)map_bytes,
        .copybuf_address = copy_bytes ? (uint64_t)(uintptr_t)copy_to : 0,
        .copybuf_len = (int32_t)copy_bytes,
        .flags = flags,
    };
    return getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, call, &length);
}

/* Releases before 5.7 insist on a shorter argument: EINVAL. Later ones shorten its length to what they know.
 */
static bool probe_call(struct outcome *outcome, int fd, bool copy_buffer)
{
    struct zerocopy_receive call = {0};
    socklen_t length = sizeof(call);
    const bool done = getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &call, &length) == 0;

    if (!done && errno != EINVAL)
        return outcome_set(outcome, OUTCOME_UNSUPPORTED,
                           "this kernel has no TCP_ZEROCOPY_RECEIVE, which Linux has since %s: %s",
                           copy_buffer ? "4.18, with a copy buffer since 5.11" : "4.18", strerror(errno));
    if (copy_buffer && (!done || length < sizeof(call)))
        return outcome_set(outcome, OUTCOME_UNSUPPORTED,
                           "this kernel has no copy buffer in TCP_ZEROCOPY_RECEIVE, which Linux has since "
                           "5.11");
    if (!done || length < LENGTH_WITH_ERR)
        return outcome_set(outcome, OUTCOME_UNSUPPORTED,
                           "this kernel has no TCP_ZEROCOPY_RECEIVE that reports socket errors, which Linux "
                           "has since 5.7");
    return true;
}

bool zerocopy_receive_probe(struct outcome *outcome, bool copy_buffer)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *mapping;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return outcome_set(outcome, OUTCOME_ERROR, "cannot make a TCP socket: %s", strerror(errno));
    mapping = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED) {
        outcome_set(outcome, OUTCOME_UNSUPPORTED,
                    "this kernel cannot map a TCP socket, as Linux can since 4.18: %s", strerror(errno));
    } else {
        munmap(mapping, page);
        probe_call(outcome, fd, copy_buffer);
    }
    close(fd);
    return outcome->code == OUTCOME_COMPLETE;
}
