/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "clock.h"
#include "hugepage.h"
#include "receive_modes.h"
#include "version.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* Has this kernel filled the field? Older ones know a shorter structure. */
#define HAS(sample, field)                                                                                   \
    ((sample)->length >= offsetof(struct tcp_info, field) + sizeof((sample)->info.field))
#define FIELD(json, key, sample, field) json_count(json, key, HAS(sample, field), (sample)->info.field)

/* What tcp_info counts up. */
struct tcp_counter {
    const char *key;
    size_t offset;
    size_t bytes;
};
#define COUNTER(key, field) {key, offsetof(struct tcp_info, field), sizeof(((struct tcp_info *)0)->field)}
static const struct tcp_counter tcp_counters[] = {
    COUNTER("retransmits", tcpi_total_retrans),
    COUNTER("segs_in", tcpi_segs_in),
    COUNTER("segs_out", tcpi_segs_out),
    COUNTER("data_segs_in", tcpi_data_segs_in),
    COUNTER("data_segs_out", tcpi_data_segs_out),
    COUNTER("bytes_sent", tcpi_bytes_sent),
    COUNTER("bytes_retransmitted", tcpi_bytes_retrans),
    COUNTER("busy_us", tcpi_busy_time),
    COUNTER("receive_window_limited_us", tcpi_rwnd_limited),
    COUNTER("send_buffer_limited_us", tcpi_sndbuf_limited),
};

static uint64_t tcp_value(const struct tcp_sample *sample, const struct tcp_counter *counter)
{
    const char *at = (const char *)&sample->info + counter->offset;
    uint32_t narrow;
    uint64_t wide;

    if (counter->bytes == sizeof(narrow)) {
        memcpy(&narrow, at, sizeof(narrow));
        return narrow;
    }
    memcpy(&wide, at, sizeof(wide));
    return wide;
}

static int64_t nanoseconds(struct timeval time)
{
    return time.tv_sec * NS_PER_S + time.tv_usec * 1000;
}

static void put_int(struct json *json, const char *key, int value)
{
    json_count(json, key, value >= 0, (uint64_t)value);
}

static bool windowed(const struct session *session)
{
    return session->window.state == WINDOW_CLOSED;
}

/* Has every stream opened and closed its window? */
static bool all_windowed(const struct session *sessions)
{
    for (int stream = 0; stream < sessions->group->streams; stream++)
        if (!windowed(&sessions[stream]))
            return false;
    return true;
}

void report_head(struct json *json, const struct session *sessions, const char *end)
{
    const struct outcome *outcome = sessions_outcome(sessions);
    const bool connected = sessions->connected;
    char local[ADDRESS_TEXT], peer[ADDRESS_TEXT];

    json_open(json, NULL);
    json_integer(json, "schema_version", REPORT_SCHEMA_VERSION);
    json_string(json, "end", end);
    json_string(json, "version", ZCLAB_TRAFFIC_VERSION);
    json_string(json, "outcome", outcome_name(outcome->code));
    json_string(json, "error", outcome->error[0] ? outcome->error : NULL);
    json_string(json, "mode", sessions->options->mode);
    json_open(json, "addresses");
    json_string(json, "local", connected ? address_text(&sessions->local, local) : NULL);
    json_count(json, "local_port", connected, address_port(&sessions->local));
    json_string(json, "peer", connected ? address_text(&sessions->remote, peer) : NULL);
    json_count(json, "peer_port", connected, address_port(&sessions->remote));
    json_integer(json, "ip_version", address_ip_version(&sessions->options->bind));
    json_close(json);
}

static void put_bytes(struct json *json, bool known, bool receiver, const struct counters *counters)
{
    json_count(json, "bytes", known, counters->bytes);
    json_count(json, "mapped_bytes", known && receiver, counters->mapped);
    json_count(json, "copied_bytes", known && receiver, counters->copied);
}

