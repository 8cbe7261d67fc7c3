/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "clock.h"
#include "receive_modes.h"
#include "version.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* Has this kernel filled the field? Older ones know a shorter structure. */
#define HAS(sample, field)                                                                                   \
    ((sample)->length >= offsetof(struct tcp_info, field) + sizeof((sample)->info.field))
#define FIELD(json, key, sample, field) json_count(json, key, HAS(sample, field), (sample)->info.field)
#define CHANGE(json, key, from, to, field)                                                                   \
    json_count(json, key, HAS(from, field) && HAS(to, field),                                                \
               (uint64_t)((to)->info.field - (from)->info.field))

static int64_t nanoseconds(struct timeval time)
{
    return time.tv_sec * NS_PER_S + time.tv_usec * 1000;
}

static void put_int(struct json *json, const char *key, int value)
{
    json_count(json, key, value >= 0, (uint64_t)value);
}

void report_addresses(struct json *json, const struct session *session)
{
    char text[ADDRESS_TEXT];

    json_open(json, "addresses");
    if (session->connected) {
        json_string(json, "local", address_text(&session->local, text));
        json_integer(json, "local_port", address_port(&session->local));
        json_string(json, "peer", address_text(&session->remote, text));
        json_integer(json, "peer_port", address_port(&session->remote));
    } else {
        json_null(json, "local");
        json_null(json, "local_port");
        json_null(json, "peer");
        json_null(json, "peer_port");
    }
    json_integer(json, "ip_version", address_ip_version(&session->options->bind));
    json_close(json);
}

static void put_bytes(struct json *json, bool known, bool receiver, const struct counters *from,
                      const struct counters *to)
{
    json_count(json, "bytes", known, to->bytes - from->bytes);
    json_count(json, "mapped_bytes", known && receiver, to->mapped - from->mapped);
    json_count(json, "copied_bytes", known && receiver, to->copied - from->copied);
}

void report_cpu(struct json *json, const struct session *session, bool known)
{
    const struct snapshot *open = &session->window.open, *close = &session->window.close;
    const struct rusage *from = &open->usage, *to = &close->usage;

    json_open(json, "cpu");
    json_seconds(json, "user_s", known, nanoseconds(to->ru_utime) - nanoseconds(from->ru_utime));
    json_seconds(json, "system_s", known, nanoseconds(to->ru_stime) - nanoseconds(from->ru_stime));
    json_count(json, "voluntary_context_switches", known, (uint64_t)(to->ru_nvcsw - from->ru_nvcsw));
    json_count(json, "involuntary_context_switches", known, (uint64_t)(to->ru_nivcsw - from->ru_nivcsw));
    json_close(json);

    const long ticks = sysconf(_SC_CLK_TCK);
    const bool host = known && open->host.known && close->host.known && ticks > 0;
    const int64_t tick_ns = ticks > 0 ? NS_PER_S / ticks : 0;

    json_open(json, "host_cpu");
    json_seconds(json, "busy_s", host, (int64_t)(close->host.busy - open->host.busy) * tick_ns);
    json_seconds(json, "softirq_s", host, (int64_t)(close->host.softirq - open->host.softirq) * tick_ns);
    json_count(json, "cpus", host, (uint64_t)close->host.cpus);
    json_close(json);
}

/* What the connection did between two samples. */
static void put_tcp_change(struct json *json, const char *key, const struct tcp_sample *from,
                           const struct tcp_sample *to)
{
    json_open(json, key);
    CHANGE(json, "retransmits", from, to, tcpi_total_retrans);
    CHANGE(json, "segs_in", from, to, tcpi_segs_in);
    CHANGE(json, "segs_out", from, to, tcpi_segs_out);
    CHANGE(json, "data_segs_in", from, to, tcpi_data_segs_in);
    CHANGE(json, "data_segs_out", from, to, tcpi_data_segs_out);
    CHANGE(json, "bytes_sent", from, to, tcpi_bytes_sent);
    CHANGE(json, "bytes_retransmitted", from, to, tcpi_bytes_retrans);
    CHANGE(json, "busy_us", from, to, tcpi_busy_time);
    CHANGE(json, "receive_window_limited_us", from, to, tcpi_rwnd_limited);
    CHANGE(json, "send_buffer_limited_us", from, to, tcpi_sndbuf_limited);
    json_close(json);
}

void report_tcp(struct json *json, const struct session *session, bool windowed)
{
    static const struct tcp_sample unknown, zero = {.length = sizeof(struct tcp_info)};
    /* Gauges as of the end of the window: after the end of the stream they say little. */
    const struct tcp_sample *gauge = windowed ? &session->window.close.tcp : &session->final;
    const bool options = HAS(gauge, tcpi_options);

    json_open(json, "tcp");
    FIELD(json, "snd_mss", gauge, tcpi_snd_mss);
    FIELD(json, "rcv_mss", gauge, tcpi_rcv_mss);
    FIELD(json, "advmss", gauge, tcpi_advmss);
    FIELD(json, "path_mtu", gauge, tcpi_pmtu);
    if (options) {
        json_bool(json, "timestamps", gauge->info.tcpi_options & TCPI_OPT_TIMESTAMPS);
        json_bool(json, "sack", gauge->info.tcpi_options & TCPI_OPT_SACK);
    } else {
        json_null(json, "timestamps");
        json_null(json, "sack");
    }
    FIELD(json, "rtt_us", gauge, tcpi_rtt);
    FIELD(json, "min_rtt_us", gauge, tcpi_min_rtt);
    FIELD(json, "snd_cwnd", gauge, tcpi_snd_cwnd);
    put_tcp_change(json, "window", windowed ? &session->window.open.tcp : &unknown,
                   windowed ? &session->window.close.tcp : &unknown);
    put_tcp_change(json, "total", &zero, &session->final);
    json_close(json);
}

