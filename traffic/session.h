/* SPDX-License-Identifier: Apache-2.0 */
/* One stream's session at either end: the connection, its counters, its window and its outcome. */
#ifndef ZCLAB_SESSION_H
#define ZCLAB_SESSION_H

#include "address.h"
#include "completions.h"
#include "outcome.h"
#include "options.h"
#include "group.h"
#include "verify.h"
#include "window.h"

#include <stdbool.h>
#include <stdint.h>

/* The error of a stream that ended because another one failed; the other one's error is reported. */
#define ANOTHER_FAILED "another stream failed"

struct session {
    const struct options *options;
    struct group *group;
    int stream;     /* from 0 */
    uint64_t bytes; /* to transfer; 0: by time */
    struct outcome outcome;
    struct perf perf; /* of this stream's thread */
    int fd;         /* the connection, or -1 */
    bool connected; /* ever: `local` and `remote` are known */
    struct address local;
    struct address remote;
    struct counters counters;
    struct window window;
    struct tcp_sample final; /* just before the connection was closed */
    int64_t progress_ns;     /* when something was last sent or received */
    int rcvbuf;              /* bytes, as the kernel says after the transfer; -1 unknown */
    int sndbuf;
    /* receiver */
    int rcvlowat; /* as read back; -1 unknown */
    size_t huge_page_bytes; /* of the receive buffer */
    uint64_t refused;
    struct integrity integrity;
    /* sender, zerocopy */
    struct completions completions;
    uint64_t reused_early; /* buffers written to before their completion came */
    uint64_t reused_at;    /* stream offset for which the first of them was overwritten */
};

/* One session for each stream of a group. */
void sessions_init(struct session *sessions, struct group *group, const struct options *options);
/* The outcome of all of them: the failure that caused the others. */
const struct outcome *sessions_outcome(const struct session *sessions);
/* Called in the stream's own thread: moves it to its processor and opens its hardware counters. */
bool session_enter(struct session *session);
/* Takes over a connected socket. */
void session_connected(struct session *session, int fd);
/* Waits for `events` or at most one tick; true when something is ready. Counts the call. */
bool session_poll(struct session *session, short events);
/* Something was sent or received. */
void session_progress(struct session *session, int64_t now);
/* Makes sends and receives block, for one tick at most. */
bool session_block(struct session *session);
/* Was a stop requested, or has another stream failed? Cheap enough to ask before every call. */
bool session_disturbed(const struct session *session);
/* The same, negated, and sets the outcome. */
bool session_undisturbed(struct session *session, const char *waiting_for);
/* The same, and also false when there was no progress for the idle timeout. */
bool session_may_go_on(struct session *session, int64_t now, const char *waiting_for);
/* Sets the outcome from an errno of the connection; returns false. */
bool session_failed(struct session *session, const char *action, int error);
/* Is there a mapping of the socket? If not, sets the outcome from errno, and `mapping` to NULL. */
bool session_mapped(struct session *session, void **mapping, size_t bytes);
/* Sets the outcome if the stream has ended before the window closed. */
void session_check_window(struct session *session);
/* Records the last readings and closes the connection. */
void session_close(struct session *session);

int socket_option(int fd, int option); /* SOL_SOCKET integer, -1 when unknown */

#endif
