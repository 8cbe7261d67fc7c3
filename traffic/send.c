/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"

#include "clock.h"
#include "handshake.h"
#include "pool.h"
#include "send_modes.h"
#include "signals.h"
#include "streams.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#define STOPPED_GRACE_NS (2 * NS_PER_S) /* for what is in flight when a stop was requested */
#define CLOSED_EARLY "the receiver closed the connection in mid-stream"

/* Makes the connected socket ready for bulk payload.
 *
 * The cork is what keeps payload in whole pages: without it TCP cuts a segment where the receiver's window
 * ends, and that is rarely at a multiple of the segment size. Such a short segment, and the rest of the one
 * it was cut from, cannot be mapped; the faster the sender (zerocopy), the more often the window is the
 * limit. Corked, only full segments leave, except at the end of the stream; what a message leaves over goes
 * out with the next one.
 *
 * Sends block, at most one tick at a time, so that stops and deadlines are seen. */
static bool prepare_socket(struct sender *sender)
{
    struct session *session = sender->session;
    const int on = 1;

    if (!session_block(session))
        return false;
    if (session->options->cork && setsockopt(session->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)) < 0)
        return outcome_set(&session->outcome, OUTCOME_ERROR, "TCP_CORK: %s", strerror(errno));
    return !sender->mode->prepare || sender->mode->prepare(sender);
}

/* Reads the receiver's byte, if it has arrived, that says that its window has closed. An end of the
 * receiver's stream before our own is a failure. */
static bool read_window_closed(struct sender *sender, bool end_expected, bool *ended)
{
    struct session *session = sender->session;
    char byte = 0;
    ssize_t got;

    session->counters.calls++;
    got = recv(session->fd, &byte, 1, MSG_DONTWAIT);
    if (got == 1 && byte == BYTE_WINDOW_CLOSED)
        sender->peer_window_closed = true;
    else if (got == 0 && !end_expected)
        return outcome_set(&session->outcome, OUTCOME_CUT_SHORT, CLOSED_EARLY);
    else if (got == 0)
        *ended = true;
    else if (got < 0 && errno != EAGAIN && errno != EINTR)
        return session_failed(session, "receiving", errno);
    return true;
}

/* Sends `length` bytes at `from`: of the current buffer, with the mode's flags, or of the header, by
 * copying. */
static bool send_bytes(struct sender *sender, const unsigned char *from, size_t length, bool header)
{
    struct session *session = sender->session;
    /* With headers both parts end a record: TCP then puts no byte of one into a segment of the other. */
    const int flags = MSG_NOSIGNAL | (header ? 0 : sender->mode->flags) | (sender->header ? MSG_EOR : 0);

    while (length) {
        ssize_t sent;
        int64_t now;

        session->counters.calls++;
        sent = send(session->fd, from, length, flags);
        now = clock_now();
        if (sent > 0) {
            from += sent;
            length -= (size_t)sent;
            session->counters.bytes += (uint64_t)sent;
            session_progress(session, now);
            if (!header && sender->mode->sent)
                sender->mode->sent(sender);
        } else if (sent < 0 && errno == ENOBUFS && sender->mode->no_buffers) {
            if (!sender->mode->no_buffers(sender))
                return false;
        } else if (sent == 0 || errno == EPIPE) {
            return outcome_set(&session->outcome, OUTCOME_CUT_SHORT, CLOSED_EARLY);
        } else if (errno != EAGAIN && errno != EINTR) {
            return session_failed(session, "sending", errno);
        }
        if (length) { /* interrupted, or a tick has passed */
            window_tick(&session->window, session->fd, &session->counters, now);
            if (!session_may_go_on(session, now, "the peer to take payload"))
                return false;
        }
    }
    return true;
}

