/* SPDX-License-Identifier: Apache-2.0 */
/* The receive modes against a socket that is made up: it plays kernels that are not there, and misbehaviour
 * that no kernel can be asked for. Linked with the traffic tool's own files, whose system calls on it are
 * wrapped. */
#include "map_each.h"
#include "receive_modes.h"
#include "session.h"
#include "consume.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            printf("line %d: %s (bytes %lu mapped %lu copied %lu calls %lu: %s)\n", __LINE__, #what,         \
                   session.counters.bytes, session.counters.mapped, session.counters.copied,                 \
                   session.counters.calls, session.outcome.error);                                            \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

#define PAGE ((size_t)4096)
#define FAKE_FD 12345
#define CHUNK (128 * PAGE)
#define NOWHERE UINT64_MAX

/* The stream: headers and pages of payload; which of these can not be mapped; what else is wrong. */
static struct {
    uint64_t total, at;
    size_t header, message; /* no header: pages begin at the start */
    uint64_t bad_from, bad_to;
    uint64_t shift; /* a short segment ends here: pages begin here anew */
    uint64_t first; /* so many bytes come at first, ... */
    size_t burst;   /* ... so many whenever those were read; 0: all is there */
    uint64_t urgent;  /* an urgent byte in front of this offset */
    uint64_t flipped; /* the wrong byte */
    size_t longest_read;
    size_t overstated; /* by FIONREAD */
    int map_error;     /* of every mapping */
    int error;         /* of the connection */
    long standing;     /* mappings not given back */
    bool urgent_passed;
} fake;

static struct options options;
static struct group group = {.streams = 1};
static struct session session;
static struct receiver receiver;
static unsigned char buffer[CHUNK];
static const char *setting; /* what the file of the setting says; NULL: no such file */

/* Where what has come ends. */
static uint64_t come(void)
{
    uint64_t past = fake.first;

    if (!fake.burst)
        return fake.total;
    if (fake.at >= fake.first)
        past += ((fake.at - fake.first) / fake.burst + 1) * fake.burst;
    return past < fake.total ? past : fake.total;
}

static uint64_t queued(void)
{
    if (!fake.urgent_passed && fake.at <= fake.urgent && fake.urgent < fake.total)
        return fake.urgent - fake.at;
    return come() - fake.at;
}

static void give(unsigned char *to, size_t length)
{
    verify_fill(to, length, 0, fake.at);
    if (fake.flipped >= fake.at && fake.flipped - fake.at < length)
        to[fake.flipped - fake.at] ^= 1;
    fake.at += length;
}

static bool page_mappable(uint64_t offset)
{
    const uint64_t record = fake.header + fake.message, in_record = fake.header ? offset % record : offset;

    if (offset + PAGE > fake.bad_from && offset < fake.bad_to)
        return false;
    if (offset + PAGE > fake.shift && offset < fake.shift)
        return false;
    if (offset >= fake.shift && !fake.header)
        return (offset - fake.shift) % PAGE == 0;
    return in_record >= fake.header && (in_record - fake.header) % PAGE == 0;
}

void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
    unsigned char *at;

    if (fd != FAKE_FD)
        return __real_mmap(where, length, protection, flags, fd, offset);
    errno = fake.map_error;
    if (errno)
        return MAP_FAILED;
    errno = EIO; /* all of it has come, and the end */
    if (length > queued())
        return MAP_FAILED;
    errno = EINVAL;
    for (size_t page = 0; page < length; page += PAGE)
        if (!page_mappable(fake.at + page))
            return MAP_FAILED;
    at = __real_mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    give(at, length);
    fake.standing++;
    return at;
}

int __real_munmap(void *, size_t);
int __wrap_munmap(void *, size_t);
int __wrap_munmap(void *at, size_t length)
{
    fake.standing--;
    return __real_munmap(at, length);
}

ssize_t __wrap_recv(int, void *, size_t, int);
ssize_t __wrap_recv(int fd, void *to, size_t length, int flags)
{
    (void)fd;
    if (fake.error) {
        errno = fake.error;
        return -1;
    }
    if (length > fake.longest_read)
        length = fake.longest_read;
    if (fake.at == fake.urgent && !(flags & MSG_PEEK))
        fake.urgent_passed = true;
    if (fake.at == fake.total)
        return 0;
    if (flags & MSG_PEEK)
        return 1;
    if (length > queued())
        length = queued();
    give(to, length);
    return (ssize_t)length;
}

