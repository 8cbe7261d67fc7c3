/* SPDX-License-Identifier: Apache-2.0 */
#include "receive_modes.h"

#include "hugepage.h"
#include "map_each.h"
#include "session.h"
#include "zerocopy_receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static enum consumed copy_consume(struct receiver *receiver)
{
    unsigned char *const buffer = receiver->buffer;
    enum consumed consumed;

    if (!receiver->retained.limit)
        return consume_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);
    receiver->session->counters.calls++;
    receiver->buffer =
        mmap(NULL, receiver->chunk_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (receiver->buffer == MAP_FAILED) {
        receiver->buffer = buffer;
        return consume_failed(receiver->session, "mmap() of a buffer to keep", errno);
    }
    consumed = consume_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);
    if (consumed == CONSUMED_SOME)
        receiver->session->counters.calls +=
            retained_add(&receiver->retained, receiver->buffer, receiver->chunk_bytes);
    else
        munmap(receiver->buffer, receiver->chunk_bytes);
    receiver->buffer = buffer;
    return consumed;
}

/* Prepares the mapping for the next call: the same one, emptied, or a new one if this one is retained. */
static bool map_next(struct receiver *receiver, size_t mapped)
{
    struct session *session = receiver->session;

    session->counters.calls++;
    if (!receiver->retained.limit) {
        /* The socket is not locked here, so that the kernel can queue more meanwhile. */
        receiver->clean = madvise(receiver->mapping, mapped, MADV_DONTNEED) == 0;
        return true;
    }
    session->counters.calls += retained_add(&receiver->retained, receiver->mapping, receiver->chunk_bytes);
    receiver->mapping = mmap(NULL, receiver->chunk_bytes, PROT_READ, MAP_SHARED, session->fd, 0);
    if (receiver->mapping != MAP_FAILED)
        return true;
    receiver->mapping = NULL;
    return session_failed(session, "mmap() of the socket", errno);
}

static enum consumed map_consume(struct receiver *receiver)
{
    struct session *session = receiver->session;
    struct zerocopy_receive call;
    size_t copied, skip;
    enum unmapped cause;

    session->counters.calls++;
    if (zerocopy_receive(session->fd, &call, receiver->mapping, receiver->chunk_bytes, receiver->copy_area,
                         receiver->copy_buffer, receiver->clean ? ZEROCOPY_RECEIVE_CLEAN : 0) < 0) {
        if (errno == EIO) /* nothing queued and the peer has finished */
            return consume_without_hint(receiver, 0);
        if (errno == EINTR || errno == EAGAIN)
            return CONSUMED_NOTHING;
        /* The kernel did not map the pages, but the connection is in order. */
        if (errno == EINVAL || errno == ENOMEM || errno == EBUSY)
            return consume_by_copy(receiver, receiver->page, UNMAPPED_REFUSED);
        return consume_failed(session, "TCP_ZEROCOPY_RECEIVE", errno);
    }
    if (call.copybuf_len < 0)
        return consume_failed(session, "TCP_ZEROCOPY_RECEIVE, copy buffer", -call.copybuf_len);
    copied = (size_t)call.copybuf_len; /* they come before those that recv_skip_hint counts */
    skip = call.recv_skip_hint;
    if (copied && call.length == receiver->chunk_bytes && copied == receiver->copy_buffer) {
        /* Behind a full mapping the kernel copies without checking whether it could map. The next call would
         * start inside a page and map nothing up to the end of the segments. This way one page is lost. */
        skip = receiver->page - copied;
        cause = UNMAPPED_LESS_THAN_PAGE;
    } else if (copied + skip) {
        cause = unmapped_cause(receiver->page, segment_size(&receiver->segments, session->fd), copied + skip,
                               copied + call.inq);
    } else {
        cause = UNMAPPED_UNKNOWN; /* nothing was copied */
    }
    if (call.length) {
        consume_mapped(receiver, receiver->mapping, call.length);
        if (!map_next(receiver, call.length))
            return CONSUMED_FAILED;
    }
    receiver->more = call.length == receiver->chunk_bytes && call.inq >= receiver->page;
    if (copied)
        consume_copied(receiver, receiver->copy_area, copied, cause);
    if (call.err) /* this call has cleared the socket's error: no later call reports it */
        return consume_failed(session, "receiving", abs(call.err));
    if (skip) {
        const enum consumed consumed = consume_by_copy(receiver, skip, cause);

        return consumed == CONSUMED_NOTHING && call.length + copied ? CONSUMED_SOME : consumed;
    }
    return call.length + copied ? CONSUMED_SOME : consume_without_hint(receiver, call.inq);
}

static bool map_prepare(struct receiver *receiver)
{
    receiver->mapping = hugepage_map(receiver->session->fd, receiver->chunk_bytes);
    receiver->clean = true;
    return session_mapped(receiver->session, &receiver->mapping, receiver->chunk_bytes);
}

const struct receive_mode receive_modes[] = {
    {.name = "copy", .help = "recv() into a buffer", .consume = copy_consume},
    {.name = "map_once",
     .help = "getsockopt(TCP_ZEROCOPY_RECEIVE) into one standing mapping, recv() for the rest",
     .maps = true,
     .probe = zerocopy_receive_probe,
     .prepare = map_prepare,
     .consume = map_consume},
    {.name = "map_once_hybrid",
     .help = "the same, with a copy buffer for what cannot be mapped",
     .maps = true,
     .copy_buffer = true,
     .probe = zerocopy_receive_probe,
     .prepare = map_prepare,
     .consume = map_consume},
    {.name = "map_each",
     .help = "mmap() of the socket consumes a chunk, munmap(); no released kernel has that",
     .maps = true,
     .framing = true,
     .probe = map_each_probe,
     .prepare = map_each_prepare,
     .consume = map_each_consume},
    {.name = NULL},
};

const struct receive_mode *receive_mode_find(const char *name)
{
    for (const struct receive_mode *mode = receive_modes; mode->name; mode++)
        if (!strcmp(mode->name, name))
            return mode;
    return NULL;
}
