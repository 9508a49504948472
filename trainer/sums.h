/*
 * The sums that a step is judged by: losses and squares of the gradient, exact, where the device's
 * tensors lie; and their way over the ranks and to the host.
 */
#ifndef TRM_TRAINER_SUMS_H
#define TRM_TRAINER_SUMS_H

#include "trainer/run.h"

/* In the memory of the device; read as one. */
struct trm_step_sums {
    struct trm_exact_sum loss, squares; /* neighbours: reduced as one run of words */
    struct trm_exact_sum own_loss;   /* on a device: this rank's part, from before the reduction */
    struct trm_step_verdict verdict; /* on a device */
};

/* Not collective. Before a step or a validation. */
void trm_sums_zero(struct trm_run *run);

/* Not collective: the sums as they are, once the device's work is done. */
enum trm_status trm_sums_read(struct trm_run *run, struct trm_step_sums *out,
                              struct trm_error *err);

/* Collective. The sums of all ranks of one or more exact sums (at most four) in the host's memory,
 * which become their total; values[i] is sums[i] in double. */
enum trm_status trm_sums_reduce(struct trm_comm *world, struct trm_exact_sum *sums, int count,
                                double *values, struct trm_error *err);

/* Collective over run->groups, on a device that judges: loss and squares of all ranks, the verdict
 * by `loss_limit`, and a fetch of all that to run->mirror.sums are queued. The host waits for
 * nothing. */
enum trm_status trm_sums_judge(struct trm_run *run, double loss_limit, struct trm_error *err);

#endif
