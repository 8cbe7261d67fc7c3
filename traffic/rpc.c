/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"

#include "clock.h"
#include "handshake.h"
#include "pool.h"
#include "signals.h"
#include "zerocopy_receive.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The first byte of every message says what it is, so that an unexpected message is found at once. */
#define KIND_REQUEST 'Q'
#define KIND_REPLY 'A'
#define KIND_REPLY_WINDOW_CLOSED 'W' /* a reply, and the server's window has closed */

#define TERMS_MAGIC "zclabRPC" /* 8 bytes */

/* What both ends must agree on: each sends its own after the go and reads the other's. */
struct terms {
    uint8_t magic[8];
    uint32_t request_bytes; /* network byte order, both */
    uint32_t reply_bytes;
};
_Static_assert(sizeof(struct terms) == 16, "the terms have a fixed size");

static bool is_client(const struct rpc *rpc)
{
    return rpc->session->options->end == END_RPC_CALL;
}

/* Opens and closes the window, only between two RPCs, so that it holds whole RPCs with all of their calls. */
static void tick_window(struct rpc *rpc, int64_t now)
{
    struct session *session = rpc->session;
    const enum window_state before = session->window.state;

    if (before == WINDOW_WAITING) /* the first RPC, with cold caches, is never measured */
        window_start(&session->window, session->fd, &session->counters, now);
    else
        window_tick(&session->window, session->fd, &session->counters, now);
    if (session->window.state == before)
        return;
    if (session->window.state == WINDOW_OPEN)
        rpc->open = rpc->counters;
    else if (session->window.state == WINDOW_CLOSED)
        rpc->close = rpc->counters;
}

/* Closes a window that is still open: the session is over. */
static void close_window(struct rpc *rpc)
{
    struct session *session = rpc->session;

    if (session->window.state == WINDOW_OPEN)
        rpc->close = rpc->counters;
    window_close(&session->window, session->fd, &session->counters, false);
}

static bool send_message(struct rpc *rpc, unsigned char kind)
{
    struct session *session = rpc->session;
    size_t sent = 0;

    rpc->out[0] = kind;
    while (sent < rpc->out_bytes) {
        struct iovec part = {.iov_base = rpc->out + sent, .iov_len = rpc->out_bytes - sent};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t got;

        rpc->counters.calls.sendmsg++;
        got = sendmsg(session->fd, &message, MSG_NOSIGNAL);
        if (got > 0) {
            sent += (size_t)got;
            if (sent < rpc->out_bytes)
                session_progress(session, clock_now());
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            return session_failed(session, "sending", got ? errno : EPIPE);
        }
        if (sent < rpc->out_bytes &&
            !session_may_go_on(session, clock_now(), "the peer to take a message"))
            return false;
    }
    return true;
}

/* Is the socket readable? Waits at most one tick. */
static bool ready(struct rpc *rpc)
{
    struct pollfd poller = {.fd = rpc->session->fd, .events = POLLIN};

    if (!rpc->mode->polls)
        return true;
    rpc->counters.calls.poll++;
    return poll(&poller, 1, (int)(TICK_NS / NS_PER_MS)) > 0;
}

/* Receives one message. CONSUMED_END: the peer has ended the stream between two messages. CONSUMED_FAILED:
 * the outcome says why. While nothing comes, the window is kept if `between`: no RPC is under way. */
static enum consumed receive_message(struct rpc *rpc, bool between)
{
    struct session *session = rpc->session;

    rpc->have = 0;
    while (rpc->have < rpc->in_bytes) {
        const size_t before = rpc->have;
        const enum consumed consumed = ready(rpc) ? rpc->mode->consume(rpc) : CONSUMED_NOTHING;

        if (consumed == CONSUMED_FAILED)
            return consumed;
        if (consumed == CONSUMED_END) {
            if (!rpc->have)
                return consumed;
            outcome_set(&session->outcome, OUTCOME_CUT_SHORT,
                        "the stream ended after %zu of a message's %zu bytes", rpc->have, rpc->in_bytes);
            return CONSUMED_FAILED;
        }
        if (rpc->have < rpc->in_bytes) {
            const int64_t now = clock_now();

            if (rpc->have > before)
                session_progress(session, now);
            else if (between && !rpc->have && session->window.state != WINDOW_WAITING)
                tick_window(rpc, now);
            if (!session_may_go_on(session, now, is_client(rpc) ? "a reply" : "a request"))
                return CONSUMED_FAILED;
        }
    }
    return CONSUMED_SOME;
}

