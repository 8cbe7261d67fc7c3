/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "clock.h"
#include "receive_modes.h"
#include "rpc_modes.h"
#include "send_modes.h"
#include "group.h"
#include "version.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES (UINT64_C(1) << 62)
#define MAX_SECONDS 1e6

#define RECEIVE (1u << END_RECEIVE)
#define SEND (1u << END_SEND)
#define BULK (RECEIVE | SEND)
#define RPC_SERVE (1u << END_RPC_SERVE)
#define RPC_CALL (1u << END_RPC_CALL)
#define RPC (RPC_SERVE | RPC_CALL)
#define LISTENS (RECEIVE | RPC_SERVE)
#define CONNECTS (SEND | RPC_CALL)
#define ALL (BULK | RPC)

enum kind {
    ON, /* a switch: takes no value */
    OFF,
    COUNT,   /* low to high */
    DECIMAL, /* low to high */
    SECONDS, /* low milliseconds or more */
    ADDRESS,
    TOKEN,
    MODE,
    CPUS,
};

/* One row per option: parser and --help both read it. Relations between options are checked in check(). */
struct row {
    const char *name;
    const char *value;
    unsigned int ends;     /* subcommands that have it */
    unsigned int required; /* subcommands that need it */
    enum kind kind;
    size_t field, bytes; /* its place in struct options, and the size of a count there */
    uint64_t low, high;
    const char *wanted; /* what a value must be */
    const char *help;
};

#define FIELD(name) offsetof(struct options, name), sizeof(((struct options *)0)->name)
#define BUFFER 1, UINT64_C(1) << 30, "1 to 1073741824 bytes"
#define RPC_MESSAGE 1, UINT64_C(1) << 20, "1 to 1048576 bytes"
#define ANY_SECONDS 0, 0, "a number of seconds, 0 or more"
#define SOME_SECONDS 1, 0, "a number of seconds, 0.001 or more"
#define NUMERIC 0, 0, "a numeric IPv4 or IPv6 address (link-local: with %interface)"
#define COPY_BUFFER "at least 1 and below one page: a larger one makes the kernel copy what it could map"
#define SWITCH 0, 0, NULL

