/* SPDX-License-Identifier: Apache-2.0 */
#include "receive_modes.h"

#include "large.h"
#include "map_each.h"
#include "session.h"
#include "take.h"
#include "zerocopy_receive.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static enum took copy_take(struct receiver *receiver)
{
    unsigned char *const buffer = receiver->buffer;
    enum took took;

    if (!receiver->keep.limit)
        return take_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);
    receiver->session->counters.calls++;
    receiver->buffer =
        mmap(NULL, receiver->chunk_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (receiver->buffer == MAP_FAILED) {
        receiver->buffer = buffer;
        session_failed(receiver->session, "mmap() of a buffer to keep", errno);
        return TOOK_FAILED;
    }
    took = take_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_UNKNOWN);
    if (took == TOOK_SOME)
        receiver->session->counters.calls += keep_add(&receiver->keep, receiver->buffer, receiver->chunk_bytes);
    else
        munmap(receiver->buffer, receiver->chunk_bytes);
    receiver->buffer = buffer;
    return took;
}

/* The kernel would not put the pages into the mapping, though nothing is wrong with the connection. */
static bool is_refusal(int error)
{
    return error == EINVAL || error == ENOMEM || error == EBUSY;
}

/* Makes the place for what is mapped next: the same, emptied, or another one if this is kept. */
static bool map_next(struct receiver *receiver, size_t mapped)
{
    struct session *session = receiver->session;

    session->counters.calls++;
    if (!receiver->keep.limit) {
        /* Here the socket is not locked, so that meanwhile more can be queued. */
        receiver->clean = madvise(receiver->mapping, mapped, MADV_DONTNEED) == 0;
        return true;
    }
    session->counters.calls += keep_add(&receiver->keep, receiver->mapping, receiver->chunk_bytes);
    receiver->mapping = mmap(NULL, receiver->chunk_bytes, PROT_READ, MAP_SHARED, session->fd, 0);
    if (receiver->mapping != MAP_FAILED)
        return true;
    receiver->mapping = NULL;
    session_failed(session, "mmap() of the socket", errno);
    return false;
}

static enum took map_take(struct receiver *receiver)
{
    struct session *session = receiver->session;
    struct zerocopy_receive call;
    size_t copied, skip;
    enum unmapped cause;

    session->counters.calls++;
    if (zerocopy_receive(session->fd, &call, receiver->mapping, receiver->chunk_bytes, receiver->straggler,
                         receiver->copy_buffer, receiver->clean ? ZEROCOPY_RECEIVE_CLEAN : 0) < 0) {
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
    if (call.length) {
        take_mapped(receiver, receiver->mapping, call.length);
        if (!map_next(receiver, call.length))
            return TOOK_FAILED;
    }
    receiver->more = call.length == receiver->chunk_bytes && call.inq >= receiver->page;
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
    receiver->clean = true;
    if (receiver->mapping == MAP_FAILED) {
        receiver->mapping = NULL;
        return ending_set(&session->ending, OUTCOME_ERROR, "can not map %zu bytes of the socket: %s",
                          receiver->chunk_bytes, strerror(errno));
    }
    return true;
}

static bool map_probe(struct ending *ending)
{
    return zerocopy_receive_probe(ending, false);
}

static bool hybrid_probe(struct ending *ending)
{
    return zerocopy_receive_probe(ending, true);
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
