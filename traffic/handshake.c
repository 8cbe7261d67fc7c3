/* SPDX-License-Identifier: Apache-2.0 */
#include "handshake.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "zclab-traffic/1\n" /* 16 bytes */
#define MAX_PENDING 32
#define HELLO_TIMEOUT_NS (5 * NS_PER_S)
#define MAX_LOGGED 20

struct hello {
    uint8_t magic[16];
    uint8_t token_bytes;
    uint8_t streams; /* of the session */
    uint8_t reserved[13];
    uint8_t stream; /* this connection's, from 0; the last byte in front of the token */
    uint8_t token[TOKEN_MAX];
};
_Static_assert(sizeof(struct hello) == 64, "the hello has a fixed size");

/* A connection from the right address whose token has not arrived yet. */
struct pending {
    int fd;
    struct address from;
    int64_t deadline_ns;
    size_t got;
    uint8_t bytes[sizeof(struct hello)];
};

struct acceptor {
    struct session *session; /* stream 0's: for what belongs to no stream */
    int streams;
    int open; /* streams that have a connection */
    int listener;
    struct hello expected;
    struct pending pending[MAX_PENDING];
    int count;
};

static void hello_fill(struct hello *hello, const struct options *options, int stream)
{
    memset(hello, 0, sizeof(*hello));
    memcpy(hello->magic, MAGIC, sizeof(hello->magic));
    hello->token_bytes = (uint8_t)options->token_bytes;
    hello->streams = (uint8_t)options->streams;
    hello->stream = (uint8_t)stream;
    memcpy(hello->token, options->token, options->token_bytes);
}

/* Takes the same time wherever the first difference is, so that a token cannot be guessed byte by byte. */
static bool same_bytes(const void *a, const void *b, size_t length)
{
    const volatile uint8_t *left = a, *right = b;
    uint8_t difference = 0;

    for (size_t i = 0; i < length; i++)
        difference |= left[i] ^ right[i];
    return difference == 0;
}

static void refuse(struct session *session, int fd, const struct address *from, const char *reason)
{
    char text[ADDRESS_TEXT];

    close(fd);
    session->refused++;
    if (session->refused <= MAX_LOGGED)
        fprintf(stderr, "refused %s port %u: %s\n", address_text(from, text), address_port(from), reason);
}

static void pending_remove(struct acceptor *acceptor, int index)
{
    acceptor->pending[index] = acceptor->pending[--acceptor->count];
}

static void pending_refuse(struct acceptor *acceptor, int index, const char *reason)
{
    refuse(acceptor->session, acceptor->pending[index].fd, &acceptor->pending[index].from, reason);
    pending_remove(acceptor, index);
}

/* Opens the listening socket and says so on stderr. Buffer sizes are set before the handshake of TCP, which
 * fixes the window scale. */