static bool unexpected_message(struct rpc *rpc)
{
    return outcome_set(&rpc->session->outcome, OUTCOME_ERROR,
                       "the peer sent something that is not a %s of %zu bytes",
                       is_client(rpc) ? "reply" : "request", rpc->in_bytes);
}

static void serve(struct rpc *rpc)
{
    struct session *session = rpc->session;

    for (;;) {
        const enum consumed consumed = receive_message(rpc, true);
        const bool over = session->window.state == WINDOW_CLOSED;
        int64_t now;

        if (consumed == CONSUMED_END)
            session_check_window(session); /* the peer ended the stream between two RPCs */
        else if (consumed == CONSUMED_SOME && rpc->kind != KIND_REQUEST)
            unexpected_message(rpc);
        if (consumed != CONSUMED_SOME || session->outcome.code != OUTCOME_COMPLETE ||
            !send_message(rpc, over ? KIND_REPLY_WINDOW_CLOSED : KIND_REPLY))
            return;
        now = clock_now();
        rpc->counters.rpcs++;
        session_progress(session, now);
        tick_window(rpc, now);
        if (signals_stop_requested() && !session_may_go_on(session, now, "a request"))
            return;
    }
}

/* One RPC. */
static bool call(struct rpc *rpc)
{
    struct session *session = rpc->session;
    const int64_t start = clock_now();
    enum consumed consumed;
    int64_t end;

    if (!send_message(rpc, KIND_REQUEST))
        return false;
    consumed = receive_message(rpc, false);
    if (consumed == CONSUMED_END)
        return outcome_set(&session->outcome, OUTCOME_CUT_SHORT, "the server closed the connection");
    if (consumed != CONSUMED_SOME)
        return false;
    if (rpc->kind == KIND_REPLY_WINDOW_CLOSED)
        rpc->peer_window_closed = true;
    else if (rpc->kind != KIND_REPLY)
        return unexpected_message(rpc);
    end = clock_now();
    rpc->counters.rpcs++;
    session_progress(session, end);
    if (session->window.state == WINDOW_OPEN)
        latency_record(&rpc->latency, end - start);
    tick_window(rpc, end);
    return true;
}

/* Ends the stream in order, and waits for the server's own end. */
static bool finish(struct rpc *rpc)
{
    struct session *session = rpc->session;

    if (shutdown(session->fd, SHUT_WR) < 0)
        return session_failed(session, "ending the stream", errno);
    session_progress(session, clock_now());
    while (!signals_stop_repeated()) {
        const ssize_t got = recv(session->fd, rpc->in, rpc->in_bytes, 0); /* blocks for a tick at most */

        if (got == 0)
            return true;
        if (got > 0 && session->outcome.code == OUTCOME_STOPPED)
            continue; /* the reply that was not waited for */
        if (got > 0)
            return outcome_set(&session->outcome, OUTCOME_ERROR, "the server sent more than its replies");
        if (errno != EAGAIN && errno != EINTR)
            return session_failed(session, "ending the session", errno);
        if (clock_now() - session->progress_ns >= session->options->idle_timeout_ns)
            return outcome_set(&session->outcome, OUTCOME_TIMEOUT,
                               "the server did not end the session within %.3f s (--idle-timeout)",
                               (double)session->options->idle_timeout_ns / 1e9);
    }
    return false;
}

/* One RPC after another, until both windows have closed or the margin for the server's is over. */
static void call_all(struct rpc *rpc)
{
    struct session *session = rpc->session;
    const struct window *window = &session->window;

    while (call(rpc)) {
        const int64_t now = session->progress_ns;

        if (signals_stop_requested() && !session_may_go_on(session, now, "the next RPC"))
            break;
        if (window->state == WINDOW_CLOSED &&
            (rpc->peer_window_closed || now - window->close.at_ns >= session->options->margin_ns))
            break;
    }
    /* A stopped session is ended in order too, so that the server can tell it from a lost peer. */
    if (session->outcome.code == OUTCOME_COMPLETE || session->outcome.code == OUTCOME_STOPPED)
        finish(rpc);
}

/* Calls block for one tick at most, so that stops and deadlines are seen. Nagle's algorithm is off: it would
 * hold back the last segment of a message. */
