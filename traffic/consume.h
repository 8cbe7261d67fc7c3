/* SPDX-License-Identifier: Apache-2.0 */
/* What the receive modes share: every byte read from the socket is counted once and, with --verify,
 * checked. */
#ifndef ZCLAB_CONSUME_H
#define ZCLAB_CONSUME_H

#include "receiver.h"

#include <sys/types.h>

enum consumed {
    CONSUMED_SOME,
    CONSUMED_NOTHING, /* nothing was queued after all: wait again */
    CONSUMED_END,     /* the peer will send no more */
    CONSUMED_FAILED,  /* the session's outcome says why */
};

/* Bytes that are mapped at `at`. */
void consume_mapped(struct receiver *receiver, const unsigned char *at, size_t length);
/* Bytes that were copied to `at` because of `cause` (any will do for a mode that does not map). */
void consume_copied(struct receiver *receiver, const unsigned char *at, size_t length, enum unmapped cause);
/* Sets the session's outcome from an errno. */
enum consumed consume_failed(struct session *session, const char *action, int error);
/* What the return value of a receive call says, and errno if it is negative. */
enum consumed consume_received(struct session *session, ssize_t got);
/* Reads at most `want` bytes, and at most a chunk, by copying; never blocks. */
enum consumed consume_by_copy(struct receiver *receiver, size_t want, enum unmapped cause);
/* Is an urgent byte next? FIONREAD counts only up to there. */
bool consume_at_mark(struct session *session);
/* The socket is readable, but the mapping call mapped nothing and returned recv_skip_hint 0, though
 * `queued` bytes may be there: the end of the stream, an error of the connection, an urgent byte, or a
 * kernel that does not map. Returns CONSUMED_NOTHING at most once in a row while a page or more is queued. */
enum consumed consume_without_hint(struct receiver *receiver, size_t queued);

#endif
