/* SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"

#include <endian.h>
#include <string.h>

#define WORD sizeof(uint64_t)

/* Each step can be undone, so different numbers give different words (streams are fewer than 2^16, and no
 * stream has 2^48 words). Stored little-endian: the ends may be different machines. */
static uint64_t word_at(uint32_t stream, uint64_t number)
{
    uint64_t word = ((uint64_t)stream << 48 ^ number) + UINT64_C(0x9ae16a3b2f90404f);

    word = (word ^ word >> 31) * UINT64_C(0xd6e8feb86659fd93);
    word = (word ^ word >> 29) * UINT64_C(0xff51afd7ed558ccd);
    return htole64(word ^ word >> 32);
}

static uint8_t byte_at(uint32_t stream, uint64_t offset)
{
    const uint64_t word = word_at(stream, offset / WORD);
    uint8_t bytes[WORD];

    memcpy(bytes, &word, WORD);
    return bytes[offset % WORD];
}

void verify_fill(unsigned char *to, size_t length, uint32_t stream, uint64_t offset)
{
    size_t at = 0;

    for (; at < length && (offset + at) % WORD; at++)
        to[at] = byte_at(stream, offset + at);
    for (uint64_t number = (offset + at) / WORD; length - at >= WORD; at += WORD, number++) {
        const uint64_t word = word_at(stream, number);

        memcpy(to + at, &word, WORD);
    }
    for (; at < length; at++)
        to[at] = byte_at(stream, offset + at);
}

/* Index of the first wrong byte; `length` when there is none. */
static size_t first_wrong(const unsigned char *bytes, size_t length, uint32_t stream, uint64_t offset)
{
    size_t at = 0;

    for (; at < length && (offset + at) % WORD; at++)
        if (bytes[at] != byte_at(stream, offset + at))
            return at;
    for (uint64_t number = (offset + at) / WORD; length - at >= WORD; at += WORD, number++) {
        const uint64_t word = word_at(stream, number);

        if (memcmp(bytes + at, &word, WORD))
            break;
    }
    for (; at < length; at++)
        if (bytes[at] != byte_at(stream, offset + at))
            return at;
    return length;
}

void verify_check(struct integrity *integrity, const unsigned char *bytes, size_t length, uint64_t offset,
                  bool mapped)
{
    size_t wrong;

    integrity->checked += length;
    if (integrity->mismatch)
        return;
    wrong = first_wrong(bytes, length, integrity->stream, offset);
    if (wrong == length)
        return;
    integrity->mismatch = true;
    integrity->offset = offset + wrong;
    integrity->expected = byte_at(integrity->stream, offset + wrong);
    integrity->found = bytes[wrong];
    integrity->mapped = mapped;
}
