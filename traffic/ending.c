/* SPDX-License-Identifier: Apache-2.0 */
#include "ending.h"

#include <stdarg.h>
#include <stdio.h>

bool ending_set(struct ending *ending, enum outcome outcome, const char *format, ...)
{
    if (ending->outcome == OUTCOME_COMPLETE) {
        va_list args;

        ending->outcome = outcome;
        va_start(args, format);
        vsnprintf(ending->error, sizeof(ending->error), format, args);
        va_end(args);
    }
    return false;
}

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [OUTCOME_COMPLETE] = "complete", [OUTCOME_CUT_SHORT] = "cut_short",
        [OUTCOME_STOPPED] = "stopped",   [OUTCOME_UNSUPPORTED] = "unsupported",
        [OUTCOME_ERROR] = "error",       [OUTCOME_TIMEOUT] = "timeout",
    };

    return names[outcome];
}
