#include "tools/run_slurm.h"

#include <signal.h>
#include <stdlib.h>

#include "checkpoint/store.h"
#include "launch/slurm/requeue.h"

/* Called as SHELL NODE COMMAND ...: a step of one task, beside all others. */
static const char step_shell[] =
    "srun --quiet --mpi=none --overlap --no-kill --kill-on-bad-exit=0 --nodes=1 "
    "--ntasks=1 --nodelist";

/* What sbatch sets for the steps of a script, and would contradict what steps are asked for. */
static void prepare_environment(bool srun)
{
    static const char *const unwanted[] = {"SLURM_NTASKS_PER_NODE", "SLURM_NTASKS", "SLURM_NPROCS",
                                           "SLURM_DISTRIBUTION"};
    const char *cpus = getenv("SLURM_CPUS_PER_TASK");

    for (size_t i = 0; i < sizeof unwanted / sizeof *unwanted; i++)
        unsetenv(unwanted[i]);
    if (cpus && !getenv("SRUN_CPUS_PER_TASK")) /* srun does not take over the other one */
        setenv("SRUN_CPUS_PER_TASK", cpus, 0);
    if (!srun) /* mpirun starts its daemons by srun, and they would wait for the agents' steps */
        setenv("SLURM_OVERLAP", "1", 1);
}

/* The newest checkpoint's step, -1 when there is none. */
static enum trm_status newest_step(const struct trm_config *config, int64_t *step,
                                   struct trm_error *err)
{
    int64_t *steps;
    int count;
    enum trm_status status = trm_store_list(config->save, &steps, &count, err);

    *step = -1;
    if (status == TRM_ERR_NOT_FOUND)
        return TRM_OK;
    if (status != TRM_OK)
        return status;
    if (count > 0)
        *step = steps[0];
    free(steps);
    return TRM_OK;
}

/* A note that cannot be read is none: a run is not refused for it. */
static enum trm_status begin_start(struct trm_run_slurm *slurm, const struct trm_config *config,
                                   bool *preempted, struct trm_error *err)
{
    struct trm_start previous;
    int64_t step;
    enum trm_status status = newest_step(config, &step, err);

    if (status == TRM_OK)
        status = trm_attempts_open(config->run_dir, &slurm->attempts, err);
    if (status != TRM_OK)
        return status;
    bool found = trm_start_read(&slurm->attempts, &previous, NULL) == TRM_OK;
    *preempted = found && previous.end == TRM_START_PREEMPTED;
    if (!trm_start_judge(found ? &previous : NULL, slurm->job.chain, step,
                         (int)config->max_attempts_without_progress, &slurm->start, err))
        return TRM_ERR_STOPPED;
    return trm_start_write(&slurm->attempts, &slurm->start, err);
}

enum trm_status trm_run_slurm_begin(struct trm_run_slurm *slurm, const struct trm_config *config,
                                    const char *shell, struct trm_supervisor_settings *settings,
                                    struct trm_error *err)
{
    bool preempted = false;
    enum trm_status status = begin_start(slurm, config, &preempted, err);

    if (status == TRM_OK)
        status = trm_requeue_command(&slurm->job, config->run_dir, config->lease_ms,
                                     slurm->orphan_command, sizeof slurm->orphan_command, err);
    if (status != TRM_OK)
        return status;
    settings->srun = config->launcher != TRM_LAUNCH_MPIRUN;
    settings->remote_shell = shell ? shell : step_shell;
    settings->launcher_shell = shell;
    settings->foreground = shell == NULL;
    settings->orphan_command = slurm->orphan_command;
    settings->preempted = preempted;
    prepare_environment(settings->srun);
    return TRM_OK;
}

enum trm_status trm_run_slurm_end(struct trm_run_slurm *slurm,
                                  const struct trm_supervised *supervised, struct trm_error *err)
{
    slurm->start.end = TRM_START_VANISHED; /* too few nodes, or whatever else went wrong */
    if (supervised->exit_code == TRM_EXIT_REQUEUE)
        slurm->start.end =
            supervised->stop_signal == SIGTERM ? TRM_START_PREEMPTED : TRM_START_STOPPED;
    return trm_start_write(&slurm->attempts, &slurm->start, err);
}

void trm_run_slurm_destroy(struct trm_run_slurm *slurm)
{
    trm_slurm_job_destroy(&slurm->job);
}
