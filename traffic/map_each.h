/* SPDX-License-Identifier: Apache-2.0 */
/* The mapping interface proposed in 2018, which no released kernel has: each mmap() of the connected socket
 * takes bytes off its queue, munmap() gives their pages back.
 *
 *   EAGAIN  fewer bytes are queued than asked for
 *   EINVAL  one of the asked pages cannot be mapped, or an urgent byte is among them
 *   EIO     the peer has finished, and less than asked for is left
 *
 * A refused call takes nothing and does not say which page it was, so the length is halved until a
 * call succeeds or one page is left; that page is read by copying. Every mapping begins at a page boundary of
 * the payload: only the bytes in front of one are read by copying. */
#ifndef ZCLAB_MAP_EACH_H
#define ZCLAB_MAP_EACH_H

#include "consume.h"
#include "outcome.h"

bool map_each_probe(struct outcome *outcome, bool copy_buffer);
bool map_each_prepare(struct receiver *receiver);
enum consumed map_each_consume(struct receiver *receiver);

#endif