static bool prepare_socket(struct rpc *rpc)
{
    struct session *session = rpc->session;
    const int on = 1;

    if (!session_block(session))
        return false;
    if (setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        return outcome_set(&session->outcome, OUTCOME_ERROR, "TCP_NODELAY: %s", strerror(errno));
    if (!rpc->mode->maps)
        return true;
    rpc->mapping = mmap(NULL, rpc->mapping_bytes, PROT_READ, MAP_SHARED, session->fd, 0);
    return session_mapped(session, &rpc->mapping, rpc->mapping_bytes);
}

/* Exchanges the terms; both ends fail if they differ. */
static bool agree(struct rpc *rpc)
{
    struct session *session = rpc->session;
    const struct options *options = session->options;
    struct terms own = {.request_bytes = htonl((uint32_t)options->request_bytes),
                        .reply_bytes = htonl((uint32_t)options->reply_bytes)};
    struct terms other;

    memcpy(own.magic, TERMS_MAGIC, sizeof(own.magic));
    if (send(session->fd, &own, sizeof(own), MSG_NOSIGNAL) != (ssize_t)sizeof(own))
        return session_failed(session, "sending the message sizes", errno);
    for (size_t have = 0; have < sizeof(other);) {
        const ssize_t got = recv(session->fd, (char *)&other + have, sizeof(other) - have, 0);

        if (got == 0)
            return outcome_set(&session->outcome, OUTCOME_CUT_SHORT,
                               "the other end closed the connection before it sent its message sizes");
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return session_failed(session, "waiting for the other end's message sizes", errno);
        if (got > 0)
            have += (size_t)got;
        else if (!session_may_go_on(session, clock_now(), "the other end's message sizes"))
            return false;
    }
    if (memcmp(other.magic, own.magic, sizeof(own.magic)))
        return outcome_set(&session->outcome, OUTCOME_ERROR, "the other end is not zclab-traffic %s",
                           is_client(rpc) ? "rpc-serve" : "rpc-call");
    if (other.request_bytes != own.request_bytes || other.reply_bytes != own.reply_bytes)
        return outcome_set(&session->outcome, OUTCOME_ERROR,
                           "the two ends differ: requests of %zu and replies of %zu bytes here, %u and %u at "
                           "the other end (--request-bytes, --reply-bytes)",
                           options->request_bytes, options->reply_bytes, ntohl(other.request_bytes),
                           ntohl(other.reply_bytes));
    session_progress(session, clock_now());
    return true;
}

static bool allocate(struct rpc *rpc)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    rpc->mapping_bytes = (rpc->in_bytes + page - 1) / page * page;
    rpc->out = pages_allocate(rpc->out_bytes);
    rpc->in = pages_allocate(rpc->in_bytes);
    if (!rpc->out || !rpc->in)
        return outcome_set(&rpc->session->outcome, OUTCOME_ERROR,
                           "no memory for messages of %zu and %zu bytes (--request-bytes, --reply-bytes)",
                           rpc->session->options->request_bytes, rpc->session->options->reply_bytes);
    return true;
}

/* Both ends measure their idle hosts at the same time. */
static bool baseline(struct session *session)
{
    const bool whole = group_baseline(session->group, session->options->baseline_ns);

    session_progress(session, clock_now());
    return whole || session_may_go_on(session, clock_now(), "the baseline");
}

/* The server sends the go when all is prepared. */
static bool meet(struct rpc *rpc)
{
    struct session *session = rpc->session;

    if (is_client(rpc))
        return handshake_connect(session) && baseline(session) && handshake_wait_go(session) &&
               prepare_socket(rpc);
    if (!handshake_accept(session, 1) || !prepare_socket(rpc) || !baseline(session))
        return false;
    return handshake_send_byte(session, BYTE_GO) || session_failed(session, "sending the go", errno);
}

void rpc_run(struct rpc *rpc, struct session *session)
{
    const struct options *options = session->options;

    rpc->session = session;
    rpc->mode = rpc_mode_find(options->mode);
    rpc->out_bytes = is_client(rpc) ? options->request_bytes : options->reply_bytes;
    rpc->in_bytes = is_client(rpc) ? options->reply_bytes : options->request_bytes;
    if ((!rpc->mode->maps || zerocopy_receive_probe(&session->outcome, rpc->mode->copy_buffer)) &&
        session_enter(session) && allocate(rpc) && meet(rpc) && agree(rpc)) {
        if (is_client(rpc))
            call_all(rpc);
        else
            serve(rpc);
        close_window(rpc);
        if (rpc->close.rpcs == rpc->open.rpcs)
            outcome_set(&session->outcome, OUTCOME_CUT_SHORT, "no RPC ended within the measured window");
    }
    session_close(session);
    if (rpc->mapping)
        munmap(rpc->mapping, rpc->mapping_bytes);
    if (rpc->out)
        munmap(rpc->out, rpc->out_bytes);
    if (rpc->in)
        munmap(rpc->in, rpc->in_bytes);
}