static void put_receiver(struct json *json, const struct session *session, bool receiver)
{
    if (!receiver) {
        json_null(json, "rcvlowat");
        json_null(json, "refused_connections");
        return;
    }
    json_open(json, "rcvlowat");
    json_count(json, "asked", session->options->rcvlowat > 0, (uint64_t)session->options->rcvlowat);
    put_int(json, "got", session->rcvlowat);
    json_close(json);
    json_count(json, "refused_connections", true, session->refused);
}

static void put_completions(struct json *json, const struct session *session)
{
    const struct completions *completions = &session->completions;

    if (!completions->owner) {
        json_null(json, "completions");
        return;
    }
    json_open(json, "completions");
    json_count(json, "sends", true, completions->sends);
    json_count(json, "completed", true, completions->completed);
    json_count(json, "copied", true, completions->copied);
    json_count(json, "no_buffers", true, completions->no_buffers);
    json_close(json);
}

static void put_unmapped(struct json *json, bool known, const struct counters *from,
                         const struct counters *to)
{
    if (!known) {
        json_null(json, "unmapped");
        return;
    }
    json_open(json, "unmapped");
    for (int cause = 0; cause < UNMAPPED_CAUSES; cause++)
        json_count(json, unmapped_names[cause], true, to->unmapped[cause] - from->unmapped[cause]);
    json_close(json);
}

static void put_integrity(struct json *json, const struct session *session, bool receiver)
{
    const struct integrity *integrity = &session->integrity;

    if (!session->options->verify) {
        json_null(json, "integrity");
        return;
    }
    json_open(json, "integrity");
    if (!receiver) {
        json_count(json, "reused_early", true, session->reused_early);
    } else {
        json_count(json, "checked_bytes", true, integrity->checked);
        if (integrity->mismatch) {
            json_open(json, "mismatch");
            json_integer(json, "stream", integrity->stream);
            json_count(json, "offset", true, integrity->offset);
            json_integer(json, "expected", integrity->expected);
            json_integer(json, "found", integrity->found);
            json_bool(json, "mapped", integrity->mapped);
            json_close(json);
        } else {
            json_null(json, "mismatch");
        }
    }
    json_close(json);
}

bool report_print(const struct session *session)
{
    static const struct counters none;
    const struct options *options = session->options;
    const struct window *window = &session->window;
    const bool receiver = options->end == END_RECEIVE;
    const bool windowed = window->state == WINDOW_CLOSED;
    static struct json json; /* too large for some stacks */

    json = (struct json){.first = true};
    json_open(&json, NULL);
    json_integer(&json, "schema_version", 1);
    json_string(&json, "end", receiver ? "receive" : "send");
    json_string(&json, "version", ZCLAB_TRAFFIC_VERSION);
    json_string(&json, "outcome", outcome_name(session->ending.outcome));
    json_string(&json, "error", session->ending.error[0] ? session->ending.error : NULL);
    json_string(&json, "mode", options->mode);
    report_addresses(&json, session);
    json_count(&json, "message_bytes", !receiver, options->message_bytes);
    json_integer(&json, "header_bytes", (int64_t)options->header_bytes);
    json_count(&json, "chunk_bytes", receiver, options->chunk_bytes);
    json_count(&json, "copy_buffer_bytes", options->copy_buffer > 0, options->copy_buffer);
    if (options->pace_gbit > 0)
        json_decimal(&json, "pace_gbit", options->pace_gbit, 6);
    else
        json_null(&json, "pace_gbit");

    json_open(&json, "window");
    json_bool(&json, "complete", window->complete);
    json_seconds(&json, "seconds", windowed, window->close.at_ns - window->open.at_ns);
    put_bytes(&json, windowed, receiver, &window->open.counters, &window->close.counters);
    json_close(&json);
    json_open(&json, "total");
    put_bytes(&json, true, receiver, &none, &session->counters);
    json_close(&json);
    report_cpu(&json, session, windowed);
    json_count(&json, "system_calls", windowed, window->close.counters.calls - window->open.counters.calls);
    put_unmapped(&json, windowed && receiver && receive_mode_find(options->mode)->maps,
                 &window->open.counters, &window->close.counters);
    put_integrity(&json, session, receiver);
    put_completions(&json, session);
    put_receiver(&json, session, receiver);
    json_open(&json, "buffers");
    put_int(&json, "rcvbuf", session->rcvbuf);
    put_int(&json, "sndbuf", session->sndbuf);
    json_close(&json);
    report_tcp(&json, session, windowed);
    json_close(&json);
    return json_print(&json);
}
