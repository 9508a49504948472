/*
 * The batch script that `trireme slurm` prints: what Slurm is asked for, and the few lines around
 * `trireme run`. Pure: a request in, text out.
 *
 * The script holds what only a script can do: it passes the signals of Slurm on to `trireme run`,
 * and asks Slurm for another start when the run's exit code says so (docs/exit-codes.md). Nodes,
 * resuming, and when to give up are matters of `trireme run`.
 */
#ifndef TRM_LAUNCH_SLURM_BATCH_H
#define TRM_LAUNCH_SLURM_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Strings are borrowed; NULL: not asked for. */
struct trm_batch {
    const char *made_by; /* the command line, for a comment */
    const char *job_name;
    const char *directory; /* where the job runs: paths in the configuration start there */
    int nodes, tasks_per_node, spares;
    int gpus_per_node, cpus_per_task; /* 0: not asked for */
    const char *time;                 /* "2-00:00:00" */
    int stop_before_s;                /* so long before the limit it is asked to stop */
    int chain;                        /* 0: the job is requeued; else an array of so many */
    const char *mem;                  /* of a node */
    const char *partition, *account, *qos, *constraint, *output;
    const char *profile;    /* file of shell commands that set the environment */
    const char *program;    /* path of `trireme` */
    char *const *arguments; /* [argument_count]: CONFIG and flags */
    int argument_count;
};

/* *text is returned owned (free). TRM_ERR_MEMORY; TRM_ERR_CONFIG for a value that an #SBATCH line
 * cannot hold (it is empty, or has a blank, a quote or a control character in it). */
enum trm_status trm_batch_write(const struct trm_batch *batch, char **text, struct trm_error *err);

/* Slurm's spellings of a time: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S; "UNLIMITED" is -1 s. */
enum trm_status trm_batch_parse_time(const char *text, int64_t *seconds, struct trm_error *err);

/* Slurm's spelling of memory: a number with K, M (also without), G or T behind it. */
enum trm_status trm_batch_parse_memory(const char *text, int64_t *bytes, struct trm_error *err);

#endif