int __wrap_ioctl(int, unsigned long, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    int *answer;

    (void)fd;
    va_start(args, request);
    answer = va_arg(args, int *);
    va_end(args);
    *answer = request == FIONREAD ? (int)(queued() + fake.overstated)
                                  : fake.at == fake.urgent && !fake.urgent_passed;
    return 0;
}

/* What TCP_ZEROCOPY_RECEIVE answers: the head of the kernel's argument block. */
static struct {
    uint64_t address;
    uint32_t length, skip, inq;
    int32_t error;
    uint64_t copy_address;
    int32_t copied;
    uint32_t flags;
} answer;
static int answer_errno;
static socklen_t answer_knows = sizeof(answer); /* bytes of it; older kernels know fewer */

int __wrap_getsockopt(int, int, int, void *, socklen_t *);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
    (void)fd;
    if (level == IPPROTO_TCP && option == TCP_INFO) {
        ((struct tcp_info *)value)->tcpi_rcv_mss = PAGE;
        return 0;
    }
    errno = answer_errno;
    if (errno)
        return -1;
    if (*length > answer_knows)
        *length = answer_knows;
    memcpy(value, &answer, *length);
    return 0;
}

FILE *__real_fopen(const char *, const char *);
FILE *__wrap_fopen(const char *, const char *);
FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (strcmp(path, "/proc/sys/net/ipv4/tcp_mmap_consume"))
        return __real_fopen(path, mode);
    errno = ENOENT;
    return setting ? fmemopen((void *)(uintptr_t)setting, strlen(setting), "r") : NULL;
}

/* A fresh session over a stream of `total` bytes, all there, with its end. */
static void begin(const char *mode, uint64_t total)
{
    memset(&fake, 0, sizeof(fake));
    fake.total = total;
    fake.urgent = fake.flipped = fake.bad_from = NOWHERE;
    fake.longest_read = SIZE_MAX;
    memset(&options, 0, sizeof(options));
    sessions_init(&session, &group, &options);
    session.fd = FAKE_FD;
    receiver = (struct receiver){
        .session = &session,
        .mode = receive_mode_find(mode),
        .chunk_bytes = CHUNK,
        .buffer = buffer,
        .page = PAGE,
        .verify = true,
    };
    answer_errno = 0;
    memset(&answer, 0, sizeof(answer));
}

/* Takes to the end, but no more often than `turns`. */
static enum consumed take_all(int turns)
{
    enum consumed consumed = CONSUMED_NOTHING;

    while (turns-- && (consumed == CONSUMED_SOME || consumed == CONSUMED_NOTHING))
        consumed = receiver.mode->consume(&receiver);
    return consumed;
}

static uint64_t unmapped(void)
{
    uint64_t sum = 0;

    for (int cause = 0; cause < UNMAPPED_CAUSES; cause++)
        sum += session.counters.unmapped[cause];
    return sum;
}

/* All was taken, each byte was right, and nothing stayed behind. */
static bool whole(void)
{
    const struct counters *counters = &session.counters;

    return counters->bytes == fake.total && counters->mapped + counters->copied == fake.total &&
           counters->copied == unmapped() && session.integrity.checked == fake.total &&
           !session.integrity.mismatch && !fake.standing && session.outcome.code == OUTCOME_COMPLETE;
}

/* What is kept stays mapped until so much has come after it; the rest goes back at once. */
static int keeping(void)
{
    begin("map_each", 64 * PAGE);
    CHECK(retained_init(&receiver.retained, 2 * CHUNK, PAGE));
    map_each_prepare(&receiver);
    CHECK(take_all(1000) == CONSUMED_END);
    CHECK(fake.standing && receiver.retained.bytes <= 2 * CHUNK);
    retained_free(&receiver.retained);
    CHECK(whole());
    return 0;
}

