/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "clock.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void sessions_init(struct session *sessions, struct group *group, const struct options *options)
{
    for (int stream = 0; stream < group->streams; stream++) {
        struct session *session = &sessions[stream];
        const uint64_t share = options->bytes / (uint64_t)group->streams;

        memset(session, 0, sizeof(*session));
        session->options = options;
        session->group = group;
        session->stream = stream;
        session->bytes = share + (stream ? 0 : options->bytes % (uint64_t)group->streams);
        session->fd = -1;
        session->rcvbuf = session->sndbuf = session->rcvlowat = -1;
        session->window.group = group;
        session->window.at_receiver = options->end == END_RECEIVE || options->end == END_RPC_SERVE;
        session->window.warmup_ns = options->warmup_ns;
        session->window.length_ns = options->seconds_ns;
        session->integrity.stream = (uint32_t)stream;
    }
}

const struct outcome *sessions_outcome(const struct session *sessions)
{
    const struct outcome *found = &sessions->outcome;

    for (int stream = 0; stream < sessions->group->streams; stream++) {
        const struct outcome *one = &sessions[stream].outcome;

        if (one->code != OUTCOME_COMPLETE && strcmp(one->error, ANOTHER_FAILED))
            return one;
        if (found->code == OUTCOME_COMPLETE)
            found = one;
    }
    return found;
}

bool session_enter(struct session *session)
{
    char why[WHY_BYTES] = "";

    if (!affinity_apply(&session->options->affinity, session->stream, &session->outcome))
        return false;
    if (perf_open_thread(&session->perf, why, sizeof(why)))
        session->window.perf = &session->perf;
    else
        group_lacks_perf(session->group, why);
    return true;
}

void session_connected(struct session *session, int fd)
{
    socklen_t length = sizeof(session->local.v6);

    session->fd = fd;
    session->connected = getsockname(fd, &session->local.any, &length) == 0;
    length = sizeof(session->remote.v6);
    session->connected = getpeername(fd, &session->remote.any, &length) == 0 && session->connected;
    session_progress(session, clock_now());
}

bool session_poll(struct session *session, short events)
{
    struct pollfd poller = {.fd = session->fd, .events = events};

    session->counters.calls++;
    return poll(&poller, 1, (int)(TICK_NS / NS_PER_MS)) > 0;
}

bool session_block(struct session *session)
{
    const struct timeval tick = {.tv_usec = TICK_NS / 1000};

    return (fcntl(session->fd, F_SETFL, 0) == 0 &&
            setsockopt(session->fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick)) == 0 &&
            setsockopt(session->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) == 0) ||
           outcome_set(&session->outcome, OUTCOME_ERROR, "cannot prepare the socket: %s", strerror(errno));
}

void session_progress(struct session *session, int64_t now)
{
    session->progress_ns = now;
}

bool session_disturbed(const struct session *session)
{
    return signals_stop_requested() || atomic_load_explicit(&session->group->broken, memory_order_relaxed);
}

bool session_undisturbed(struct session *session, const char *waiting_for)
{
    if (signals_stop_requested())
        return outcome_set(&session->outcome, OUTCOME_STOPPED, "asked to stop while waiting for %s",
                           waiting_for);
    if (session->group->broken)
        return outcome_set(&session->outcome, OUTCOME_CUT_SHORT, "%s", ANOTHER_FAILED);
    return true;
}

bool session_may_go_on(struct session *session, int64_t now, const char *waiting_for)
{
    if (!session_undisturbed(session, waiting_for))
        return false;
    if (now - session->progress_ns >= session->options->idle_timeout_ns)
        return outcome_set(&session->outcome, OUTCOME_TIMEOUT, "waited %.3f s for %s (--idle-timeout)",
                           (double)(now - session->progress_ns) / 1e9, waiting_for);
    return true;
}

bool session_failed(struct session *session, const char *action, int error)
{
    bool lost = error == ECONNRESET || error == EPIPE || error == ETIMEDOUT || error == EHOSTUNREACH ||
                error == ENETUNREACH || error == ENETDOWN || error == ECONNABORTED;

    return outcome_set(&session->outcome, lost ? OUTCOME_CUT_SHORT : OUTCOME_ERROR, "%s: %s", action,
                       strerror(error));
}

bool session_mapped(struct session *session, void **mapping, size_t bytes)
{
    if (*mapping != MAP_FAILED)
        return true;
    *mapping = NULL;
    return outcome_set(&session->outcome, OUTCOME_ERROR, "cannot map %zu bytes of the socket: %s", bytes,
                       strerror(errno));
}

int socket_option(int fd, int option)
{
    int value = -1;
    socklen_t length = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

void session_check_window(struct session *session)
{
    if (session->window.state != WINDOW_CLOSED)
        outcome_set(&session->outcome, OUTCOME_CUT_SHORT,
                    "the stream ended after %.3f s, before the window closed",
                    session->window.first_ns ? (double)(clock_now() - session->window.first_ns) / 1e9 : 0.0);
}

void session_close(struct session *session)
{
    if (session->outcome.code != OUTCOME_COMPLETE)
        session->group->broken = true;
    if (session->window.perf)
        perf_close(&session->perf);
    if (session->fd < 0)
        return;
    session->rcvbuf = socket_option(session->fd, SO_RCVBUF);
    session->sndbuf = socket_option(session->fd, SO_SNDBUF);
    tcp_sample_take(&session->final, session->fd);
    close(session->fd);
    session->fd = -1;
}
