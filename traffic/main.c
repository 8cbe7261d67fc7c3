/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "receive.h"
#include "report.h"
#include "rpc.h"
#include "rpc_report.h"
#include "send.h"
#include "stop.h"

#include <stdio.h>

static struct options options;
static struct session sessions[STREAMS_MAX];
static struct team team;
static struct rpc rpc;

static bool is_rpc(void)
{
    return options.end == END_RPC_SERVE || options.end == END_RPC_CALL;
}

static void run(void)
{
    if (options.watch_stdin && !stop_watch_stdin(&sessions->ending))
        return;
    if (!placement_check(&options.placement, &sessions->ending))
        return;
    team_watch_host(&team);
    if (is_rpc())
        rpc_run(&rpc, sessions);
    else if (options.end == END_RECEIVE)
        receive_run(sessions, team.streams);
    else
        send_run(sessions, team.streams);
}

int main(int argc, char **argv)
{
    enum { EXIT_USAGE = 2, EXIT_INCOMPLETE = 3 };
    const struct ending *ending;
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
    team_init(&team, options.streams);
    sessions_init(sessions, &team, &options);
    run();
    ending = sessions_ending(sessions);
    if (ending->outcome != OUTCOME_COMPLETE)
        fprintf(stderr, "%s: %s\n", outcome_name(ending->outcome), ending->error);
    printed = is_rpc() ? rpc_report_print(&rpc, sessions) : report_print(sessions);
    for (int stream = 0; stream < team.streams; stream++)
        completions_free(&sessions[stream].completions);
    team_free(&team);
    if (!printed)
        fputs("error: can not write the document to standard output\n", stderr);
    return printed && ending->outcome == OUTCOME_COMPLETE ? 0 : EXIT_INCOMPLETE;
}
