/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"

#include "clock.h"
#include "handshake.h"
#include "hugepage.h"
#include "pool.h"
#include "receive_modes.h"
#include "streams.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BURN_AT_LEAST_NS 20000 /* reading the clock takes about one microsecond */

/* SO_RCVLOWAT lets poll() sleep until so much is queued. The kernel caps it, hence it is read back; at the
 * end of the stream and when the window is nearly full the kernel wakes the reader for less. */
static bool set_rcvlowat(struct session *session)
{
    const int asked = session->options->rcvlowat;

    if (asked && setsockopt(session->fd, SOL_SOCKET, SO_RCVLOWAT, &asked, sizeof(asked)) < 0)
        return outcome_set(&session->outcome, OUTCOME_ERROR, "SO_RCVLOWAT %d: %s", asked, strerror(errno));
    session->rcvlowat = socket_option(session->fd, SO_RCVLOWAT);
    return true;
}

/* The stream has ended in order: was all of it received? */
static void check_end(struct session *session)
{
    const uint64_t wanted = session->bytes, got = session->counters.bytes;

    if (!got)
        outcome_set(&session->outcome, OUTCOME_CUT_SHORT, "the sender ended the stream without any payload");
    else if (wanted && got > wanted)
        outcome_set(&session->outcome, OUTCOME_ERROR,
                    "the sender sent %" PRIu64 " bytes, %" PRIu64 " were expected", got, wanted);
    else if (wanted && got < wanted)
        outcome_set(&session->outcome, OUTCOME_CUT_SHORT,
                    "the stream ended after %" PRIu64 " of %" PRIu64 " bytes", got, wanted);
    else
        session_check_window(session);
}

/* The injected slowdown. The CPU time still to be burnt is carried over until it is worth reading the
 * clock, and so is what was burnt too much: the total is right for chunks of any size. */
static void burn(struct receiver *receiver)
{
    const double usec_per_mib = receiver->session->options->inject_usec_per_mib;
    const double due_ns = (double)receiver->session->counters.bytes * usec_per_mib * 1e3 / (1 << 20);
    const int64_t owed = (int64_t)due_ns - receiver->burnt_ns;
    int64_t start, spent;

    if (owed < BURN_AT_LEAST_NS)
        return;
    start = clock_read(CLOCK_THREAD_CPUTIME_ID);
    do
        spent = clock_read(CLOCK_THREAD_CPUTIME_ID) - start;
    while (spent < owed);
    receiver->burnt_ns += spent;
}

/* One turn: waits, opens or closes the window when it is time, and reads one chunk. False when the session is
 * over. */
static bool turn(struct receiver *receiver)
{
    struct session *session = receiver->session;
    struct window *window = &session->window;
    const bool ready = receiver->more || session_poll(session, POLLIN);
    const bool was_open = window->state == WINDOW_OPEN;
    const int64_t now = clock_now();
    enum consumed consumed;

    if (ready && window->state == WINDOW_WAITING)
        window_start(window, session->fd, &session->counters, now);
    else
        window_tick(window, session->fd, &session->counters, now);
    if (was_open && window->state == WINDOW_CLOSED)
        handshake_send_byte(session, BYTE_WINDOW_CLOSED); /* if it fails, so will the next read */
    if (!ready || session_disturbed(session))
        return session_may_go_on(session, now, "payload");

    receiver->more = false;
    consumed = receiver->mode->consume(receiver);
    if (consumed == CONSUMED_FAILED)
        return false;
    if (consumed == CONSUMED_END) {
        check_end(session);
        return false;
    }
    if (consumed == CONSUMED_SOME) {
        session_progress(session, now);
        burn(receiver);
    }
    if (session->bytes && session->counters.bytes >= session->bytes)
        window_close(window, session->fd, &session->counters, true);
    return true;
}

/* Prepares all that payload needs, in the stream's own thread. */
static bool prepare(struct receiver *receiver)
{
    struct session *session = receiver->session;
    const size_t room = receiver->chunk_bytes + receiver->copy_buffer;

    if (!session_enter(session))
        return false;
    receiver->buffer = hugepage_allocate(room, &session->huge_page_bytes);
    if (!receiver->buffer)
        return outcome_set(&session->outcome, OUTCOME_ERROR,
                           "no memory for a buffer of %zu bytes (--chunk-bytes)", room);
    if (!retained_init(&receiver->retained, session->options->keep_bytes, receiver->page))
        return outcome_set(&session->outcome, OUTCOME_ERROR, "no memory to account for --keep-bytes");
    receiver->copy_area = receiver->buffer + receiver->chunk_bytes;
    return set_rcvlowat(session) && (!receiver->mode->prepare || receiver->mode->prepare(receiver));
}

static void receive_stream(struct session *session)
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

    if (!prepare(&receiver))
        session->group->broken = true;
    group_barrier(session->group);
    if (session->stream == 0 && !session->group->broken &&
        !group_baseline(session->group, options->baseline_ns))
        session_may_go_on(session, clock_now(), "the baseline");
    group_barrier(session->group);
    session_progress(session, clock_now());
    /* The go is sent last: when payload starts, all is prepared. */
    if (session_may_go_on(session, clock_now(), "the other streams")) {
        if (!handshake_send_byte(session, BYTE_GO))
            session_failed(session, "sending the go", errno);
        else
            while (turn(&receiver))
                ;
    }
    window_close(&session->window, session->fd, &session->counters, false);
    session_close(session);
    retained_free(&receiver.retained);
    if (receiver.mapping)
        munmap(receiver.mapping, receiver.chunk_bytes);
    if (receiver.buffer)
        hugepage_free(receiver.buffer, options->chunk_bytes + options->copy_buffer);
}

/* A wrong byte is reported in place of any other outcome, and stream 0's before the others'. */
static void check_integrity(struct session *sessions, int streams)
{
    const struct integrity *integrity = &sessions->integrity;

    for (int stream = 1; stream < streams && !integrity->mismatch; stream++)
        integrity = &sessions[stream].integrity;
    if (!integrity->mismatch)
        return;
    sessions->outcome = (struct outcome){0};
    outcome_set(&sessions->outcome, OUTCOME_ERROR,
                "wrong byte in stream %" PRIu32 " at offset %" PRIu64
                ": found 0x%02x, expected 0x%02x (%s)%s",
                integrity->stream, integrity->offset, integrity->found, integrity->expected,
                integrity->mapped ? "mapped" : "copied",
                integrity->offset < 8 ? "; has the sender --verify?" : "");
}

void receive_run(struct session *sessions, int streams)
{
    const struct receive_mode *mode = receive_mode_find(sessions->options->mode);

    if (mode->probe && !mode->probe(&sessions->outcome, mode->copy_buffer))
        return;
    if (!handshake_accept(sessions, streams)) {
        for (int stream = 0; stream < streams; stream++)
            session_close(&sessions[stream]);
        return;
    }
    streams_run(sessions, streams, receive_stream);
    check_integrity(sessions, streams);
}
