/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity: every byte of a stream says where it belongs, and the receiver looks at each one. The stream is
 * made of words of 8 bytes; a word is a mix of its own number and of the stream's, and no two of a session
 * are alike, so that what was shifted, swapped, repeated, left out or flipped does not fit its place. */
#ifndef ZCLAB_VERIFY_H
#define ZCLAB_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one stream's receiver found. */
struct integrity {
    uint32_t stream;
    uint64_t checked; /* bytes */
    bool mismatch;    /* the members below say where the first one is */
    uint64_t offset;  /* in the stream */
    uint8_t expected;
    uint8_t found;
    bool mapped; /* it was seen in the mapping; otherwise in a buffer that it was copied to */
};

/* Writes the bytes that belong at stream offset `offset` and after. */
void verify_fill(unsigned char *to, size_t length, uint32_t stream, uint64_t offset);
/* Compares bytes received at `offset`. The stream's first wrong byte is noted; after that one, bytes are only
 * counted. */
void verify_check(struct integrity *integrity, const unsigned char *bytes, size_t length, uint64_t offset,
                  bool mapped);

#endif