/* Writes the bytes that belong at the stream offset that is sent next. */
static void write_position(struct session *session, unsigned char *to, size_t length)
{
    const struct options *options = session->options;
    const uint64_t offset = session->counters.bytes;

    verify_fill(to, length, (uint32_t)session->stream, offset);
    if (session->stream == 0 && options->inject_wrong_byte >= offset &&
        options->inject_wrong_byte - offset < length)
        to[options->inject_wrong_byte - offset] ^= 0xff;
}

/* One message with its header, if it has one, and no more than `left` bytes of both. */
static bool send_message(struct sender *sender, uint64_t left)
{
    struct session *session = sender->session;
    const struct options *options = session->options;
    const size_t header = options->header_bytes < left ? options->header_bytes : (size_t)left;
    const size_t length =
        options->message_bytes < left - header ? options->message_bytes : (size_t)(left - header);

    if (header) {
        if (options->verify)
            write_position(session, sender->header, header);
        if (!send_bytes(sender, sender->header, header, true))
            return false;
    }
    if (options->verify) {
        if (pool_busy(&sender->pool)) { /* the kernel may still read what is overwritten now */
            if (!session->reused_early++)
                session->reused_at = session->counters.bytes;
        }
        write_position(session, pool_buffer(&sender->pool), length);
    }
    return send_bytes(sender, pool_buffer(&sender->pool), length, false);
}

/* Is all sent? With --bytes: all of them. With --seconds: both windows have closed, or the margin for the
 * receiver's is over, which starts later and may run by a different clock. */
static bool finished(struct sender *sender, int64_t now, bool *failed)
{
    const struct session *session = sender->session;
    const struct options *options = session->options;
    bool ended = false;

    if (session->bytes)
        return session->counters.bytes >= session->bytes;
    if (session->window.state != WINDOW_CLOSED)
        return false;
    if (!sender->peer_window_closed && !read_window_closed(sender, false, &ended)) {
        *failed = true;
        return true;
    }
    return sender->peer_window_closed || now - session->window.close.at_ns >= options->margin_ns;
}

/* The payload, message by message. */
static bool send_stream(struct sender *sender)
{
    struct session *session = sender->session;
    const struct options *options = session->options;
    const size_t record = options->header_bytes + options->message_bytes;
    /* The pace is the sum over all streams. */
    const double interval_ns =
        options->pace_gbit > 0 ? (double)record * 8 * session->group->streams / options->pace_gbit : 0;
    const int64_t start = clock_now();
    bool reuse = false;
    bool failed = false;

    window_start(&session->window, session->fd, &session->counters, start);
    for (uint64_t message = 0;;) {
        /* Due times count from the start: a late message does not make the later ones late. */
        const int64_t due = start + (int64_t)((double)message * interval_ns);
        const int64_t now = clock_now();

        if (session_disturbed(session))
            return session_may_go_on(session, now, "the next message");
        window_tick(&session->window, session->fd, &session->counters, now);
        if (finished(sender, now, &failed))
            return !failed;
        if (now < due) {
            session->counters.calls++;
            clock_sleep_towards(due, now);
            session_progress(session, clock_now()); /* pacing is not idleness */
            continue;
        }
        if ((!reuse && sender->mode->acquire && !sender->mode->acquire(sender)) ||
            !send_message(sender, session->bytes ? session->bytes - session->counters.bytes : UINT64_MAX))
            return false;
        /* The injected fault: the same buffer once more, without waiting for its completion. */
        reuse = options->inject_early_reuse && session->stream == 0 && message == 0;
        if (!reuse)
            pool_advance(&sender->pool);
        message++;
    }
}

/* Ends the stream in order: half-close, completions, then the receiver's FIN, which says that it has read
 * all. */
