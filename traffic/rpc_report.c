/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

static void put_counters(struct json *json, bool known, const struct rpc_counters *from,
                         const struct rpc_counters *to)
{
    json_count(json, "rpcs", known, to->rpcs - from->rpcs);
    json_count(json, "mapped_bytes", known, to->mapped - from->mapped);
    json_count(json, "copied_bytes", known, to->copied - from->copied);
}

static void put_calls(struct json *json, bool known, const struct rpc_calls *from, const struct rpc_calls *to)
{
    const uint64_t poll = to->poll - from->poll, getsockopt = to->getsockopt - from->getsockopt;
    const uint64_t recvmsg = to->recvmsg - from->recvmsg, sendmsg = to->sendmsg - from->sendmsg;

    json_count(json, "system_calls", known, poll + getsockopt + recvmsg + sendmsg);
    if (!json_open_known(json, "calls", known))
        return;
    json_count(json, "poll", true, poll);
    json_count(json, "getsockopt", true, getsockopt);
    json_count(json, "recvmsg", true, recvmsg);
    json_count(json, "sendmsg", true, sendmsg);
    json_close(json);
}

static void put_latency(struct json *json, bool known, const struct latency *latency)
{
    if (!json_open_known(json, "latency", known))
        return;
    json_string(json, "unit", "ns");
    json_integer(json, "significant_bits", LATENCY_SIGNIFICANT_BITS);
    json_open_array(json, "counts", true);
    for (size_t bucket = 0; bucket < LATENCY_BUCKETS; bucket++)
        if (latency->counts[bucket])
            json_pair(json, latency_lowest(bucket), latency->counts[bucket]);
    json_close_array(json);
    json_count(json, "min", latency->total > 0, (uint64_t)latency->min_ns);
    json_count(json, "max", latency->total > 0, (uint64_t)latency->max_ns);
    json_count(json, "total", true, latency->total);
    json_close(json);
}

bool rpc_report_print(const struct rpc *rpc, const struct session *session)
{
    static const struct rpc_counters none;
    const struct options *options = session->options;
    const struct window *window = &session->window;
    const bool server = options->end == END_RPC_SERVE;
    const bool windowed = window->state == WINDOW_CLOSED;
    static struct json json; /* too large for some stacks */

    json = (struct json){.first = true};
    report_head(&json, session, server ? "rpc_server" : "rpc_client");
    json_integer(&json, "request_bytes", (int64_t)options->request_bytes);
    json_integer(&json, "reply_bytes", (int64_t)options->reply_bytes);
    json_open(&json, "window");
    json_bool(&json, "complete", true, window->complete);
    json_seconds(&json, "seconds", windowed, window->close.at_ns - window->open.at_ns);
    json_close(&json);
    put_counters(&json, windowed, &rpc->open, &rpc->close);
    json_open(&json, "total");
    put_counters(&json, true, &none, &rpc->counters);
    json_close(&json);
    put_calls(&json, windowed, &rpc->open.calls, &rpc->close.calls);
    report_cpu(&json, session, windowed);
    report_tcp(&json, session, 1, windowed);
    json_count(&json, "refused_connections", server, session->refused);
    put_latency(&json, windowed && !server, &rpc->latency);
    json_close(&json);
    return json_print(&json);
}
