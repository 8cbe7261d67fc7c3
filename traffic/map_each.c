/* SPDX-License-Identifier: Apache-2.0 */
#include "map_each.h"

#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define SETTING "net.ipv4.tcp_mmap_consume"
#define SETTING_FILE "/proc/sys/net/ipv4/tcp_mmap_consume"

/* On any kernel since 4.18 mmap() of a TCP socket succeeds, but consumes nothing: only the sysctl tells. */
bool map_each_probe(struct outcome *outcome, bool copy_buffer)
{
    FILE *file = fopen(SETTING_FILE, "re");
    int value = 0;
    bool known;

    (void)copy_buffer;
    if (!file)
        return outcome_set(outcome, OUTCOME_UNSUPPORTED,
                           "this kernel's mmap() of a TCP socket does not consume: no released kernel has "
                           "that, only one of this project's own series, with the setting " SETTING " (%s)",
                           strerror(errno));
    known = fscanf(file, "%d", &value) == 1;
    fclose(file);
    if (!known || value != 1)
        return outcome_set(outcome, OUTCOME_UNSUPPORTED,
                           SETTING " is %d: mmap() of a TCP socket does not consume; set it to 1 in this "
                                   "network namespace",
                           value);
    return true;
}

bool map_each_prepare(struct receiver *receiver)
{
    receiver->map_bytes = receiver->chunk_bytes;
    receiver->skip_bytes = receiver->page;
    return true;
}

/* The read position: `before` bytes in front of the next page boundary of the payload, or 0, and then at most
 * `within` bytes can be mapped. Pages of payload begin behind each header, if there are headers, else where
 * the last segment began that was seen to begin. */
static void locate(const struct receiver *receiver, size_t *before, size_t *within)
{
    const struct options *options = receiver->session->options;
    const uint64_t position = receiver->session->counters.bytes;
    const size_t page = receiver->page;
    const size_t header = options->header_bytes, record = header + options->message_bytes;
    const size_t at = header ? (size_t)(position % record) : 0;
    const uint64_t into_payload = header ? at - header : position - receiver->segment_at;

    *within = header ? record - at : receiver->chunk_bytes;
    *before = at < header ? header - at : (size_t)((page - into_payload % page) % page);
    if (*before > *within)
        *before = *within;
}

/* Copies, too, and looks where that ends: a read that returned less than it asked for, but all that was
 * queued, has emptied the queue, so that a segment begins behind it, unless it stopped in front of an
 * urgent byte. No refusal says where a segment begins, and one short segment shifts all that follow. */
static enum consumed copy_to_segment(struct receiver *receiver, size_t want, size_t queued,
                                     enum unmapped cause)
{
    const uint64_t *position = &receiver->session->counters.bytes;
    const uint64_t start = *position;
    const enum consumed consumed = consume_by_copy(receiver, want, cause);

    if (consumed == CONSUMED_SOME && *position - start < want && *position - start >= queued &&
        !consume_at_mark(receiver->session))
        receiver->segment_at = *position;
    return consumed;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

enum consumed map_each_consume(struct receiver *receiver)
{
    struct session *session = receiver->session;
    const size_t page = receiver->page;
    size_t before, within, length, queued;
    int readable = 0;
    enum unmapped cause;

    session->counters.calls++;
    if (ioctl(session->fd, FIONREAD, &readable) < 0)
        return consume_failed(session, "asking how much is queued", errno);
    queued = readable > 0 ? (size_t)readable : 0;
    if (!queued)
        return consume_without_hint(receiver, 0);
    locate(receiver, &before, &within);
    if (before)
        return consume_by_copy(receiver, before, UNMAPPED_UNALIGNED);
    if (queued < page)
        return copy_to_segment(receiver, least(page, within), queued, UNMAPPED_LESS_THAN_PAGE);
    if (within < page)
        return consume_by_copy(receiver, within, UNMAPPED_UNALIGNED);

    for (length = least(least(queued, within), receiver->map_bytes) / page * page;;
         length = length / 2 / page * page) {
        unsigned char *at = mmap(NULL, length, PROT_READ, MAP_SHARED, session->fd, 0);

        session->counters.calls++;
        if (at != MAP_FAILED) {
            consume_mapped(receiver, at, length);
            session->counters.calls += retained_add(&receiver->retained, at, length);
            receiver->map_bytes = least(2 * length, receiver->chunk_bytes);
            receiver->skip_bytes = page;
            return CONSUMED_SOME;
        }
        if (errno == EIO)
            return consume_by_copy(receiver, receiver->chunk_bytes, UNMAPPED_REFUSED);
        if (errno != EINVAL && errno != EAGAIN)
            return consume_failed(session, "mmap() of the socket", errno);
        if (length == page)
            break;
    }
    /* The unmappable page may be the only one: copy one page first. Where nothing can be mapped, ever more is
     * copied before the next try, up to more than is queued. */
    length = least(within, receiver->skip_bytes) / page * page;
    receiver->map_bytes = page;
    receiver->skip_bytes = least(2 * receiver->skip_bytes, receiver->chunk_bytes);
    cause = unmapped_cause(page, segment_size(&receiver->segments, session->fd), length, queued);
    return copy_to_segment(receiver, length, queued, cause);
}
