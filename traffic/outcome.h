/* SPDX-License-Identifier: Apache-2.0 */
/* How a session ended: a code and, unless it is complete, one line of text. */
#ifndef ZCLAB_OUTCOME_H
#define ZCLAB_OUTCOME_H

#include <stdbool.h>

enum outcome_code {
    OUTCOME_COMPLETE,    /* the whole window was measured and the stream ended in order */
    OUTCOME_CUT_SHORT,   /* the connection or the stream ended too early */
    OUTCOME_STOPPED,     /* a signal, or the end of standard input, requested a stop */
    OUTCOME_UNSUPPORTED, /* this kernel cannot do what was asked */
    OUTCOME_ERROR,       /* anything else that went wrong */
    OUTCOME_TIMEOUT,     /* nothing happened for longer than allowed */
};

struct outcome {
    enum outcome_code code;
    char error[512]; /* empty while the outcome is complete */
};

/* Records the first failure (later ones are consequences of it); returns false, so that callers can return
 * it. */
bool outcome_set(struct outcome *outcome, enum outcome_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *outcome_name(enum outcome_code code);

#endif
