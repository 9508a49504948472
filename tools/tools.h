/* The commands of `trireme`. Each gets its own name as argv[0], prints its answer on standard
 * output and one sentence on standard error when it fails, and returns the exit code (enum
 * trm_exit). */
#ifndef TRM_TOOLS_TOOLS_H
#define TRM_TOOLS_TOOLS_H

#include "base/status.h"

int trm_tool_agent(int argc, char **argv);
int trm_tool_ckpt(int argc, char **argv);
int trm_tool_data(int argc, char **argv);
int trm_tool_run(int argc, char **argv);
int trm_tool_sample(int argc, char **argv);
int trm_tool_slurm(int argc, char **argv);
int trm_tool_status(int argc, char **argv);
int trm_tool_tether(int argc, char **argv); /* not for people, as `agent` */

#endif
