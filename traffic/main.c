/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"
#include "options.h"
#include "report.h"
#include "signals.h"

#include <stdio.h>

static struct options options;
static struct session sessions[STREAMS_MAX];
static struct group group;
static struct rpc rpc;

static bool is_rpc(void)
{
    return options.end == END_RPC_SERVE || options.end == END_RPC_CALL;
}

static void run(void)
{
    if (options.watch_stdin && !signals_watch_stdin(&sessions->outcome))
        return;
    if (!affinity_check(&options.affinity, &sessions->outcome))
        return;
    group_watch_host(&group);
    if (is_rpc())
        rpc_run(&rpc, sessions);
    else if (options.end == END_RECEIVE)
        receive_run(sessions, group.streams);
    else
        send_run(sessions, group.streams);
}

int main(int argc, char **argv)
{
    enum { EXIT_USAGE = 2, EXIT_INCOMPLETE = 3 };
    const struct outcome *outcome;
    bool printed;

    switch (options_parse(&options, argc, argv)) {
    case PARSED_HELP:
        return 0;
    case PARSED_WRONG:
        return EXIT_USAGE;
    case PARSED_RUN:
        break;
    }
    signals_install();
    group_init(&group, options.streams);
    sessions_init(sessions, &group, &options);
    run();
    outcome = sessions_outcome(sessions);
    if (outcome->code != OUTCOME_COMPLETE)
        fprintf(stderr, "%s: %s\n", outcome_name(outcome->code), outcome->error);
    printed = is_rpc() ? rpc_report_print(&rpc, sessions) : report_print(sessions);
    for (int stream = 0; stream < group.streams; stream++)
        completions_free(&sessions[stream].completions);
    group_free(&group);
    if (!printed)
        fputs("error: cannot write the document to standard output\n", stderr);
    return printed && outcome->code == OUTCOME_COMPLETE ? 0 : EXIT_INCOMPLETE;
}
