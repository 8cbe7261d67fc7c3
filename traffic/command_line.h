/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and checks the command line, and prints the help. */
#ifndef ZCLAB_COMMAND_LINE_H
#define ZCLAB_COMMAND_LINE_H

#include "options.h"

enum parsed { PARSED_RUN, PARSED_HELP, PARSED_WRONG };

/* Fills `options`; help goes to stdout, a mistake as one line to stderr. */
enum parsed options_parse(struct options *options, int argc, char **argv);

#endif
