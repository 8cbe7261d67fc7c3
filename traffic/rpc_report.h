/* SPDX-License-Identifier: Apache-2.0 */
/* The document that one end of an RPC session prints: the same members at both ends; what was not measured is
 * null, never 0. */
#ifndef ZCLAB_RPC_REPORT_H
#define ZCLAB_RPC_REPORT_H

#include "rpc.h"

#include <stdbool.h>

/* `rpc` may have been left untouched, when the session failed before it began. */
bool rpc_report_print(const struct rpc *rpc, const struct session *session);

#endif