/* Adds what happened between two readings. */
static void add_counters(struct counters *sum, const struct counters *from, const struct counters *to)
{
    sum->bytes += to->bytes - from->bytes;
    sum->mapped += to->mapped - from->mapped;
    sum->copied += to->copied - from->copied;
    sum->calls += to->calls - from->calls;
    for (int cause = 0; cause < UNMAPPED_CAUSES; cause++)
        sum->unmapped[cause] += to->unmapped[cause] - from->unmapped[cause];
}

static struct counters in_window(const struct session *sessions, int streams)
{
    struct counters sum = {0};

    for (int stream = 0; stream < streams; stream++)
        add_counters(&sum, &sessions[stream].window.open.counters, &sessions[stream].window.close.counters);
    return sum;
}

/* The traffic threads' own time. */
static void put_cpu(struct json *json, const char *key, const struct session *sessions, int streams,
                    bool known)
{
    int64_t user = 0, system = 0, thread = 0;
    uint64_t voluntary = 0, involuntary = 0;

    for (int stream = 0; stream < streams; stream++) {
        const struct rusage *from = &sessions[stream].window.open.usage;
        const struct rusage *to = &sessions[stream].window.close.usage;

        user += nanoseconds(to->ru_utime) - nanoseconds(from->ru_utime);
        system += nanoseconds(to->ru_stime) - nanoseconds(from->ru_stime);
        thread += sessions[stream].window.close.thread_ns - sessions[stream].window.open.thread_ns;
        voluntary += (uint64_t)(to->ru_nvcsw - from->ru_nvcsw);
        involuntary += (uint64_t)(to->ru_nivcsw - from->ru_nivcsw);
    }
    json_open(json, key);
    json_seconds(json, "user_s", known, user);
    json_seconds(json, "system_s", known, system);
    json_seconds(json, "thread_s", known, thread);
    json_count(json, "voluntary_context_switches", known, voluntary);
    json_count(json, "involuntary_context_switches", known, involuntary);
    json_close(json);
}

static int64_t tick_ns(void)
{
    const long ticks = sysconf(_SC_CLK_TCK);

    return ticks > 0 ? NS_PER_S / ticks : 0;
}

static void put_ticks(struct json *json, bool known, const struct cpu_ticks *from, const struct cpu_ticks *to)
{
    json_seconds(json, "busy_s", known, (int64_t)(to->busy - from->busy) * tick_ns());
    json_seconds(json, "softirq_s", known, (int64_t)(to->softirq - from->softirq) * tick_ns());
}

static const struct cpu_ticks *find_cpu(const struct host_cpu *host, int cpu)
{
    for (int i = 0; i < host->cpus; i++)
        if (host->each[i].cpu == cpu)
            return &host->each[i].ticks;
    return NULL;
}

static void put_each_cpu(struct json *json, bool known, const struct host_cpu *from,
                         const struct host_cpu *to)
{
    if (!json_open_array(json, "per_cpu", known))
        return;
    for (int i = 0; i < to->cpus; i++) {
        const struct cpu_ticks *now = &to->each[i].ticks, *then = find_cpu(from, to->each[i].cpu);

        if (!then) /* it went online while the window was open */
            continue;
        json_open(json, NULL);
        json_integer(json, "cpu", to->each[i].cpu);
        put_ticks(json, true, then, now);
        json_seconds(json, "idle_s", true, (int64_t)(now->idle - then->idle) * tick_ns());
        json_close(json);
    }
    json_close_array(json);
}

static void put_host(struct json *json, const struct group *group, bool known)
{
    const struct host_cpu *from = &group->open.cpu, *to = &group->close.cpu;
    const struct host_cpu *idle = &group->baseline_from, *idle_to = &group->baseline_to;

    known = known && from->known && to->known;
    json_open(json, "host_cpu");
    put_ticks(json, known, &from->all, &to->all);
    json_count(json, "cpus", known, (uint64_t)to->cpus);
    put_each_cpu(json, known, from, to);
    if (json_open_known(json, "baseline", known && group->baseline_ns)) {
        json_seconds(json, "seconds", true, group->baseline_ns);
        put_ticks(json, idle->known && idle_to->known, &idle->all, &idle_to->all);
        json_close(json);
    }
    if (json_open_known(json, "softirqs", known && from->softirqs && from->softirqs == to->softirqs)) {
        for (int i = 0; i < to->softirqs; i++)
            json_count(json, to->softirq[i].name, true, to->softirq[i].count - from->softirq[i].count);
        json_close(json);
    }
    if (json_open_known(json, "softnet", known && from->softnet_known && to->softnet_known)) {
        json_count(json, "processed", true, to->processed - from->processed);
        json_count(json, "dropped", true, to->dropped - from->dropped);
        json_count(json, "squeezed", true, to->squeezed - from->squeezed);
        json_close(json);
    }
    json_close(json);
}

