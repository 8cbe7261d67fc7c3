/* SPDX-License-Identifier: Apache-2.0 */
#include "command_line.h"

#include "clock.h"
#include "receive_modes.h"
#include "rpc_modes.h"
#include "send_modes.h"
#include "group.h"
#include "version.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES (UINT64_C(1) << 62)
#define MAX_BUFFER (UINT64_C(1) << 30)
#define MAX_RPC_MESSAGE (UINT64_C(1) << 20)
#define MAX_SECONDS 1e6

enum id {
    ID_BIND,
    ID_PEER,
    ID_PORT,
    ID_TOKEN,
    ID_MODE,
    ID_CHUNK,
    ID_MESSAGE,
    ID_HEADER,
    ID_REQUEST,
    ID_REPLY,
    ID_KEEP,
    ID_RCVLOWAT,
    ID_COPY_BUFFER,
    ID_PACE,
    ID_WARMUP,
    ID_SECONDS,
    ID_BYTES,
    ID_RCVBUF,
    ID_SNDBUF,
    ID_INFLIGHT,
    ID_NO_CORK,
    ID_MARGIN,
    ID_ACCEPT_TIMEOUT,
    ID_CONNECT_TIMEOUT,
    ID_IDLE_TIMEOUT,
    ID_WATCH_STDIN,
    ID_STREAMS,
    ID_CPUS,
    ID_BASELINE,
    ID_INJECT_CPU,
    ID_VERIFY,
    ID_WRONG_BYTE,
    ID_EARLY_REUSE,
    ID_COUNT
};

#define RECEIVE (1u << END_RECEIVE)
#define SEND (1u << END_SEND)
#define BULK (RECEIVE | SEND)
#define RPC_SERVE (1u << END_RPC_SERVE)
#define RPC_CALL (1u << END_RPC_CALL)
#define RPC (RPC_SERVE | RPC_CALL)
#define LISTENS (RECEIVE | RPC_SERVE)
#define CONNECTS (SEND | RPC_CALL)
#define ALL (BULK | RPC)

/* One row an option: the parser and --help both read it. A row without `value` is a switch. */
struct row {
    const char *name;
    const char *value;
    unsigned int ends;     /* where it is known */
    unsigned int required; /* where it must be given */
    const char *help;
};

