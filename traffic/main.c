/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "receive.h"
#include "report.h"
#include "rpc.h"
#include "rpc_report.h"
#include "send.h"
#include "stop.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    enum { EXIT_USAGE = 2, EXIT_INCOMPLETE = 3 };
    static struct options options;
    static struct session session;
    static struct rpc rpc;
    bool is_rpc;
    bool printed;

    switch (options_parse(&options, argc, argv)) {
    case PARSED_HELP:
        return 0;
    case PARSED_WRONG:
        return EXIT_USAGE;
    case PARSED_RUN:
        break;
    }
    stop_install();
    session_init(&session, &options);
    is_rpc = options.end == END_RPC_SERVE || options.end == END_RPC_CALL;
    if (!options.watch_stdin || stop_watch_stdin(&session.ending)) {
        if (is_rpc)
            rpc_run(&rpc, &session);
        else if (options.end == END_RECEIVE)
            receive_run(&session);
        else
            send_run(&session);
    }
    if (session.ending.outcome != OUTCOME_COMPLETE)
        fprintf(stderr, "%s: %s\n", outcome_name(session.ending.outcome), session.ending.error);
    printed = is_rpc ? rpc_report_print(&rpc, &session) : report_print(&session);
    completions_free(&session.completions);
    if (!printed)
        fputs("error: can not write the document to standard output\n", stderr);
    return printed && session.ending.outcome == OUTCOME_COMPLETE ? 0 : EXIT_INCOMPLETE;
}
