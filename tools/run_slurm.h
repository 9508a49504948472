/* The part of `trireme run` that knows Slurm: nodes from the job, job steps for agents and ranks,
 * and a chain of starts that ends when it gets nowhere. */
#ifndef TRM_TOOLS_RUN_SLURM_H
#define TRM_TOOLS_RUN_SLURM_H

#include "launch/agent/options.h"
#include "launch/slurm/slurm_env.h"
#include "launch/slurm/starts.h"
#include "launch/supervisor/supervisor.h"

struct trm_run_slurm {
    struct trm_slurm_job job; /* owned */
    struct trm_attempts attempts;
    struct trm_start start;
    char orphan_command[TRM_AGENT_COMMAND_BYTES];
};

/* How agents and ranks are started in this job: fills settings->remote_shell, launcher_shell,
 * foreground, srun, orphan_command and preempted. `shell` is what the user asked for, or NULL.
 * Changes this process's environment, for srun. Notes the start; TRM_ERR_STOPPED when the chain of
 * starts should end. `slurm` is borrowed by the settings. */
enum trm_status trm_run_slurm_begin(struct trm_run_slurm *slurm, const struct trm_config *config,
                                    const char *shell, struct trm_supervisor_settings *settings,
                                    struct trm_error *err);

/* Notes how the start ended. */
enum trm_status trm_run_slurm_end(struct trm_run_slurm *slurm,
                                  const struct trm_supervised *supervised, struct trm_error *err);

void trm_run_slurm_destroy(struct trm_run_slurm *slurm); /* what it owns */

#endif
