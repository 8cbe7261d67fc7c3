/* SPDX-License-Identifier: Apache-2.0 */
#include "outcome.h"

#include <stdarg.h>
#include <stdio.h>

bool outcome_set(struct outcome *outcome, enum outcome_code code, const char *format, ...)
{
    if (outcome->code == OUTCOME_COMPLETE) {
        va_list args;

        outcome->code = code;
        va_start(args, format);
        vsnprintf(outcome->error, sizeof(outcome->error), format, args);
        va_end(args);
    }
    return false;
}

const char *outcome_name(enum outcome_code code)
{
    static const char *const names[] = {
        [OUTCOME_COMPLETE] = "complete", [OUTCOME_CUT_SHORT] = "cut_short",
        [OUTCOME_STOPPED] = "stopped",   [OUTCOME_UNSUPPORTED] = "unsupported",
        [OUTCOME_ERROR] = "error",       [OUTCOME_TIMEOUT] = "timeout",
    };

    return names[code];
}