static const struct row rows[] = {
    {"bind", "ADDR", ALL, ALL, ADDRESS, FIELD(bind), NUMERIC,
     "own address, numeric IPv4 or IPv6; no other is used"},
    {"peer", "ADDR", ALL, ALL, ADDRESS, FIELD(peer), NUMERIC, "address of the other end"},
    {"port", "N", LISTENS, 0, COUNT, FIELD(port), 0, 65535, "0 to 65535",
     "TCP port to listen on; 0: any free one (default 0)"},
    {"port", "N", CONNECTS, CONNECTS, COUNT, FIELD(port), 1, 65535, "1 to 65535",
     "TCP port of the end that listens (receive, rpc-serve)"},
    {"token", "HEX", ALL, ALL, TOKEN, FIELD(token), 0, 0, "16 to 64 hex digits, an even number of them",
     "session token, the same at both ends, 16 to 64 hex digits"},
    {"mode", "MODE", ALL, ALL, MODE, FIELD(mode), 0, 0, "one of the modes listed by --help",
     "how to move data, see below"},
    {"chunk-bytes", "N", RECEIVE, 0, COUNT, FIELD(chunk_bytes), BUFFER,
     "bytes asked for per receive call, and size of the standing mapping (default 524288)"},
    {"message-bytes", "N", BULK, SEND, COUNT, FIELD(message_bytes), BUFFER,
     "bytes given to each send call; at the receiver, for map_each, see --header-bytes"},
    {"header-bytes", "N", BULK, 0, COUNT, FIELD(header_bytes), BUFFER,
     "sender: a header of N bytes in front of each message, sent by copying; header and message each end a "
     "record (MSG_EOR), so that no segment holds parts of both. Receiver: map_each needs it, with "
     "--message-bytes, to know where pages begin (default: no headers)"},
    {"request-bytes", "N", RPC, RPC, COUNT, FIELD(request_bytes), RPC_MESSAGE,
     "size of a request, 1 to 1048576; the same at both ends"},
    {"reply-bytes", "N", RPC, RPC, COUNT, FIELD(reply_bytes), RPC_MESSAGE,
     "size of a reply, 1 to 1048576; the same at both ends"},
    {"keep-bytes", "N", RECEIVE, 0, COUNT, FIELD(keep_bytes), BUFFER,
     "each chunk gets memory of its own, which is freed when N more bytes have come (default: each chunk "
     "overwrites the last one)"},
    {"rcvlowat", "N", RECEIVE, 0, COUNT, FIELD(rcvlowat), BUFFER,
     "SO_RCVLOWAT, bytes; read back (default: the kernel's)"},
    {"copy-buffer", "N", RECEIVE, 0, COUNT, FIELD(copy_buffer), 1, UINT64_C(1) << 30, COPY_BUFFER,
     "map_once_hybrid: bytes the kernel may copy in the same call; below one page, since a larger one makes "
     "it copy what could be mapped (default: one page less one byte)"},
    {"pace-gbit", "G", SEND, 0, DECIMAL, FIELD(pace_gbit), 0, 1000000, "a number of Gbit/s, 0 or more",
     "payload rate, Gbit/s (10^9 bits); 0: not limited (default 0)"},
    {"warmup", "S", ALL, 0, SECONDS, FIELD(warmup_ns), ANY_SECONDS,
     "seconds discarded from the first payload byte on, or from the end of the first RPC (default 0)"},
    {"seconds", "S", ALL, RPC, SECONDS, FIELD(seconds_ns), SOME_SECONDS,
     "length of the measured window, seconds; receive and send: this or --bytes"},
    {"bytes", "N", BULK, 0, COUNT, FIELD(bytes), 1, MAX_BYTES, "a number of bytes, 1 or more",
     "transfer exactly N bytes; the window is the whole transfer"},
    {"rcvbuf", "N", RECEIVE, 0, COUNT, FIELD(rcvbuf), BUFFER, "SO_RCVBUF, bytes (default: automatic)"},
    {"sndbuf", "N", SEND, 0, COUNT, FIELD(sndbuf), BUFFER, "SO_SNDBUF, bytes (default: automatic)"},
    {"inflight-bytes", "N", SEND, 0, COUNT, FIELD(inflight_bytes), BUFFER,
     "what zerocopy may have in flight, at least two messages (default 16777216); only with --verify are "
     "that many buffers written to, else one is sent again and again"},
    {"no-cork", NULL, SEND, 0, OFF, FIELD(cork), SWITCH,
     "let segments end where the receive window ends, not only at full size; costs mapped pages"},
    {"margin", "S", CONNECTS, 0, SECONDS, FIELD(margin_ns), ANY_SECONDS,
     "after the own window go on for at most this many seconds until the other end says that its window "
     "closed (default 5)"},
    {"accept-timeout", "S", LISTENS, 0, SECONDS, FIELD(accept_timeout_ns), SOME_SECONDS,
     "seconds to wait for the right peer (default 30)"},
    {"connect-timeout", "S", CONNECTS, 0, SECONDS, FIELD(connect_timeout_ns), SOME_SECONDS,
     "seconds to wait for the connection and the other end's go (default 10)"},
    {"idle-timeout", "S", ALL, 0, SECONDS, FIELD(idle_timeout_ns), SOME_SECONDS,
     "give up after this many seconds without progress (default 10)"},
    {"watch-stdin", NULL, ALL, 0, ON, FIELD(watch_stdin), SWITCH,
     "end, as by SIGTERM, when standard input ends: nothing stays behind a lost ssh connection"},
    {"streams", "N", BULK, 0, COUNT, FIELD(streams), 1, STREAMS_MAX, "1 to 64",
     "parallel streams, each with a connection and a thread of its own; the same at both ends; --bytes and "
     "--pace-gbit are those of all together (default 1)"},
    {"cpus", "LIST", ALL, 0, CPUS, FIELD(affinity), 0, 0, "a list of processors, such as 0,2-3",
     "processors, such as 0,2-3: stream i runs on the i-th, starting over after the last one (default: any)"},
    {"baseline", "S", ALL, 0, SECONDS, FIELD(baseline_ns), ANY_SECONDS,
     "watch this host's processors for S seconds before payload starts, with the connections idle; the same "
     "at both ends (default 0: not at all)"},
    {"inject-usec-per-mib", "N", RECEIVE, 0, DECIMAL, FIELD(inject_usec_per_mib), 0, 1000000,
     "a number of microseconds, at most 1000000",
     "to test comparisons: burn N microseconds of CPU for each MiB received"},
    {"verify", NULL, BULK, 0, ON, FIELD(verify), SWITCH,
     "check integrity: every byte says where it belongs and the receiver checks each one; takes CPU at both "
     "ends"},
    {"inject-wrong-byte", "OFFSET", SEND, 0, COUNT, FIELD(inject_wrong_byte), 0, MAX_BYTES,
     "the offset of a byte, 0 or more", "to test --verify: flip the byte at this offset of stream 0"},
    {"inject-early-reuse", NULL, SEND, 0, ON, FIELD(inject_early_reuse), SWITCH,
     "to test --verify: overwrite one buffer of stream 0 before its zerocopy completion"},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const char *const end_names[] = {
    [END_RECEIVE] = "receive",
    [END_SEND] = "send",
    [END_RPC_SERVE] = "rpc-serve",
    [END_RPC_CALL] = "rpc-call",
};
static const char *const end_help[] = {
    [END_RECEIVE] = "Serve one session: take its payload, print one JSON document on stdout.",
    [END_SEND] = "Run one session: send its payload, print one JSON document on stdout.",
    [END_RPC_SERVE] =
        "Serve one session: answer each request with a reply, print one JSON document on stdout.",
    [END_RPC_CALL] =
        "Run one session: send requests one after another, each when the reply to the one before is there,\n"
        "print one JSON document on stdout.",
};

__attribute__((format(printf, 1, 2))) static enum parsed wrong(const char *format, ...)
{
    va_list args;

    fputs("zclab-traffic: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return PARSED_WRONG;
}

static void help_wrapped(const char *text)
{
    const size_t width = 76;

    while (*text) {
        size_t length = strlen(text);

        if (length > width) {
            length = width;
            while (length > 1 && text[length] != ' ')
                length--;
        }
        printf("        %.*s\n", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static void help_modes(enum end end)
{
    puts("\nmodes:");
    if (end == END_RECEIVE)
        for (const struct receive_mode *mode = receive_modes; mode->name; mode++)
            printf("  %-16s %s\n", mode->name, mode->help);
    else if (end == END_SEND)
        for (const struct send_mode *mode = send_modes; mode->name; mode++)
            printf("  %-16s %s\n", mode->name, mode->help);
    else
        for (const struct rpc_mode *mode = rpc_modes; mode->name; mode++) {
            printf("  %s\n", mode->name);
            help_wrapped(mode->help);
        }
}

static void help_end(enum end end)
{
    printf("usage: zclab-traffic %s OPTIONS\n\n%s\n\noptions (* = required):\n", end_names[end],
           end_help[end]);
    for (const struct row *row = rows; row < rows + ROWS; row++) {
        if (!(row->ends & (1u << end)))
            continue;
        printf("  --%s%s%s%s\n", row->name, row->value ? " " : "", row->value ? row->value : "",
               row->required & (1u << end) ? " *" : "");
        help_wrapped(row->help);
    }
    help_modes(end);
    puts("\nexit: 0 complete, 2 usage error, 3 any other outcome (the document says which)");
}

static void help_main(void)
{
    puts("usage: zclab-traffic receive|send|rpc-serve|rpc-call OPTIONS\n"
         "       zclab-traffic receive|send|rpc-serve|rpc-call --help\n"
         "       zclab-traffic --version\n\n"
         "Moves one TCP stream between two hosts, with or without zero-copy, and measures its own end;\n"
         "or the same with small messages that go back and forth (rpc-serve, rpc-call).\n\n"
         "example, one terminal each:\n"
         "  zclab-traffic receive --bind fd00::2 --peer fd00::1 --port 5900 --token 0011223344556677 \\\n"
         "      --mode map_once --rcvlowat 524288 --warmup 1 --seconds 10\n"
         "  zclab-traffic send --bind fd00::1 --peer fd00::2 --port 5900 --token 0011223344556677 \\\n"
         "      --mode zerocopy --message-bytes 524288 --warmup 1 --seconds 10");
}

/* Plain decimal digits only, within [low, high]. */
static bool read_count(const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 19 || text[digits])
        return false;
    *value = strtoull(text, NULL, 10);
    return *value >= low && *value <= high;
}

/* Plain decimal with an optional point, within [0, high]. */
static bool read_decimal(const char *text, double high, double *value)
{
    char *end;

    if (!*text || text[strspn(text, "0123456789.")])
        return false;
    *value = strtod(text, &end);
    return !*end && end != text && *value <= high;
}

static bool read_token(const char *text, struct options *options)
{
    size_t digits = strlen(text);

    if (digits % 2 || digits < 2 * TOKEN_MIN || digits > 2 * TOKEN_MAX ||
        text[strspn(text, "0123456789abcdefABCDEF")])
        return false;
    for (size_t i = 0; i < digits / 2; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};

        options->token[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    options->token_bytes = digits / 2;
    return true;
}

static const char *find_mode(enum end end, const char *name)
{
    if (end == END_RECEIVE) {
        const struct receive_mode *mode = receive_mode_find(name);

        return mode ? mode->name : NULL;
    }
    if (end == END_SEND) {
        const struct send_mode *mode = send_mode_find(name);

        return mode ? mode->name : NULL;
    }
    const struct rpc_mode *mode = rpc_mode_find(name);

    return mode ? mode->name : NULL;
}

static bool read_seconds(const char *text, uint64_t least_ms, int64_t *ns)
{
    double value;

    if (!read_decimal(text, MAX_SECONDS, &value) || value * 1e3 < (double)least_ms)
        return false;
    *ns = (int64_t)(value * 1e9);
    return true;
}

/* Reads the value of one option into its field. */
static bool read_value(struct options *options, const struct row *row, const char *text)
{
    void *const field = (char *)options + row->field;
    uint64_t count;

    switch (row->kind) {
    case ON:
    case OFF:
        *(bool *)field = row->kind == ON;
        return true;
    case COUNT:
        if (!read_count(text, row->low, row->high, &count))
            return false;
        if (row->bytes == sizeof(uint16_t))
            *(uint16_t *)field = (uint16_t)count;
        else if (row->bytes == sizeof(int))
            *(int *)field = (int)count;
        else
            *(uint64_t *)field = count;
        return true;
    case DECIMAL:
        return read_decimal(text, (double)row->high, field);
    case SECONDS:
        return read_seconds(text, row->low, field);
    case ADDRESS:
        return address_parse(field, text);
    case TOKEN:
        return read_token(text, options);
    case MODE:
        return (options->mode = find_mode(options->end, text)) != NULL;
    case CPUS:
        return affinity_parse(field, text);
    }
    return false;
}

/* What no single option shows. */
static enum parsed check(struct options *options, const bool seen[ROWS])
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const char *const end = end_names[options->end];
    const unsigned int bit = 1u << options->end;

    for (int i = 0; i < ROWS; i++)
        if ((rows[i].required & bit) && !seen[i])
            return wrong("%s needs --%s (see zclab-traffic %s --help)", end, rows[i].name, end);
    if (options->bind.any.sa_family != options->peer.any.sa_family)
        return wrong("--bind and --peer: must be of the same IP version");
    address_set_port(CONNECTS & bit ? &options->peer : &options->bind, options->port);
    if (RPC & bit)
        return PARSED_RUN;
    if (!options->seconds_ns == !options->bytes)
        return wrong("%s needs exactly one of --seconds and --bytes", end);
    if (options->bytes && options->warmup_ns)
        return wrong("--warmup: goes with --seconds only; with --bytes the window is the whole transfer");
    if (options->bytes && options->bytes < (uint64_t)options->streams)
        return wrong("--bytes %" PRIu64 ": must be at least one for each of the %d streams", options->bytes,
                     options->streams);
    if (options->end == END_RECEIVE) {
        const struct receive_mode *mode = receive_mode_find(options->mode);

        if (mode->maps && options->chunk_bytes % page)
            return wrong("--chunk-bytes %zu: must be a multiple of the page size (%zu) for a mode that maps",
                         options->chunk_bytes, page);
        if (options->copy_buffer && !mode->copy_buffer)
            return wrong("--copy-buffer: goes with --mode map_once_hybrid only");
        if (options->copy_buffer >= page)
            return wrong("--copy-buffer %zu: must be " COPY_BUFFER, options->copy_buffer);
        if (mode->copy_buffer && !options->copy_buffer)
            options->copy_buffer = page - 1;
        if ((options->header_bytes || options->message_bytes) && !mode->framing)
            return wrong("--%s: the receiver takes it with --mode map_each only",
                         options->header_bytes ? "header-bytes" : "message-bytes");
        if (options->header_bytes && !options->message_bytes)
            return wrong("--header-bytes: needs --message-bytes too, to know where the next header is");
    } else {
        const bool wrong_byte = options->inject_wrong_byte != NO_OFFSET;

        if ((wrong_byte || options->inject_early_reuse) && !options->verify)
            return wrong("--inject-%s: goes with --verify only", wrong_byte ? "wrong-byte" : "early-reuse");
        if (wrong_byte && options->bytes && options->inject_wrong_byte >= options->bytes)
            return wrong("--inject-wrong-byte %" PRIu64 ": must be below --bytes (%" PRIu64 ")",
                         options->inject_wrong_byte, options->bytes);
        if (options->inject_early_reuse && strcmp(options->mode, "zerocopy"))
            return wrong("--inject-early-reuse: goes with --mode zerocopy only");
        if (options->inflight_bytes && options->inflight_bytes < 2 * options->message_bytes)
            return wrong("--inflight-bytes %zu: must hold at least two messages of %zu bytes",
                         options->inflight_bytes, options->message_bytes);
        if (!options->inflight_bytes)
            options->inflight_bytes = 16 << 20;
    }
    return PARSED_RUN;
}

static bool find_end(const char *name, enum end *end)
{
    for (size_t i = 0; i < sizeof(end_names) / sizeof(end_names[0]); i++)
        if (!strcmp(name, end_names[i])) {
            *end = (enum end)i;
            return true;
        }
    return false;
}

/* The index of the option that `length` bytes of `text` name; ROWS if this subcommand has no such option. */
static int find_row(enum end end, const char *text, size_t length)
{
    const int old = strncmp(text, "--plant-", 8) ? 0 : 8; /* --inject-* of before: taken for one more release */
    char name[64];
    int i = 0;

    snprintf(name, sizeof(name), "%s%.*s", old ? "--inject-" : "", (int)length - old, text + old);
    if (strncmp(name, "--", 2))
        return ROWS;
    while (i < ROWS && (!(rows[i].ends & (1u << end)) || strcmp(name + 2, rows[i].name)))
        i++;
    return i;
}

static bool is_help(const char *text)
{
    return !strcmp(text, "--help") || !strcmp(text, "-h");
}

enum parsed options_parse(struct options *options, int argc, char **argv)
{
    bool seen[ROWS] = {false};

    if (argc < 2)
        return wrong("needs a subcommand, receive, send, rpc-serve or rpc-call (see zclab-traffic --help)");
    if (!strcmp(argv[1], "--version")) {
        puts("zclab-traffic " ZCLAB_TRAFFIC_VERSION);
        return PARSED_HELP;
    }
    if (is_help(argv[1])) {
        help_main();
        return PARSED_HELP;
    }
    *options = (struct options){
        .streams = 1,
        .chunk_bytes = 512 << 10,
        .cork = true,
        .margin_ns = 5 * NS_PER_S,
        .accept_timeout_ns = 30 * NS_PER_S,
        .connect_timeout_ns = 10 * NS_PER_S,
        .idle_timeout_ns = 10 * NS_PER_S,
        .inject_wrong_byte = NO_OFFSET,
    };
    if (!find_end(argv[1], &options->end))
        return wrong("%s: unknown subcommand, must be receive, send, rpc-serve or rpc-call (see "
                     "zclab-traffic --help)",
                     argv[1]);

    for (int i = 2; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        const size_t length = value ? (size_t)(value - argv[i]) : strlen(argv[i]);
        const int found = find_row(options->end, argv[i], length);
        const struct row *row = &rows[found];

        if (is_help(argv[i])) {
            help_end(options->end);
            return PARSED_HELP;
        }
        if (found == ROWS)
            return wrong("%.*s: unknown option of %s (see zclab-traffic %s --help)", (int)length, argv[i],
                         end_names[options->end], end_names[options->end]);
        if (seen[found])
            return wrong("--%s: given twice", row->name);
        seen[found] = true;
        if (!row->value && value)
            return wrong("--%s: takes no value", row->name);
        value = value ? value + 1 : row->value && ++i < argc ? argv[i] : NULL;
        if (row->value && !value)
            return wrong("--%s: needs a value (%s)", row->name, row->value);
        if (!read_value(options, row, value))
            return row->kind == TOKEN ? wrong("--token: must be %s", row->wanted) /* a secret is not shown */
                                      : wrong("--%s %s: must be %s", row->name, value, row->wanted);
    }
    return check(options, seen);
}
