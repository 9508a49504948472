/*
 * The job that lost its script. When the node that runs the batch script is lost, Slurm leaves a
 * job with --no-kill RUNNING: nobody supervises it, and nobody ends it. So the agents of the nodes
 * that are left ask for a requeue, one after the other (launch/agent/options.h, orphan_command).
 *
 * A node that was merely cut off has lost its supervisor, too. Before the command acts, the
 * controller must answer and tell of this very start of the job; then for a while nothing may show
 * that the supervisor lives: no connection (the agent kills the command when there is one), and no
 * change of RUN_DIR/supervisor/status.json. Then it looks again, and asks for a requeue; where that
 * is forbidden, for the job's end. It succeeds when this start of the job is over, by its own doing
 * or not: Slurm ends the agents of a job, but not always those of a node that comes back just then.
 */
#ifndef TRM_LAUNCH_SLURM_REQUEUE_H
#define TRM_LAUNCH_SLURM_REQUEUE_H

#include <stddef.h>

#include "base/status.h"
#include "launch/slurm/slurm_env.h"

/* The command, for /bin/sh. TRM_ERR_CONFIG when it is longer than `bytes` allows: the path of the
 * run is. Pure. */
enum trm_status trm_requeue_command(const struct trm_slurm_job *job, const char *run_dir,
                                    int64_t lease_ms, char *text, size_t bytes,
                                    struct trm_error *err);

#endif
