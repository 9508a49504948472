/* The two halves of `trireme data`; conventions as in tools.h, argv[0] being the half's name. */
#ifndef TRM_TOOLS_DATA_H
#define TRM_TOOLS_DATA_H

#include "base/status.h"

int trm_tool_data_prepare(int argc, char **argv);
int trm_tool_data_inspect(int argc, char **argv);

/* Prints "trireme data COMMAND: TEXT" on standard error; returns the status's exit code. */
int trm_tool_data_fail(const char *command, const struct trm_error *err);

/* What getopt_long found wrong, in one sentence; returns TRM_EXIT_USAGE. `found` is its result, ':'
 * or '?'. Call it before the next getopt_long. */
int trm_tool_data_refuse_option(const char *command, int found, char **argv);

#endif
