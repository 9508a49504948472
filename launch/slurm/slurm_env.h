/*
 * The Slurm job that this process runs in, as its environment tells: which nodes, how many tasks on
 * each, and which of the job's starts this is.
 *
 *   SLURM_JOB_NODELIST     compressed: `node[1-3,7],gpu-[001-128],rack[1-2]n[1-4]`
 *   SLURM_TASKS_PER_NODE   `2(x3),1`: three nodes with two tasks each, then one with one
 *   SLURM_JOB_ID           and SLURM_ARRAY_JOB_ID, which the jobs of an array have in common
 *   SLURM_RESTART_COUNT    how often the job was requeued
 *
 * Nothing is asked of Slurm. Bounded by TRM_HOST_MAX, whatever a list says. Reads the environment,
 * so no other thread may change it meanwhile.
 */
#ifndef TRM_LAUNCH_SLURM_SLURM_ENV_H
#define TRM_LAUNCH_SLURM_SLURM_ENV_H

#include <stdbool.h>

#include "base/status.h"
#include "launch/hostfile.h"

#define TRM_SLURM_ID_BYTES 32

struct trm_slurm_job {
    char id[TRM_SLURM_ID_BYTES]; /* what scontrol takes */
    char
        chain[TRM_SLURM_ID_BYTES]; /* equal for all starts of a job, and for all jobs of an array */
    int restarts;                  /* 0: the job's first start */
    struct trm_host *hosts;        /* owned, in Slurm's order */
    int host_count;
};

/* Whether this is inside an allocation. */
bool trm_slurm_is_inside(void);

/* TRM_ERR_CONFIG with the variable that is missing or not understood. */
enum trm_status trm_slurm_job_read(struct trm_slurm_job *job, struct trm_error *err);
void trm_slurm_job_destroy(struct trm_slurm_job *job); /* what it owns; takes NULL */

/* The nodes of a list with their tasks. *hosts is returned owned (free). TRM_ERR_CONFIG quotes the
 * part of the text that is wrong. Pure. */
enum trm_status trm_slurm_hosts(const char *node_list, const char *tasks, struct trm_host **hosts,
                                int *count, struct trm_error *err);

#endif