static void put_events(struct json *json, const char *key, const struct perf_sample *change)
{
    if (!json_open_known(json, key, change->known))
        return;
    json_count(json, "cycles", true, change->value[PERF_CYCLES]);
    json_count(json, "instructions", true, change->value[PERF_INSTRUCTIONS]);
    json_close(json);
}

static void add_events(struct perf_sample *sum, const struct perf_sample *from, const struct perf_sample *to)
{
    sum->known = sum->known && from->known && to->known;
    for (int event = 0; event < PERF_EVENTS; event++)
        sum->value[event] += to->value[event] - from->value[event];
}

static void put_perf(struct json *json, const struct session *sessions, bool known)
{
    const struct group *group = sessions->group;
    struct perf_sample threads = {.known = known}, cpus = {.known = known};

    for (int stream = 0; stream < group->streams; stream++)
        add_events(&threads, &sessions[stream].window.open.perf, &sessions[stream].window.close.perf);
    add_events(&cpus, &group->open.perf, &group->close.perf);
    json_open(json, "perf");
    put_events(json, "process", &threads);
    put_events(json, "cpus", &cpus);
    json_string(json, "unavailable", group->perf_why[0] ? group->perf_why : NULL);
    json_close(json);
}

void report_cpu(struct json *json, const struct session *sessions, bool known)
{
    put_cpu(json, "cpu", sessions, sessions->group->streams, known);
    put_host(json, sessions->group, known);
    put_perf(json, sessions, known);
}

/* What the connections did in a span, all together: their windows, or their whole lives. */
static void put_tcp_change(struct json *json, const char *key, const struct session *sessions, int streams,
                           bool whole, bool known)
{
    json_open(json, key);
    for (size_t i = 0; i < sizeof(tcp_counters) / sizeof(tcp_counters[0]); i++) {
        const struct tcp_counter *counter = &tcp_counters[i];
        bool all = known;
        uint64_t sum = 0;

        for (int stream = 0; stream < streams; stream++) {
            const struct window *window = &sessions[stream].window;
            const struct tcp_sample *to = whole ? &sessions[stream].final : &window->close.tcp;
            const struct tcp_sample *from = whole ? NULL : &window->open.tcp;
            const uint64_t change = tcp_value(to, counter) - (from ? tcp_value(from, counter) : 0);

            all = all && to->length >= counter->offset + counter->bytes &&
                  (!from || from->length >= counter->offset + counter->bytes);
            /* They are as wide as the kernel makes them, and wrap there. */
            sum += counter->bytes == sizeof(uint32_t) ? (uint32_t)change : change;
        }
        json_count(json, counter->key, all, sum);
    }
    json_close(json);
}