static bool acceptor_listen(struct acceptor *acceptor)
{
    const struct options *options = acceptor->session->options;
    struct outcome *outcome = &acceptor->session->outcome;
    struct address bound = options->bind;
    socklen_t length = address_length(&bound);
    char text[ADDRESS_TEXT];
    const int on = 1;
    int fd = socket(bound.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    acceptor->listener = fd;
    address_text(&bound, text);
    if (fd < 0)
        return outcome_set(outcome, OUTCOME_ERROR, "cannot make a TCP socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bound.any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (options->rcvbuf)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &options->rcvbuf, sizeof(options->rcvbuf));
    if (bind(fd, &bound.any, length) < 0 || listen(fd, 128) < 0 || getsockname(fd, &bound.any, &length) < 0)
        return outcome_set(outcome, OUTCOME_ERROR, "cannot listen on %s port %u: %s", text,
                           address_port(&bound), strerror(errno));
    fprintf(stderr, "listening %s %u\n", text, address_port(&bound));
    fflush(stderr);
    return true;
}

/* Accepts new connections; those from another address are closed. */
static bool acceptor_accept(struct acceptor *acceptor)
{
    struct session *session = acceptor->session;

    for (int i = 0; i < MAX_PENDING; i++) {
        struct address from = {0};
        socklen_t length = sizeof(from.v6);
        int fd = accept4(acceptor->listener, &from.any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS || errno == EBADF)
                return outcome_set(&session->outcome, OUTCOME_ERROR, "cannot accept a connection: %s",
                                   strerror(errno));
            return true; /* nothing more, or a connection that is gone already */
        }
        if (!address_same_host(&from, &session->options->peer)) {
            refuse(session, fd, &from, "not the expected peer");
            continue;
        }
        if (acceptor->count == MAX_PENDING) { /* close the oldest one */
            int oldest = 0;

            for (int j = 1; j < acceptor->count; j++)
                if (acceptor->pending[j].deadline_ns < acceptor->pending[oldest].deadline_ns)
                    oldest = j;
            pending_refuse(acceptor, oldest, "too many without a hello");
        }
        acceptor->pending[acceptor->count++] =
            (struct pending){.fd = fd, .from = from, .deadline_ns = clock_now() + HELLO_TIMEOUT_NS};
    }
    return true;
}

/* Does the hello have the right token? Which stream it is for is not a secret. */
static bool knows_token(const struct acceptor *acceptor, const uint8_t *bytes)
{
    struct hello hello, expected = acceptor->expected;

    memcpy(&hello, bytes, sizeof(hello));
    expected.stream = hello.stream;
    expected.streams = hello.streams;
    return same_bytes(&hello, &expected, sizeof(hello));
}

/* Gives a connection with the right token to its stream; returns the reason if that is refused. */
static const char *acceptor_admit(struct acceptor *acceptor, const uint8_t *bytes, int fd)
{
    struct hello hello;

    memcpy(&hello, bytes, sizeof(hello));
    if (hello.streams != acceptor->streams || hello.stream >= acceptor->streams) {
        outcome_set(&acceptor->session->outcome, OUTCOME_ERROR,
                    "the sender has %u streams, the receiver %d (--streams)", hello.streams,
                    acceptor->streams);
        return "another number of streams";
    }
    if (acceptor->session[hello.stream].fd >= 0)
        return "this stream has its connection already";
    session_connected(&acceptor->session[hello.stream], fd);
    acceptor->open++;
    return NULL;
}

/* Reads from one pending connection, which is admitted when its hello is complete and right, or removed.
 * Never reads past the hello. */
static void acceptor_read(struct acceptor *acceptor, int index)
{
    struct pending *one = &acceptor->pending[index];
    ssize_t got = recv(one->fd, one->bytes + one->got, sizeof(one->bytes) - one->got, MSG_DONTWAIT);
    const char *reason = NULL;
    int fd = one->fd;

    if (got > 0) {
        one->got += (size_t)got;
        if (one->got < sizeof(one->bytes))
            return;
        if (knows_token(acceptor, one->bytes)) {
            reason = acceptor_admit(acceptor, one->bytes, fd);
            if (!reason) {
                pending_remove(acceptor, index);
                return;
            }
        } else {
            reason = memcmp(one->bytes, MAGIC, sizeof(acceptor->expected.magic))
                         ? "not a zclab-traffic sender"
                         : "wrong token";
        }
    } else if (got == 0) {
        reason = "closed before its hello";
    } else if (errno == EAGAIN || errno == EINTR) {
        return;
    } else {
        reason = strerror(errno);
    }
    pending_refuse(acceptor, index, reason);
}

/* Waits until every stream has a connection. All pending ones are polled together, each with its own
 * deadline, so that a silent client delays nobody. */
static bool acceptor_wait(struct acceptor *acceptor)
{
    struct session *session = acceptor->session;
    const struct options *options = session->options;
    const int64_t deadline = clock_now() + options->accept_timeout_ns;

    while (acceptor->open < acceptor->streams) {
        struct pollfd pollers[MAX_PENDING + 1] = {{.fd = acceptor->listener, .events = POLLIN}};
        int64_t now;

        for (int i = 0; i < acceptor->count; i++)
            pollers[i + 1] = (struct pollfd){.fd = acceptor->pending[i].fd, .events = POLLIN};
        poll(pollers, (nfds_t)acceptor->count + 1, (int)(TICK_NS / NS_PER_MS));
        now = clock_now();
        if (!session_undisturbed(session, "the peer"))
            return false;
        for (int i = acceptor->count - 1; i >= 0; i--) { /* backwards: removing one moves only the last */
            if (pollers[i + 1].revents)
                acceptor_read(acceptor, i);
            else if (now >= acceptor->pending[i].deadline_ns)
                pending_refuse(acceptor, i, "no hello in time");
        }
        if (session->outcome.code != OUTCOME_COMPLETE || (pollers[0].revents && !acceptor_accept(acceptor)))
            return false;
        if (now >= deadline && acceptor->open < acceptor->streams) {
            char text[ADDRESS_TEXT];

            return outcome_set(&session->outcome, OUTCOME_TIMEOUT,
                               "no session from %s with the right token within %.3f s (--accept-timeout)",
                               address_text(&options->peer, text), (double)options->accept_timeout_ns / 1e9);
        }
    }
    return true;
}

bool handshake_accept(struct session *sessions, int streams)
{
    struct acceptor acceptor = {.session = sessions, .streams = streams, .listener = -1};
    bool whole;

    hello_fill(&acceptor.expected, sessions->options, 0);
    whole = acceptor_listen(&acceptor) && acceptor_wait(&acceptor);
    /* From here on the kernel resets new connections and those in the accept queue: they cost the measured
     * loop nothing, which is worth more than counting them. */
    if (acceptor.listener >= 0)
        close(acceptor.listener);
    while (acceptor.count)
        pending_refuse(&acceptor, 0, "the session belongs to another connection");
    return whole;
}

bool handshake_send_byte(struct session *session, char byte)
{
    return send(session->fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

/* Waits for `events` on the connecting socket until `deadline`. */
static bool wait_until(struct session *session, int fd, short events, int64_t deadline,
                       const char *waiting_for)
{
    struct pollfd poller = {.fd = fd, .events = events};

    while (poll(&poller, 1, (int)(TICK_NS / NS_PER_MS)) <= 0) {
        if (!session_undisturbed(session, waiting_for))
            return false;
        if (clock_now() >= deadline)
            return outcome_set(&session->outcome, OUTCOME_TIMEOUT, "waited %.3f s for %s (--connect-timeout)",
                               (double)session->options->connect_timeout_ns / 1e9, waiting_for);
    }
    return true;
}

static bool connect_peer(struct session *session, int fd, int64_t deadline)
{
    const struct options *options = session->options;
    struct outcome *outcome = &session->outcome;
    char text[ADDRESS_TEXT];
    const int on = 1;
    int error = 0;

    /* The hello has to be sent at once, as a segment of its own. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (options->sndbuf)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options->sndbuf, sizeof(options->sndbuf));
    if (bind(fd, &options->bind.any, address_length(&options->bind)) < 0)
        return outcome_set(outcome, OUTCOME_ERROR, "cannot bind to %s: %s",
                           address_text(&options->bind, text), strerror(errno));
    if (connect(fd, &options->peer.any, address_length(&options->peer)) < 0) {
        error = errno;
        if (error == EINPROGRESS) {
            if (!wait_until(session, fd, POLLOUT, deadline, "the connection"))
                return false;
            error = socket_option(fd, SO_ERROR);
        }
    }
    if (error)
        return outcome_set(outcome, OUTCOME_ERROR, "cannot connect to %s port %u: %s",
                           address_text(&options->peer, text), address_port(&options->peer), strerror(error));
    return true;
}

bool handshake_connect(struct session *session)
{
    const int64_t deadline = clock_now() + session->options->connect_timeout_ns;
    int fd = socket(session->options->bind.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct hello hello;

    if (fd < 0)
        return outcome_set(&session->outcome, OUTCOME_ERROR, "cannot make a TCP socket: %s", strerror(errno));
    if (!connect_peer(session, fd, deadline)) {
        close(fd);
        return false;
    }
    session_connected(session, fd);
    hello_fill(&hello, session->options, session->stream);
    if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello))
        return session_failed(session, "sending the hello", errno);
    return true;
}

bool handshake_wait_go(struct session *session)
{
    const int64_t patience = session->options->connect_timeout_ns + session->options->baseline_ns;
    char answer = 0;
    ssize_t got;

    if (!wait_until(session, session->fd, POLLIN, clock_now() + patience, "the receiver's go"))
        return false;
    got = recv(session->fd, &answer, 1, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return outcome_set(&session->outcome, OUTCOME_ERROR,
                           "the receiver refused the session: wrong token, wrong peer, or it failed itself");
    if (got < 0)
        return session_failed(session, "waiting for the receiver's go", errno);
    if (answer != BYTE_GO)
        return outcome_set(&session->outcome, OUTCOME_ERROR, "the other end is not a zclab-traffic receiver");
    session_progress(session, clock_now());
    return true;
}
