/* SPDX-License-Identifier: Apache-2.0 */
/* The document that one end prints: the same members at both ends; what was not measured is null, never 0. */
#ifndef ZCLAB_REPORT_H
#define ZCLAB_REPORT_H

#include "session.h"

#include <stdbool.h>

bool report_print(const struct session *session);

#endif