/* Gauges of the first stream; the MSS that a sender is held to is the smallest of any. */
void report_tcp(struct json *json, const struct session *sessions, int streams, bool known)
{
    /* As of the end of the window: after the end of the stream they say little. */
    const struct tcp_sample *gauge = known ? &sessions->window.close.tcp : &sessions->final;
    const bool options = HAS(gauge, tcpi_options);
    uint32_t mss = gauge->info.tcpi_snd_mss;

    for (int stream = 1; stream < streams; stream++) {
        const struct tcp_sample *other = known ? &sessions[stream].window.close.tcp : &sessions[stream].final;

        if (other->info.tcpi_snd_mss < mss)
            mss = other->info.tcpi_snd_mss;
    }
    json_open(json, "tcp");
    json_count(json, "snd_mss", HAS(gauge, tcpi_snd_mss), mss);
    FIELD(json, "rcv_mss", gauge, tcpi_rcv_mss);
    FIELD(json, "advmss", gauge, tcpi_advmss);
    FIELD(json, "path_mtu", gauge, tcpi_pmtu);
    json_bool(json, "timestamps", options, gauge->info.tcpi_options & TCPI_OPT_TIMESTAMPS);
    json_bool(json, "sack", options, gauge->info.tcpi_options & TCPI_OPT_SACK);
    FIELD(json, "rtt_us", gauge, tcpi_rtt);
    FIELD(json, "min_rtt_us", gauge, tcpi_min_rtt);
    FIELD(json, "snd_cwnd", gauge, tcpi_snd_cwnd);
    put_tcp_change(json, "window", sessions, streams, false, known);
    put_tcp_change(json, "total", sessions, streams, true, true);
    json_close(json);
}

static void put_rcvlowat(struct json *json, const struct session *session, bool receiver)
{
    if (!json_open_known(json, "rcvlowat", receiver))
        return;
    json_count(json, "asked", session->options->rcvlowat > 0, (uint64_t)session->options->rcvlowat);
    put_int(json, "got", session->rcvlowat);
    json_close(json);
}

/* The stream whose socket has the lowest SO_RCVLOWAT. */
static const struct session *lowest_rcvlowat(const struct session *sessions)
{
    const struct session *found = sessions;

    for (int stream = 1; stream < sessions->group->streams; stream++)
        if (sessions[stream].rcvlowat < found->rcvlowat)
            found = &sessions[stream];
    return found;
}

static void put_completions(struct json *json, const struct session *sessions)
{
    struct completions sum = {0};
    bool known = true;

    for (int stream = 0; stream < sessions->group->streams; stream++) {
        const struct completions *one = &sessions[stream].completions;

        known = known && one->owner;
        sum.sends += one->sends;
        sum.completed += one->completed;
        sum.copied += one->copied;
        sum.no_buffers += one->no_buffers;
    }
    if (!json_open_known(json, "completions", known))
        return;
    json_count(json, "sends", true, sum.sends);
    json_count(json, "completed", true, sum.completed);
    json_count(json, "copied", true, sum.copied);
    json_count(json, "no_buffers", true, sum.no_buffers);
    json_close(json);
}

static void put_unmapped(struct json *json, bool known, const struct counters *counters)
{
    if (!json_open_known(json, "unmapped", known))
        return;
    for (int cause = 0; cause < UNMAPPED_CAUSES; cause++)
        json_count(json, unmapped_names[cause], true, counters->unmapped[cause]);
    json_close(json);
}

/* What the kernel counted meanwhile, by the same words where they mean the same. */
static void put_kernel_counts(struct json *json, bool known, const struct group *group)
{
    const struct zerocopy_stat *from = &group->open.zerocopy, *to = &group->close.zerocopy;

    if (!json_open_known(json, "zerocopy_stat", known && from->known && to->known))
        return;
    for (int fate = 0; fate < FATES; fate++)
        json_count(json, fate_names[fate], true, to->bytes[fate] - from->bytes[fate]);
    json_close(json);
}

static void put_integrity(struct json *json, const struct session *sessions, bool receiver)
{
    const struct integrity *wrong = NULL;
    uint64_t checked = 0, reused = 0;

    if (!json_open_known(json, "integrity", sessions->options->verify))
        return;
    for (int stream = 0; stream < sessions->group->streams; stream++) {
        const struct integrity *one = &sessions[stream].integrity;

        checked += one->checked;
        reused += sessions[stream].reused_early;
        if (one->mismatch && !wrong)
            wrong = one;
    }
    if (!receiver) {
        json_count(json, "reused_early", true, reused);
    } else {
        json_count(json, "checked_bytes", true, checked);
        if (json_open_known(json, "mismatch", wrong != NULL)) {
            json_integer(json, "stream", wrong->stream);
            json_count(json, "offset", true, wrong->offset);
            json_integer(json, "expected", wrong->expected);
            json_integer(json, "found", wrong->found);
            json_bool(json, "mapped", true, wrong->mapped);
            json_close(json);
        }
    }
    json_close(json);
}

