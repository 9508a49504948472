/* The commands under `trireme ckpt`, one file each. Each gets the words behind its own name and
 * returns the exit code. */
#ifndef TRM_TOOLS_CKPT_H
#define TRM_TOOLS_CKPT_H

#include "base/status.h"

int trm_ckpt_list(int argc, char **argv);
int trm_ckpt_diff(int argc, char **argv);
int trm_ckpt_inspect(int argc, char **argv);
int trm_ckpt_verify(int argc, char **argv);
int trm_ckpt_reshard(int argc, char **argv);
int trm_ckpt_export(int argc, char **argv);
int trm_ckpt_import(int argc, char **argv);

/* Says on standard error what went wrong, and returns the exit code for it. */
int trm_ckpt_fail(const struct trm_error *err);

#endif
