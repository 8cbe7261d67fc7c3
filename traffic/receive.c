/* SPDX-License-Identifier: Apache-2.0 */
#include "receive.h"

#include "clock.h"
#include "handshake.h"
#include "pool.h"
#include "receive_modes.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The low-water mark lets poll() sleep until a worthwhile chunk is queued. The kernel caps it, hence the read
 * back, and wakes the reader for less at the end of the stream and when the window is nearly full. */
static bool set_low_water(struct session *session)
{
    const int asked = session->options->rcvlowat;

    if (asked && setsockopt(session->fd, SOL_SOCKET, SO_RCVLOWAT, &asked, sizeof(asked)) < 0)
        return ending_set(&session->ending, OUTCOME_ERROR, "SO_RCVLOWAT %d: %s", asked, strerror(errno));
    session->rcvlowat = socket_option(session->fd, SO_RCVLOWAT);
    return true;
}

/* The stream has ended in order; was it all there? */
static void judge_end(struct session *session)
{
    const uint64_t wanted = session->options->bytes, got = session->counters.bytes;

    if (!got)
        ending_set(&session->ending, OUTCOME_CUT_SHORT, "the sender ended the stream without any payload");
    else if (wanted && got > wanted)
        ending_set(&session->ending, OUTCOME_ERROR,
                   "the sender sent %" PRIu64 " bytes, %" PRIu64 " were expected", got, wanted);
    else if (wanted && got < wanted)
        ending_set(&session->ending, OUTCOME_CUT_SHORT,
                   "the stream ended after %" PRIu64 " of %" PRIu64 " bytes", got, wanted);
    else if (session->window.state != WINDOW_CLOSED)
        ending_set(&session->ending, OUTCOME_CUT_SHORT,
                   "the stream ended after %.3f s, before the window closed",
                   session->window.first_ns ? (double)(clock_now() - session->window.first_ns) / 1e9 : 0.0);
}

/* One turn: wait, keep the window, take one chunk. False when the session is over. */
static bool turn(struct receiver *receiver)
{
    struct session *session = receiver->session;
    struct window *window = &session->window;
    const bool ready = session_poll(session, POLLIN);
    const bool was_open = window->state == WINDOW_OPEN;
    const int64_t now = clock_now();
    enum took took;

    if (ready && window->state == WINDOW_WAITING)
        window_start(window, session->fd, &session->counters, now);
    else
        window_tick(window, session->fd, &session->counters, now);
    if (was_open && window->state == WINDOW_CLOSED)
        handshake_tell(session, BYTE_WINDOW_CLOSED); /* if it fails, so will the next read */
    if (stop_asked() || !ready)
        return session_may_go_on(session, now, "payload");

    took = receiver->mode->take(receiver);
    if (took == TOOK_FAILED)
        return false;
    if (took == TOOK_END) {
        judge_end(session);
        return false;
    }
    if (took == TOOK_SOME)
        session_progress(session, now);
    if (session->options->bytes && session->counters.bytes >= session->options->bytes)
        window_close(window, session->fd, &session->counters, true);
    return true;
}

void receive_run(struct session *session)
{
    const struct options *options = session->options;
    struct receiver receiver = {
        .session = session,
        .mode = receive_mode_find(options->mode),
        .chunk_bytes = options->chunk_bytes,
        .copy_buffer = options->copy_buffer,
        .page = (size_t)sysconf(_SC_PAGESIZE),
        .verify = options->verify,
    };
    const size_t room = options->chunk_bytes + options->copy_buffer;

    if (receiver.mode->probe && !receiver.mode->probe(&session->ending))
        return;
    receiver.buffer = pages_allocate(room);
    if (!receiver.buffer) {
        ending_set(&session->ending, OUTCOME_ERROR, "no memory for a buffer of %zu bytes (--chunk-bytes)",
                   room);
        return;
    }
    receiver.straggler = receiver.buffer + options->chunk_bytes;
    /* The go comes last: when payload starts, everything is in place. */
    if (handshake_accept(session) && set_low_water(session) && receiver.mode->prepare(&receiver)) {
        if (!handshake_tell(session, BYTE_GO))
            session_failed(session, "sending the go", errno);
        else
            while (turn(&receiver))
                ;
    }
    window_close(&session->window, session->fd, &session->counters, false);
    session_close(session);
    if (receiver.mapping)
        munmap(receiver.mapping, receiver.chunk_bytes);
    munmap(receiver.buffer, room);
}
