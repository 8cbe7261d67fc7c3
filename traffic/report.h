/* SPDX-License-Identifier: Apache-2.0 */
/* The document that one end prints: the same members at both ends; what was not measured is null, never 0. */
#ifndef ZCLAB_REPORT_H
#define ZCLAB_REPORT_H

#include "json.h"
#include "rpc_modes.h"
#include "session.h"

#include <stdbool.h>

#define REPORT_SCHEMA_VERSION 5

/* Parts that other documents have too, of all streams together. The head leaves the object open.
 * `windowed`: every window was opened and closed. */
void report_head(struct json *json, const struct session *sessions, const char *end);
void report_cpu(struct json *json, const struct session *sessions, bool windowed); /* cpu, host_cpu, perf */
void report_tcp(struct json *json, const struct session *sessions, int streams, bool windowed);

bool report_print(const struct session *sessions);
/* The same of an RPC session. `rpc` may have been left untouched: the session failed before it began. */
bool rpc_report_print(const struct rpc *rpc, const struct session *session);

#endif
