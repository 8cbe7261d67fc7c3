/* SPDX-License-Identifier: Apache-2.0 */
/* Integrity: every byte of a stream says where it belongs, and the receiver checks each one. The stream
 * consists of words of 8 bytes, a mix of the word's number and the stream's. No two words of a session are
 * equal, so that bytes that were shifted, swapped, repeated, left out or flipped are found. */
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
    bool mapped; /* found in the mapping; otherwise in the buffer it was copied to */
};

/* Writes the bytes that belong at stream offset `offset` and after. */
void verify_fill(unsigned char *to, size_t length, uint32_t stream, uint64_t offset);
/* Compares bytes received at `offset`. The stream's first wrong byte is recorded; after it bytes are only
 * counted. */
void verify_check(struct integrity *integrity, const unsigned char *bytes, size_t length, uint64_t offset,
                  bool mapped);

#endif