static bool finish(struct sender *sender)
{
    struct session *session = sender->session;
    const int64_t grace = signals_stop_requested() ? STOPPED_GRACE_NS : session->options->idle_timeout_ns;
    const int64_t deadline = clock_now() + grace;
    bool ended = false;

    if (shutdown(session->fd, SHUT_WR) < 0)
        return session_failed(session, "ending the stream", errno);
    if (sender->mode->settle && !sender->mode->settle(sender, deadline))
        return false;
    while (!signals_stop_repeated()) {
        if (!read_window_closed(sender, true, &ended))
            return false;
        if (ended)
            return true;
        if (clock_now() >= deadline)
            return outcome_set(&session->outcome, OUTCOME_TIMEOUT,
                               "the receiver did not end the session within %.3f s (--idle-timeout)",
                               (double)grace / 1e9);
        session_poll(session, POLLIN);
    }
    return false;
}

static void send_one_stream(struct session *session)
{
    const struct options *options = session->options;
    struct sender sender = {.session = session, .mode = send_mode_find(options->mode)};
    bool complete = false, ready = session_enter(session);

    if (options->header_bytes)
        sender.header = pages_allocate(options->header_bytes);
    if (ready && ((options->header_bytes && !sender.header) ||
                  !pool_init(&sender.pool, options->message_bytes, options->inflight_bytes,
                             !options->verify)))
        ready = outcome_set(&session->outcome, OUTCOME_ERROR,
                            "no memory for send buffers (--inflight-bytes, --message-bytes, --header-bytes)");
    /* The receiver measures its own host meanwhile, and sends the go after that. */
    if (session->stream == 0 && ready && !session->group->broken &&
        !group_baseline(session->group, options->baseline_ns))
        ready = session_may_go_on(session, clock_now(), "the baseline");
    if (!ready)
        session->group->broken = true;
    group_barrier(session->group);
    if (ready && handshake_wait_go(session) && prepare_socket(&sender)) {
        bool streamed = send_stream(&sender);

        /* A stopped session is ended in order too, so that the receiver can tell it from a lost peer. */
        if (streamed || session->outcome.code == OUTCOME_STOPPED)
            complete = finish(&sender) && streamed;
        else if (sender.mode->settle)
            sender.mode->settle(&sender, clock_now()); /* count what has completed before it is lost */
    }
    window_close(&session->window, session->fd, &session->counters, complete);
    session_close(session);
    pool_free(&sender.pool);
    if (sender.header)
        munmap(sender.header, options->header_bytes);
}

/* Early reuse is reported in place of any other outcome, and stream 0's before the others'. */
static void check_reuse(struct session *sessions, int streams)
{
    const struct session *session = sessions;

    while (session < sessions + streams - 1 && !session->reused_early)
        session++;
    if (!session->reused_early)
        return;
    sessions->outcome = (struct outcome){0};
    outcome_set(&sessions->outcome, OUTCOME_ERROR,
                "a send buffer of stream %d was overwritten before its completion came, at offset %" PRIu64,
                session->stream, session->reused_at);
}

/* A fault that could not be injected (into stream 0) must not pass for one that was not detected. */
static void check_injected(struct session *session)
{
    const struct options *options = session->options;

    if (options->inject_wrong_byte != NO_OFFSET && session->counters.bytes <= options->inject_wrong_byte)
        outcome_set(&session->outcome, OUTCOME_ERROR,
                    "--inject-wrong-byte %" PRIu64 ": stream 0 ended before it, after %" PRIu64 " bytes",
                    options->inject_wrong_byte, session->counters.bytes);
    if (options->inject_early_reuse && !session->reused_early)
        outcome_set(&session->outcome, OUTCOME_ERROR,
                    "--inject-early-reuse: stream 0 ended before a buffer could be used again");
}

void send_run(struct session *sessions, int streams)
{
    for (int stream = 0; stream < streams; stream++)
        if (!handshake_connect(&sessions[stream])) {
            for (; stream >= 0; stream--)
                session_close(&sessions[stream]);
            return;
        }
    streams_run(sessions, streams, send_one_stream);
    check_reuse(sessions, streams);
    check_injected(&sessions[0]);
}