static const struct row rows[ID_COUNT] = {
    [ID_BIND] = {"bind", "ADDR", ALL, ALL, "own address, numeric IPv4 or IPv6; no other is used"},
    [ID_PEER] = {"peer", "ADDR", ALL, ALL, "address of the other end"},
    [ID_PORT] = {"port", "N", ALL, CONNECTS,
                 "TCP port of the end that listens (receive, rpc-serve); 0 there: pick one (default 0)"},
    [ID_TOKEN] = {"token", "HEX", ALL, ALL, "session token, the same at both ends, 16 to 64 hex digits"},
    [ID_MODE] = {"mode", "MODE", ALL, ALL, "how to move data, see below"},
    [ID_CHUNK] = {"chunk-bytes", "N", RECEIVE, 0,
                  "bytes asked per receive call, and size of the standing mapping (default 524288)"},
    [ID_KEEP] = {"keep-bytes", "N", RECEIVE, 0,
                 "each chunk goes to memory of its own, which is given back when N more bytes have come; else "
                 "all go to the same memory"},
    [ID_RCVLOWAT] = {"rcvlowat", "N", RECEIVE, 0, "SO_RCVLOWAT, bytes; read back (default: the kernel's)"},
    [ID_COPY_BUFFER] =
        {"copy-buffer", "N", RECEIVE, 0,
         "map_once_hybrid: bytes the kernel may copy in the same call; below one page, since a "
         "larger one makes it copy what could be mapped (default: one page less one byte)"},
    [ID_MESSAGE] = {"message-bytes", "N", BULK, SEND,
                    "bytes given to each send call; at the receiver, for map_each, see --header-bytes"},
    [ID_HEADER] = {"header-bytes", "N", BULK, 0,
                   "sender: a header of N bytes in front of each message, sent by copying; header and "
                   "message each end a record (MSG_EOR), so that no segment holds parts of both. Receiver: "
                   "map_each has to be told, with --message-bytes, to know where pages begin (default: no "
                   "headers)"},
    [ID_REQUEST] = {"request-bytes", "N", RPC, RPC,
                    "size of a request, 1 to 1048576; the same at both ends"},
    [ID_REPLY] = {"reply-bytes", "N", RPC, RPC, "size of a reply, 1 to 1048576; the same at both ends"},
    [ID_PACE] = {"pace-gbit", "G", SEND, 0,
                 "payload rate, Gbit/s (10^9 bits); 0 or absent: as fast as it goes"},
    [ID_WARMUP] = {"warmup", "S", ALL, 0,
                   "seconds discarded from the first payload byte on, or from the end of the first RPC "
                   "(default 0)"},
    [ID_SECONDS] = {"seconds", "S", ALL, RPC,
                    "length of the measured window, seconds; receive and send: this or --bytes"},
    [ID_BYTES] = {"bytes", "N", BULK, 0, "transfer exactly N bytes; the window is the whole transfer"},
    [ID_RCVBUF] = {"rcvbuf", "N", RECEIVE, 0, "SO_RCVBUF, bytes (default: automatic)"},
    [ID_SNDBUF] = {"sndbuf", "N", SEND, 0, "SO_SNDBUF, bytes (default: automatic)"},
    [ID_INFLIGHT] = {"inflight-bytes", "N", SEND, 0,
                     "what zerocopy may have in flight, at least two messages (default 16777216); only with "
                     "--verify are that many buffers written to, else one is sent again and again"},
    [ID_NO_CORK] =
        {"no-cork", NULL, SEND, 0,
         "let segments end where the receive window ends, not only at full size; costs mapped pages"},
    [ID_MARGIN] =
        {"margin", "S", CONNECTS, 0,
         "after the own window go on for at most this many seconds until the other end says that its window "
         "closed (default 5)"},
    [ID_ACCEPT_TIMEOUT] = {"accept-timeout", "S", LISTENS, 0,
                           "seconds to wait for the right peer (default 30)"},
    [ID_CONNECT_TIMEOUT] = {"connect-timeout", "S", CONNECTS, 0,
                            "seconds to wait for the connection and the other end's go (default 10)"},
    [ID_IDLE_TIMEOUT] = {"idle-timeout", "S", ALL, 0,
                         "give up after this many seconds without progress (default 10)"},
    [ID_WATCH_STDIN] =
        {"watch-stdin", NULL, ALL, 0,
         "end, as by SIGTERM, when standard input ends: nothing stays behind a lost ssh connection"},
    [ID_STREAMS] = {"streams", "N", BULK, 0,
                    "parallel streams, each with a connection and a thread of its own; the same at both "
                    "ends; --bytes and --pace-gbit are those of all together (default 1)"},
    [ID_CPUS] = {"cpus", "LIST", ALL, 0,
                 "processors, such as 0,2-3: stream i runs on the i-th, beginning again at the end (default: "
                 "any)"},
    [ID_BASELINE] = {"baseline", "S", ALL, 0,
                     "watch this host's processors for S seconds before payload starts, with the connections "
                     "standing idle; the same at both ends (default 0: not at all)"},
    [ID_INJECT_CPU] = {"inject-usec-per-mib", "N", RECEIVE, 0,
                      "to test comparisons: burn N microseconds of CPU for each MiB received"},
    [ID_VERIFY] = {"verify", NULL, BULK, 0,
                   "check integrity: every byte says where it belongs and the receiver looks at each one; "
                   "takes CPU at both ends"},
    [ID_WRONG_BYTE] = {"inject-wrong-byte", "OFFSET", SEND, 0,
                       "to test --verify: flip the byte at this offset of stream 0"},
    [ID_EARLY_REUSE] = {"inject-early-reuse", NULL, SEND, 0,
                        "to test --verify: overwrite one buffer of stream 0 before its zerocopy completion"},
};

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
    for (int id = 0; id < ID_COUNT; id++) {
        const struct row *row = &rows[id];

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

static bool connects(const struct options *options)
{
    return CONNECTS & (1u << options->end);
}

static enum parsed bad_value(const struct row *row, const char *text, const char *wanted)
{
    return wrong("--%s %s: must be %s", row->name, text, wanted);
}

/* Takes one value into `options`. Ranges are checked here, relations between options in check(). */
static enum parsed take(struct options *options, enum id id, const char *text, uint16_t *port)
{
    const struct row *row = &rows[id];
    uint64_t count = 0;
    double decimal = 0;

    switch (id) {
    case ID_BIND:
    case ID_PEER:
        if (!address_parse(id == ID_BIND ? &options->bind : &options->peer, text))
            return bad_value(row, text, "a numeric IPv4 or IPv6 address (link-local: with %interface)");
        break;
    case ID_PORT:
        if (!read_count(text, connects(options) ? 1 : 0, 65535, &count))
            return bad_value(row, text, connects(options) ? "1 to 65535" : "0 to 65535");
        *port = (uint16_t)count;
        break;
    case ID_TOKEN:
        if (!read_token(text, options))
            return wrong("--token: must be 16 to 64 hex digits, an even number of them");
        break;
    case ID_MODE:
        options->mode = find_mode(options->end, text);
        if (!options->mode)
            return bad_value(row, text, "one of the modes listed by --help");
        break;
    case ID_CHUNK:
    case ID_MESSAGE:
    case ID_HEADER:
    case ID_INFLIGHT:
    case ID_KEEP:
        if (!read_count(text, 1, MAX_BUFFER, &count))
            return bad_value(row, text, "1 to 1073741824 bytes");
        *(id == ID_CHUNK     ? &options->chunk_bytes
          : id == ID_MESSAGE ? &options->message_bytes
          : id == ID_HEADER  ? &options->header_bytes
          : id == ID_KEEP    ? &options->keep_bytes
                             : &options->inflight_bytes) = count;
        break;
    case ID_REQUEST:
    case ID_REPLY:
        if (!read_count(text, 1, MAX_RPC_MESSAGE, &count))
            return bad_value(row, text, "1 to 1048576 bytes");
        *(id == ID_REQUEST ? &options->request_bytes : &options->reply_bytes) = count;
        break;
    case ID_RCVLOWAT:
    case ID_RCVBUF:
    case ID_SNDBUF:
        if (!read_count(text, 1, MAX_BUFFER, &count))
            return bad_value(row, text, "1 to 1073741824 bytes");
        *(id == ID_RCVLOWAT ? &options->rcvlowat
          : id == ID_RCVBUF ? &options->rcvbuf
                            : &options->sndbuf) = (int)count;
        break;
    case ID_COPY_BUFFER:
        if (!read_count(text, 1, MAX_BUFFER, &count) || count >= (uint64_t)sysconf(_SC_PAGESIZE))
            return bad_value(row, text,
                             "at least 1 and below one page: a larger one makes the kernel copy what it "
                             "could map");
        options->copy_buffer = count;
        break;
    case ID_BYTES:
        if (!read_count(text, 1, MAX_BYTES, &options->bytes))
            return bad_value(row, text, "a number of bytes, 1 or more");
        break;
    case ID_PACE:
        if (!read_decimal(text, 1e6, &options->pace_gbit))
            return bad_value(row, text, "a number of Gbit/s, 0 or more");
        break;
    case ID_WARMUP:
    case ID_SECONDS:
    case ID_MARGIN:
    case ID_ACCEPT_TIMEOUT:
    case ID_CONNECT_TIMEOUT:
    case ID_BASELINE:
    case ID_IDLE_TIMEOUT: {
        int64_t *field = id == ID_WARMUP            ? &options->warmup_ns
                         : id == ID_SECONDS         ? &options->seconds_ns
                         : id == ID_MARGIN          ? &options->margin_ns
                         : id == ID_BASELINE        ? &options->baseline_ns
                         : id == ID_ACCEPT_TIMEOUT  ? &options->accept_timeout_ns
                         : id == ID_CONNECT_TIMEOUT ? &options->connect_timeout_ns
                                                    : &options->idle_timeout_ns;
        bool zero_allowed = id == ID_WARMUP || id == ID_MARGIN || id == ID_BASELINE;

        if (!read_decimal(text, MAX_SECONDS, &decimal) || (!zero_allowed && decimal < 0.001))
            return bad_value(row, text,
                             zero_allowed ? "a number of seconds, 0 or more"
                                          : "a number of seconds, 0.001 or more");
        *field = (int64_t)(decimal * 1e9);
        break;
    }
    case ID_STREAMS:
        if (!read_count(text, 1, STREAMS_MAX, &count))
            return bad_value(row, text, "1 to 64");
        options->streams = (int)count;
        break;
    case ID_CPUS:
        if (!affinity_parse(&options->affinity, text))
            return bad_value(row, text, "a list of processors, such as 0,2-3");
        break;
    case ID_INJECT_CPU:
        if (!read_decimal(text, 1e6, &options->inject_usec_per_mib))
            return bad_value(row, text, "a number of microseconds, at most 1000000");
        break;
    case ID_NO_CORK:
        options->cork = false;
        break;
    case ID_WATCH_STDIN:
        options->watch_stdin = true;
        break;
    case ID_VERIFY:
        options->verify = true;
        break;
    case ID_WRONG_BYTE:
        if (!read_count(text, 0, MAX_BYTES, &options->wrong_byte))
            return bad_value(row, text, "the offset of a byte, 0 or more");
        options->inject_wrong_byte = true;
        break;
    case ID_EARLY_REUSE:
        options->inject_early_reuse = true;
        break;
    case ID_COUNT:
        break;
    }
    return PARSED_RUN;
}

/* What no single option shows. */
static enum parsed check(struct options *options, const bool seen[ID_COUNT], uint16_t port)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (int id = 0; id < ID_COUNT; id++)
        if ((rows[id].required & (1u << options->end)) && !seen[id])
            return wrong("%s needs --%s (see zclab-traffic %s --help)", end_names[options->end],
                         rows[id].name, end_names[options->end]);
    if (options->bind.any.sa_family != options->peer.any.sa_family)
        return wrong("--bind and --peer: must be of the same IP version");
    address_set_port(connects(options) ? &options->peer : &options->bind, port);
    if (RPC & (1u << options->end))
        return PARSED_RUN;
    if (seen[ID_SECONDS] == seen[ID_BYTES])
        return wrong("%s needs exactly one of --seconds and --bytes", end_names[options->end]);
    if (seen[ID_BYTES] && options->warmup_ns)
        return wrong("--warmup: goes with --seconds only; with --bytes the window is the whole transfer");
    if (options->bytes && options->bytes < (uint64_t)options->streams)
        return wrong("--bytes %" PRIu64 ": must be at least one for each of the %d streams", options->bytes,
                     options->streams);
    if (options->end == END_RECEIVE) {
        const struct receive_mode *mode = receive_mode_find(options->mode);

        if (mode->maps && options->chunk_bytes % page)
            return wrong("--chunk-bytes %zu: must be a multiple of the page size (%zu) for a mode that maps",
                         options->chunk_bytes, page);
        if (seen[ID_COPY_BUFFER] && !mode->copy_buffer)
            return wrong("--copy-buffer: goes with --mode map_once_hybrid only");
        if (mode->copy_buffer && !seen[ID_COPY_BUFFER])
            options->copy_buffer = page - 1;
        if ((seen[ID_HEADER] || seen[ID_MESSAGE]) && !mode->framing)
            return wrong("--%s: the receiver has to be told with --mode map_each only",
                         rows[seen[ID_HEADER] ? ID_HEADER : ID_MESSAGE].name);
        if (seen[ID_HEADER] && !seen[ID_MESSAGE])
            return wrong("--header-bytes: needs --message-bytes too, to know where the next header is");
    } else {
        if ((options->inject_wrong_byte || options->inject_early_reuse) && !options->verify)
            return wrong("--%s: goes with --verify only",
                         rows[options->inject_wrong_byte ? ID_WRONG_BYTE : ID_EARLY_REUSE].name);
        if (options->inject_wrong_byte && options->bytes && options->wrong_byte >= options->bytes)
            return wrong("--inject-wrong-byte %" PRIu64 ": must be below --bytes (%" PRIu64 ")",
                         options->wrong_byte, options->bytes);
        if (options->inject_early_reuse && strcmp(options->mode, "zerocopy"))
            return wrong("--inject-early-reuse: goes with --mode zerocopy only");
        if (seen[ID_INFLIGHT] && options->inflight_bytes < 2 * options->message_bytes)
            return wrong("--inflight-bytes %zu: must hold at least two messages of %zu bytes",
                         options->inflight_bytes, options->message_bytes);
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

enum parsed options_parse(struct options *options, int argc, char **argv)
{
    bool seen[ID_COUNT] = {false};
    uint16_t port = 0;

    if (argc < 2)
        return wrong("needs a subcommand, receive, send, rpc-serve or rpc-call (see zclab-traffic --help)");
    if (!strcmp(argv[1], "--version")) {
        puts("zclab-traffic " ZCLAB_TRAFFIC_VERSION);
        return PARSED_HELP;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        help_main();
        return PARSED_HELP;
    }
    *options = (struct options){
        .streams = 1,
        .chunk_bytes = 512 << 10,
        .inflight_bytes = 16 << 20,
        .cork = true,
        .margin_ns = 5 * NS_PER_S,
        .accept_timeout_ns = 30 * NS_PER_S,
        .connect_timeout_ns = 10 * NS_PER_S,
        .idle_timeout_ns = 10 * NS_PER_S,
    };
    if (!find_end(argv[1], &options->end))
        return wrong("%s: unknown subcommand, must be receive, send, rpc-serve or rpc-call (see "
                     "zclab-traffic --help)",
                     argv[1]);

    for (int i = 2; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        size_t length = value ? (size_t)(value - argv[i]) : strlen(argv[i]);
        enum parsed parsed;
        int id;

        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            help_end(options->end);
            return PARSED_HELP;
        }
        for (id = 0; id < ID_COUNT; id++)
            if ((rows[id].ends & (1u << options->end)) && length > 2 && !strncmp(argv[i], "--", 2) &&
                strlen(rows[id].name) == length - 2 && !strncmp(argv[i] + 2, rows[id].name, length - 2))
                break;
        if (id == ID_COUNT)
            return wrong("%.*s: unknown option of %s (see zclab-traffic %s --help)", (int)length, argv[i],
                         end_names[options->end], end_names[options->end]);
        if (seen[id])
            return wrong("--%s: given twice", rows[id].name);
        seen[id] = true;
        if (!rows[id].value) {
            if (value)
                return wrong("--%s: takes no value", rows[id].name);
        } else if (value) {
            value++;
        } else if (++i < argc) {
            value = argv[i];
        } else {
            return wrong("--%s: needs a value (%s)", rows[id].name, rows[id].value);
        }
        parsed = take(options, (enum id)id, value, &port);
        if (parsed != PARSED_RUN)
            return parsed;
    }
    return check(options, seen, port);
}
