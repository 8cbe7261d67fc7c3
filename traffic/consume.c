/* SPDX-License-Identifier: Apache-2.0 */
#include "consume.h"

#include "session.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* A wrong byte does not end the stream: it is read to its end, so that the sender ends in order. */
static void account(struct receiver *receiver, const unsigned char *at, size_t length, bool mapped)
{
    struct session *session = receiver->session;

    if (receiver->verify)
        verify_check(&session->integrity, at, length, session->counters.bytes, mapped);
    session->counters.bytes += length;
    receiver->stalled = false;
}

void consume_mapped(struct receiver *receiver, const unsigned char *at, size_t length)
{
    account(receiver, at, length, true);
    receiver->session->counters.mapped += length;
}

void consume_copied(struct receiver *receiver, const unsigned char *at, size_t length, enum unmapped cause)
{
    account(receiver, at, length, false);
    receiver->session->counters.copied += length;
    receiver->session->counters.unmapped[cause] += length;
}

enum consumed consume_failed(struct session *session, const char *action, int error)
{
    session_failed(session, action, error);
    return CONSUMED_FAILED;
}

enum consumed consume_received(struct session *session, ssize_t got)
{
    if (got > 0)
        return CONSUMED_SOME;
    if (got == 0)
        return CONSUMED_END;
    if (errno == EAGAIN || errno == EINTR)
        return CONSUMED_NOTHING;
    return consume_failed(session, "receiving", errno);
}

enum consumed consume_by_copy(struct receiver *receiver, size_t want, enum unmapped cause)
{
    const size_t most = want < receiver->chunk_bytes ? want : receiver->chunk_bytes;
    ssize_t got;

    receiver->session->counters.calls++;
    /* MSG_DONTWAIT: with SO_RCVLOWAT a blocking recv() would sleep until that many bytes are queued. */
    got = recv(receiver->session->fd, receiver->buffer, most, MSG_DONTWAIT);
    if (got > 0) {
        /* What was read counts, not what was asked for: the next call takes the rest of a short read. */
        consume_copied(receiver, receiver->buffer, (size_t)got, cause);
        receiver->more = (size_t)got == receiver->chunk_bytes;
    }
    return consume_received(receiver->session, got);
}

bool consume_at_mark(struct session *session)
{
    int at_mark = 0;

    session->counters.calls++;
    return ioctl(session->fd, SIOCATMARK, &at_mark) == 0 && at_mark;
}

enum consumed consume_without_hint(struct receiver *receiver, size_t queued)
{
    struct session *session = receiver->session;
    enum consumed seen;
    char byte;

    session->counters.calls++;
    /* A peek, because a byte read here would shift all that follows off its page boundaries. */
    seen = consume_received(session, recv(session->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT));
    if (seen == CONSUMED_END || seen == CONSUMED_FAILED)
        return seen;
    /* Both kinds of mapping stop in front of an urgent byte, for good. Reading steps over it, and reads one
     * page: if pages begin behind the urgent byte, the next page begins there, too. */
    if (consume_at_mark(session))
        return consume_by_copy(receiver, receiver->page, UNMAPPED_URGENT);
    /* The first time, data may have arrived after the call had looked. */
    if (queued >= receiver->page && receiver->stalled)
        return consume_by_copy(receiver, receiver->page, UNMAPPED_REFUSED);
    receiver->stalled = queued >= receiver->page;
    return CONSUMED_NOTHING;
}
