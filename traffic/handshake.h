/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake of a session. The first segment of each of the sender's connections is a hello of fixed
 * size with the token and the stream's number. The receiver answers with one byte, the go, when all is
 * prepared; only then does payload start, in a new segment. Later the receiver sends one more byte when
 * its window has closed. Nothing but payload follows the hello. */
#ifndef ZCLAB_HANDSHAKE_H
#define ZCLAB_HANDSHAKE_H

#include "session.h"

#include <stdbool.h>

#define BYTE_GO 'G'
#define BYTE_WINDOW_CLOSED 'W'

/* Receiver: listens on the own address, prints the readiness line, refuses everybody but the right peer with
 * the right token, and returns with every stream connected and the listening socket closed. */
bool handshake_accept(struct session *sessions, int streams);
/* Receiver: sends one byte to the sender. */
bool handshake_send_byte(struct session *session, char byte);
/* Sender: connects and sends the hello. */
bool handshake_connect(struct session *session);
/* Sender: waits for the go. */
bool handshake_wait_go(struct session *session);

#endif
