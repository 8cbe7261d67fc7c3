/* SPDX-License-Identifier: Apache-2.0 */
#include "receive_modes.h"

#include "large.h"
#include "map_each.h"
#include "session.h"
#include "take.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef TCP_ZEROCOPY_RECEIVE
#define TCP_ZEROCOPY_RECEIVE 35
#endif

/* The kernel's argument block, declared here because the headers of older systems end before the copy buffer.
 * The kernel shortens the length to what it knows, which is how its age is told. */
struct zerocopy_receive {
    uint64_t address;        /* of the mapping */
    uint32_t length;         /* in: bytes to map at most; out: bytes mapped */
    uint32_t recv_skip_hint; /* out: bytes to read otherwise before the next that can be mapped */
    uint32_t inq;            /* out: bytes still queued */
    int32_t err;             /* out: pending error of the socket, taken off it by this call */
    uint64_t copybuf_address;
    int32_t copybuf_len; /* in: bytes of room; out: bytes copied, or a negative errno */
    uint32_t flags;      /* see map_call() */
};
#define LENGTH_WITH_ERR offsetof(struct zerocopy_receive, copybuf_address)
_Static_assert(sizeof(struct zerocopy_receive) == 40 && LENGTH_WITH_ERR == 24, "layout of the kernel's ABI");

static enum took copy_take(struct receiver *receiver)
{
    return take_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);
}

/* One mapping call. No TLB-clean hint among the flags: it tells the kernel that the caller has already
 * emptied the area, and this standing area still holds the pages of the call before, which the kernel must
 * take out first. */
static int map_call(struct receiver *receiver, struct zerocopy_receive *call)
{
    socklen_t length = sizeof(*call);

    *call = (struct zerocopy_receive){
        .address = (uint64_t)(uintptr_t)receiver->mapping,
        .length = (uint32_t)receiver->chunk_bytes,
        .copybuf_address = receiver->copy_buffer ? (uint64_t)(uintptr_t)receiver->straggler : 0,
        .copybuf_len = (int32_t)receiver->copy_buffer,
    };
    receiver->session->counters.calls++;
    return getsockopt(receiver->session->fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, call, &length);
}

/* The kernel would not put the pages into the mapping, though nothing is wrong with the connection. */
static bool is_refusal(int error)
{
    return error == EINVAL || error == ENOMEM || error == EBUSY;
}

static enum took map_take(struct receiver *receiver)
{
    struct session *session = receiver->session;
    struct zerocopy_receive call;
    size_t copied, skip;
    enum unmapped cause;

    if (map_call(receiver, &call) < 0) {
        if (errno == EIO) /* nothing queued and the peer has finished */
            return take_nothing_named(receiver, 0);
        if (errno == EINTR || errno == EAGAIN)
            return TOOK_NOTHING;
        if (is_refusal(errno))
            return take_by_copy(receiver, receiver->page, UNMAPPED_REFUSED);
        session_failed(session, "TCP_ZEROCOPY_RECEIVE", errno);
        return TOOK_FAILED;
    }
    if (call.copybuf_len < 0) {
        session_failed(session, "TCP_ZEROCOPY_RECEIVE, copy buffer", -call.copybuf_len);
        return TOOK_FAILED;
    }
    copied = (size_t)call.copybuf_len; /* stood in front of what is still to be skipped */
    skip = call.recv_skip_hint;
    if (copied && call.length == receiver->chunk_bytes && copied == receiver->copy_buffer) {
        /* Behind a full area the kernel copies without looking whether it could map. The next call would
         * find itself inside a page and map nothing up to the end of the segments. So only a page is lost. */
        skip = receiver->page - copied;
        cause = UNMAPPED_LESS_THAN_PAGE;
    } else if (copied + skip) {
        cause = unmapped_cause(receiver->page, segment_size(&receiver->segments, session->fd), copied + skip,
                               copied + call.inq);
    } else {
        cause = UNMAPPED_UNKNOWN; /* of nothing */
    }
    if (call.length)
        take_mapped(receiver, receiver->mapping, call.length);
    if (copied)
        take_copied(receiver, receiver->straggler, copied, cause);
    if (call.err) { /* it has been taken off the socket: nobody else will report it */
        session_failed(session, "receiving", call.err < 0 ? -call.err : call.err);
        return TOOK_FAILED;
    }
    if (skip) {
        enum took took = take_by_copy(receiver, skip, cause);

        return took == TOOK_NOTHING && call.length + copied ? TOOK_SOME : took;
    }
    return call.length + copied ? TOOK_SOME : take_nothing_named(receiver, call.inq);
}

