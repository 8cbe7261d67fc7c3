/* SPDX-License-Identifier: Apache-2.0 */
#include "consume.h"

#include "session.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* No wrong byte ends the stream: it is read to its end, so that the sender ends in order. */
static void check(struct receiver *receiver, const unsigned char *at, size_t length, bool mapped)
{
    struct session *session = receiver->session;

    verify_check(&session->integrity, at, length, session->counters.bytes, mapped);
}

void consume_mapped(struct receiver *receiver, const unsigned char *at, size_t length)
{
    struct counters *counters = &receiver->session->counters;

    if (receiver->verify)
        check(receiver, at, length, true);
    counters->bytes += length;
    counters->mapped += length;
    receiver->balked = false;
}

void consume_copied(struct receiver *receiver, const unsigned char *at, size_t length, enum unmapped cause)
{
    struct counters *counters = &receiver->session->counters;

    if (receiver->verify)
        check(receiver, at, length, false);
    counters->bytes += length;
    counters->copied += length;
    counters->unmapped[cause] += length;
    receiver->balked = false;
}

enum consumed consume_by_copy(struct receiver *receiver, size_t want, enum unmapped cause)
{
    struct session *session = receiver->session;
    ssize_t got;

    session->counters.calls++;
    /* MSG_DONTWAIT: with a low-water mark a blocking recv() would sleep until that many bytes are there. */
    got = recv(session->fd, receiver->buffer, want < receiver->chunk_bytes ? want : receiver->chunk_bytes,
               MSG_DONTWAIT);
    if (got > 0) {
        /* What was read counts, not what was asked: a short read leaves the rest to the next turn. */
        consume_copied(receiver, receiver->buffer, (size_t)got, cause);
        receiver->more = (size_t)got == receiver->chunk_bytes;
        return CONSUMED_SOME;
    }
    if (got == 0)
        return CONSUMED_END;
    if (errno == EAGAIN || errno == EINTR)
        return CONSUMED_NOTHING;
    session_failed(session, "receiving", errno);
    return CONSUMED_FAILED;
}

/* Finds out whether the stream has ended without taking anything off it: a byte read here would shift all
 * that follows off its page boundaries. */
static enum consumed look_for_end(struct receiver *receiver)
{
    struct session *session = receiver->session;
    char byte;
    ssize_t got;

    session->counters.calls++;
    got = recv(session->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0)
        return CONSUMED_END;
    if (got > 0 || errno == EAGAIN || errno == EINTR)
        return CONSUMED_NOTHING;
    session_failed(session, "receiving", errno);
    return CONSUMED_FAILED;
}

bool consume_at_mark(struct session *session)
{
    int at_mark = 0;

    session->counters.calls++;
    return ioctl(session->fd, SIOCATMARK, &at_mark) == 0 && at_mark;
}

enum consumed consume_without_hint(struct receiver *receiver, size_t queued)
{
    const enum consumed consumed = look_for_end(receiver);

    if (consumed != CONSUMED_NOTHING)
        return consumed;
    /* Both kinds of mapping stop in front of an urgent byte, for good. Reading steps over it, and goes on one
     * page: should pages begin behind it, the next does, too. */
    if (consume_at_mark(receiver->session))
        return consume_by_copy(receiver, receiver->page, UNMAPPED_URGENT);
    /* Once, it may have come in between the call and its answer. */
    if (queued >= receiver->page && receiver->balked)
        return consume_by_copy(receiver, receiver->page, UNMAPPED_REFUSED);
    receiver->balked = queued >= receiver->page;
    return CONSUMED_NOTHING;
}