static int map_each(void)
{
    const uint64_t *causes = session.counters.unmapped;

    begin("map_each", 300 * PAGE + 100);
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_END && whole());
    CHECK(session.counters.mapped == 300 * PAGE && causes[UNMAPPED_LESS_THAN_PAGE] == 100);

    /* One bad page costs one page, and a few more calls. */
    begin("map_each", 1000 * PAGE);
    fake.bad_from = 77 * PAGE;
    fake.bad_to = 78 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(100) == CONSUMED_END && whole());
    CHECK(session.counters.copied == PAGE && causes[UNMAPPED_COMPOUND_PAGE] == PAGE);
    CHECK(session.counters.calls < 100);

    /* The same where reading comes short: reading goes on to the end of that page. */
    begin("map_each", 1000 * PAGE);
    fake.bad_from = 77 * PAGE;
    fake.bad_to = 78 * PAGE;
    fake.longest_read = 1000;
    map_each_prepare(&receiver);
    CHECK(take_all(100) == CONSUMED_END && whole());
    CHECK(session.counters.copied == PAGE && causes[UNMAPPED_UNALIGNED] == PAGE - 1000);

    /* Nothing can be mapped: soon as few calls as copying alone would make, nearly. */
    begin("map_each", 2000 * PAGE);
    fake.bad_from = 0;
    fake.bad_to = NOWHERE;
    map_each_prepare(&receiver);
    CHECK(take_all(100) == CONSUMED_END && whole());
    CHECK(session.counters.mapped == 0 && session.counters.calls < 100);

    /* ... and a long bad stretch is left behind. */
    begin("map_each", 4000 * PAGE);
    fake.bad_from = 1000 * PAGE;
    fake.bad_to = 1300 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(200) == CONSUMED_END && whole());
    CHECK(session.counters.copied >= 300 * PAGE && session.counters.copied <= 428 * PAGE);

    /* A short segment comes alone: the pages behind it begin where it ends. */
    begin("map_each", 1448 + 4000 * PAGE);
    fake.shift = fake.first = 1448;
    fake.burst = 64 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(200) == CONSUMED_END && whole());
    CHECK(session.counters.copied == 1448 && causes[UNMAPPED_LESS_THAN_PAGE] == 1448);

    /* ... in the midst of others: it is found where the queue ends, at the next burst. */
    begin("map_each", 10 * PAGE + 1448 + 4000 * PAGE);
    fake.shift = 10 * PAGE + 1448;
    fake.first = fake.shift + 54 * PAGE;
    fake.burst = 64 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(300) == CONSUMED_END && whole());
    CHECK(session.counters.copied <= 1448 + 54 * PAGE);

    /* A read that comes short and leaves something queued says nothing of segments. */
    begin("map_each", 70 * PAGE);
    fake.first = 10 * PAGE + 3000;
    fake.burst = 64 * PAGE;
    fake.longest_read = 1000;
    map_each_prepare(&receiver);
    CHECK(take_all(200) == CONSUMED_END && whole());
    CHECK(session.counters.copied == PAGE);

    /* Nor does one that ends in front of an urgent byte: what is queued is said to end there, too. */
    begin("map_each", 1000 * PAGE);
    fake.urgent = 100 * PAGE + 500;
    map_each_prepare(&receiver);
    CHECK(take_all(200) == CONSUMED_END && whole());
    CHECK(session.counters.copied == 2 * PAGE && causes[UNMAPPED_URGENT] == PAGE);

    /* Headers shift the pages; what they shift them by is known. */
    begin("map_each", 20 * (100 + 16 * PAGE));
    options.header_bytes = fake.header = 100;
    options.message_bytes = fake.message = 16 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(100) == CONSUMED_END && whole());
    CHECK(session.counters.mapped == 20 * 16 * PAGE && causes[UNMAPPED_UNALIGNED] == 20 * 100);

    /* Messages that are not whole pages: what is over at their end is copied. */
    begin("map_each", 20 * (100 + 5000));
    options.header_bytes = fake.header = 100;
    options.message_bytes = fake.message = 5000;
    map_each_prepare(&receiver);
    CHECK(take_all(200) == CONSUMED_END && whole());
    CHECK(session.counters.mapped == 20 * PAGE);

    /* Mapping stops in front of an urgent byte; so does what is said to be queued. */
    begin("map_each", 200 * PAGE);
    fake.urgent = 100 * PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(100) == CONSUMED_END && whole());
    CHECK(session.counters.copied == PAGE && causes[UNMAPPED_URGENT] == PAGE);

    /* The end, and less there than was thought. */
    begin("map_each", 3 * PAGE);
    fake.overstated = PAGE;
    map_each_prepare(&receiver);
    CHECK(take_all(5) == CONSUMED_END && whole());
    CHECK(causes[UNMAPPED_REFUSED] == 3 * PAGE);

    /* A kernel that always says "too few": no busy loop, and no failure. */
    begin("map_each", 200 * PAGE);
    fake.map_error = EAGAIN;
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_END && whole() && session.counters.mapped == 0);

    begin("map_each", 200 * PAGE);
    fake.map_error = ENOMEM;
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_FAILED && session.outcome.code == OUTCOME_ERROR);

    begin("map_each", 0);
    fake.error = ECONNRESET;
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_FAILED && session.outcome.code == OUTCOME_CUT_SHORT);

    /* A wrong byte in a mapping, and one that was copied. */
    begin("map_each", 300 * PAGE);
    fake.flipped = 200 * PAGE + 5;
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_END && session.counters.bytes == fake.total);
    CHECK(session.integrity.mismatch && session.integrity.mapped &&
          session.integrity.offset == fake.flipped);
    begin("map_each", 300 * PAGE + 10);
    fake.flipped = 300 * PAGE + 9;
    map_each_prepare(&receiver);
    CHECK(take_all(50) == CONSUMED_END && session.integrity.mismatch && !session.integrity.mapped);
    return 0;
}

