/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways to receive share: every byte taken off the socket is counted once and, when asked for,
 * checked. */
#ifndef ZCLAB_CONSUME_H
#define ZCLAB_CONSUME_H

#include "receiver.h"

enum consumed {
    CONSUMED_SOME,
    CONSUMED_NOTHING, /* there was nothing after all: wait again */
    CONSUMED_END,     /* the peer will send no more */
    CONSUMED_FAILED,  /* the session's outcome says why */
};

/* Bytes that now lie at `at`, mapped there. */
void consume_mapped(struct receiver *receiver, const unsigned char *at, size_t length);
/* The same, copied there because of `cause` (any will do for a mode that does not map). */
void consume_copied(struct receiver *receiver, const unsigned char *at, size_t length, enum unmapped cause);
/* Reads at most `want` bytes, and at most a chunk, by copying; never blocks. */
enum consumed consume_by_copy(struct receiver *receiver, size_t want, enum unmapped cause);
/* Does reading stand in front of an urgent byte? FIONREAD counts up to there only. */
bool consume_at_mark(struct session *session);
/* Readable, but with nothing to map and nothing that has to be copied first, though `queued` bytes may be
 * there: the end of the stream, an error of the connection, an urgent byte, or a kernel that balks. Takes
 * nothing once at most, where there is something. */
enum consumed consume_without_hint(struct receiver *receiver, size_t queued);

#endif