static void put_window(struct json *json, const struct session *sessions, int streams, bool known,
                       bool receiver)
{
    const struct counters counters = in_window(sessions, streams);
    bool complete = true;
    int64_t longest = 0, pause = 0;

    for (int stream = 0; stream < streams; stream++) {
        const struct window *window = &sessions[stream].window;
        const int64_t length = window->close.at_ns - window->open.at_ns;

        complete = complete && window->complete;
        longest = length > longest ? length : longest;
        pause = window->longest_pause_ns > pause ? window->longest_pause_ns : pause;
    }
    json_open(json, "window");
    json_bool(json, "complete", true, complete);
    json_seconds(json, "seconds", known, longest);
    json_seconds(json, "longest_pause_s", known, pause);
    put_bytes(json, known, receiver, &counters);
    json_close(json);
}

static void put_streams(struct json *json, const struct session *sessions, bool receiver)
{
    json_open_array(json, "streams", true);
    for (int stream = 0; stream < sessions->group->streams; stream++) {
        const struct session *session = &sessions[stream];

        json_open(json, NULL);
        json_integer(json, "stream", stream);
        put_int(json, "cpu", affinity_cpu(&session->options->affinity, stream));
        put_window(json, session, 1, windowed(session), receiver);
        put_cpu(json, "cpu_time", session, 1, windowed(session));
        report_tcp(json, session, 1, windowed(session));
        put_rcvlowat(json, session, receiver);
        json_close(json);
    }
    json_close_array(json);
}

bool report_print(const struct session *sessions)
{
    const struct options *options = sessions->options;
    const bool receiver = options->end == END_RECEIVE;
    const int streams = sessions->group->streams;
    const bool known = all_windowed(sessions);
    const struct counters counters = in_window(sessions, streams);
    struct counters total = {0};
    static const struct counters none;
    static struct json json; /* too large for some stacks */

    for (int stream = 0; stream < streams; stream++)
        add_counters(&total, &none, &sessions[stream].counters);
    json = (struct json){.first = true};
    report_head(&json, sessions, receiver ? "receive" : "send");
    json_count(&json, "message_bytes", !receiver, options->message_bytes);
    json_integer(&json, "header_bytes", (int64_t)options->header_bytes);
    json_count(&json, "chunk_bytes", receiver, options->chunk_bytes);
    json_count(&json, "keep_bytes", receiver, options->keep_bytes);
    json_count(&json, "copy_buffer_bytes", options->copy_buffer > 0, options->copy_buffer);
    json_decimal(&json, "pace_gbit", options->pace_gbit > 0, options->pace_gbit, 6);
    json_decimal(&json, "inject_usec_per_mib", options->inject_usec_per_mib > 0,
                 options->inject_usec_per_mib, 3);
    put_window(&json, sessions, streams, known, receiver);
    json_open(&json, "total");
    put_bytes(&json, true, receiver, &total);
    json_close(&json);
    report_cpu(&json, sessions, known);
    json_count(&json, "system_calls", known, counters.calls);
    put_unmapped(&json, known && receiver && receive_mode_find(options->mode)->maps, &counters);
    put_kernel_counts(&json, known && receiver, sessions->group);
    put_integrity(&json, sessions, receiver);
    put_completions(&json, sessions);
    put_rcvlowat(&json, lowest_rcvlowat(sessions), receiver);
    json_count(&json, "refused_connections", receiver, sessions->refused);
    json_open(&json, "buffers");
    put_int(&json, "rcvbuf", sessions->rcvbuf);
    put_int(&json, "sndbuf", sessions->sndbuf);
    json_count(&json, "aligned_bytes", receiver, HUGEPAGE_BYTES);
    json_count(&json, "huge_page_bytes", receiver, sessions->huge_page_bytes);
    json_close(&json);
    report_tcp(&json, sessions, streams, known);
    put_streams(&json, sessions, receiver);
    json_close(&json);
    return json_print(&json);
}