static int map_each_setting(void)
{
    struct outcome outcome = {0};

    CHECK(!map_each_probe(&outcome, false) && outcome.code == OUTCOME_UNSUPPORTED);
    CHECK(strstr(outcome.error, "no released kernel") && !strchr(outcome.error, '\n'));
    outcome = (struct outcome){0};
    setting = "0\n";
    CHECK(!map_each_probe(&outcome, false) && outcome.code == OUTCOME_UNSUPPORTED);
    CHECK(strstr(outcome.error, "net.ipv4.tcp_mmap_consume is 0") && strstr(outcome.error, "set it to 1"));
    outcome = (struct outcome){0};
    setting = "1\n";
    CHECK(map_each_probe(&outcome, false) && outcome.code == OUTCOME_COMPLETE);
    return 0;
}

/* What a mode says of a kernel that knows so many bytes of the argument, or nothing of the call; "": goes. */
static const char *refusal(const char *mode, socklen_t knows)
{
    const struct receive_mode *const found = receive_mode_find(mode);
    static struct outcome outcome;

    outcome = (struct outcome){0};
    answer_errno = knows ? 0 : ENOPROTOOPT;
    answer_knows = knows;
    if (found->probe(&outcome, found->copy_buffer) != (outcome.code == OUTCOME_COMPLETE))
        return "the outcome does not match";
    answer_knows = sizeof(answer);
    return outcome.code == OUTCOME_UNSUPPORTED || !*outcome.error ? outcome.error : "wrong outcome";
}

static int older_kernels(void)
{
    CHECK(strstr(refusal("map_once", 0), "no TCP_ZEROCOPY_RECEIVE") &&
          strstr(refusal("map_once", 0), "4.18"));
    CHECK(strstr(refusal("map_once", 16), "socket errors") && strstr(refusal("map_once", 16), "5.7"));
    CHECK(!*refusal("map_once", 24) && !*refusal("map_once", 40));
    CHECK(strstr(refusal("map_once_hybrid", 0), "4.18"));
    CHECK(strstr(refusal("map_once_hybrid", 24), "no copy buffer") &&
          strstr(refusal("map_once_hybrid", 24), "5.11"));
    CHECK(!*refusal("map_once_hybrid", 40));
    return 0;
}

static int map_once(void)
{
    const uint64_t *causes = session.counters.unmapped;

    /* The pages can not be put into the mapping: each is copied. */
    for (int i = 0; i < 3; i++) {
        begin("map_once", 5 * PAGE + 1);
        answer_errno = (const int[]){EINVAL, ENOMEM, EBUSY}[i];
        CHECK(take_all(20) == CONSUMED_END && whole() && causes[UNMAPPED_REFUSED] == fake.total);
    }
    /* It says nothing, again and again, although there are pages. */
    begin("map_once", 5 * PAGE);
    answer.inq = 5 * PAGE;
    CHECK(take_all(20) == CONSUMED_END && whole() && causes[UNMAPPED_REFUSED] == fake.total);
    /* It says nothing because of an urgent byte. */
    begin("map_once", 5 * PAGE);
    fake.urgent = 0;
    answer.inq = 5 * PAGE;
    CHECK(receiver.mode->consume(&receiver) == CONSUMED_SOME && causes[UNMAPPED_URGENT] == PAGE);
    /* It takes the connection's error off the socket: nobody else reports that one. */
    begin("map_once", 5 * PAGE);
    answer.error = ECONNRESET;
    CHECK(take_all(20) == CONSUMED_FAILED && session.outcome.code == OUTCOME_CUT_SHORT);
    CHECK(strstr(session.outcome.error, "reset"));
    /* It can not reach the copy buffer. */
    begin("map_once_hybrid", 5 * PAGE);
    answer.copied = -EFAULT;
    CHECK(take_all(20) == CONSUMED_FAILED && session.outcome.code == OUTCOME_ERROR);
    return 0;
}

int main(void)
{
    const int failed = keeping() || map_each() || map_each_setting() || older_kernels() || map_once();

    return failed;
}
