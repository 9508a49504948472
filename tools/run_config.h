/* What `trireme run` and `trireme slurm` both need to know of a run before it starts. */
#ifndef TRM_TOOLS_RUN_CONFIG_H
#define TRM_TOOLS_RUN_CONFIG_H

#include "base/file.h"
#include "base/status.h"
#include "trainer/config/config.h"

/* A whole number of at least `least`; TRM_ERR_CONFIG names the flag. */
enum trm_status trm_run_read_number(const char *flag, const char *text, int least, int *out,
                                    struct trm_error *err);

/* Loads CONFIG and the flags behind it, and checks them against each other and the ranks: *ranks
 * is data_parallel_size x tensor_model_parallel_size where that is given, else `slots`. *config is
 * returned owned. */
enum trm_status trm_run_config_read(char *const *arguments, int argument_count, int slots,
                                    struct trm_config **config, int *ranks, struct trm_error *err);

/* The path of this program. */
enum trm_status trm_run_find_program(char program[TRM_PATH_BYTES], struct trm_error *err);

#endif