static bool copy_prepare(struct receiver *receiver)
{
    (void)receiver;
    return true;
}

static bool map_prepare(struct receiver *receiver)
{
    struct session *session = receiver->session;

    receiver->mapping = large_map(session->fd, receiver->chunk_bytes);
    if (receiver->mapping == MAP_FAILED) {
        receiver->mapping = NULL;
        return ending_set(&session->ending, OUTCOME_ERROR, "can not map %zu bytes of the socket: %s",
                          receiver->chunk_bytes, strerror(errno));
    }
    return true;
}

/* Tries the calls on a socket of its own, before anybody connects. */
static bool probe(struct ending *ending, socklen_t wanted, const char *what, const char *since)
{
    struct zerocopy_receive call = {0};
    socklen_t length = sizeof(call);
    void *mapping;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ending_set(ending, OUTCOME_ERROR, "can not make a TCP socket: %s", strerror(errno));
    mapping = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED) {
        ending_set(ending, OUTCOME_UNSUPPORTED,
                   "this kernel can not map a TCP socket, as Linux can since 4.18: %s", strerror(errno));
    } else if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &call, &length) < 0) {
        ending_set(ending, OUTCOME_UNSUPPORTED, 
                   "this kernel has no TCP_ZEROCOPY_RECEIVE, which Linux has since 4.18: %s",
                   strerror(errno));
    } else if (length < wanted) {
        ending_set(ending, OUTCOME_UNSUPPORTED,
                   "this kernel has no %s, which Linux has since %s: it knows %u of the %u bytes of its "
                   "argument",
                   what, since, (unsigned int)length, (unsigned int)wanted);
    }
    if (mapping != MAP_FAILED)
        munmap(mapping, (size_t)sysconf(_SC_PAGESIZE));
    close(fd);
    return ending->outcome == OUTCOME_COMPLETE;
}

static bool map_probe(struct ending *ending)
{
    return probe(ending, LENGTH_WITH_ERR, "TCP_ZEROCOPY_RECEIVE that reports socket errors", "5.7");
}

static bool hybrid_probe(struct ending *ending)
{
    return probe(ending, sizeof(struct zerocopy_receive), "copy buffer in TCP_ZEROCOPY_RECEIVE", "5.11");
}

const struct receive_mode receive_modes[] = {
    {.name = "copy", .help = "recv() into a buffer", .prepare = copy_prepare, .take = copy_take},
    {.name = "map_once",
     .help = "getsockopt(TCP_ZEROCOPY_RECEIVE) into one standing mapping, recv() for the rest",
     .maps = true,
     .probe = map_probe,
     .prepare = map_prepare,
     .take = map_take},
    {.name = "map_once_hybrid",
     .help = "the same, with a copy buffer for what can not be mapped",
     .maps = true,
     .copy_buffer = true,
     .probe = hybrid_probe,
     .prepare = map_prepare,
     .take = map_take},
    {.name = "map_each",
     .help = "mmap() of the socket consumes a chunk, munmap(); no released kernel has that",
     .maps = true,
     .framing = true,
     .probe = map_each_probe,
     .prepare = map_each_prepare,
     .take = map_each_take},
    {.name = NULL},
};

const struct receive_mode *receive_mode_find(const char *name)
{
    for (const struct receive_mode *mode = receive_modes; mode->name; mode++)
        if (!strcmp(mode->name, name))
            return mode;
    return NULL;
}
