/*
 * Bad numbers: what a run does about a NaN, an infinity or a loss spike (docs/guard.md).
 *
 * Nothing bad is applied or saved: a step's loss and norm are judged before the update, and a state
 * is looked through before it is saved. What follows is the configuration's word: the run ends, or
 * the step is tried again with the next samples, or the newest checkpoint before it comes back and
 * its samples are left out from there on. The pure part is guard.h. The functions are collective
 * over the world, and return the same on all ranks.
 */
#ifndef TRM_TRAINER_NUMBERS_H
#define TRM_TRAINER_NUMBERS_H

#include "trainer/run.h"

/* Before the update of step `metrics->step` counts; the parameters are those it began with, and
 * complete. A step that is bad is noted in run->tried, and TRM_ERR_NUMERICS says what is wrong;
 * parameters and state are as before. TRM_ERR_DIVERGED as trm_replicas_check, which is asked when
 * something is bad. `finite_here`: this rank's own part of the loss was. */
enum trm_status trm_numbers_judge(struct trm_run *run, const struct trm_step_metrics *metrics,
                                  const struct trm_batch *batch, bool finite_here,
                                  struct trm_error *err);

/* Before a state is kept anywhere: TRM_ERR_NUMERICS, with the tensor's name, unless every parameter
 * and moment is finite. Reads them once. */
enum trm_status trm_numbers_scan(struct trm_run *run, struct trm_error *err);

/* After TRM_ERR_NUMERICS of a step, a validation or a scan; `err` holds its words. TRM_OK: training
 * can go on from run->state, which a rollback has set back. Else the run is over, and saves that
 * were under way are finished. */
enum trm_status trm_numbers_act(struct trm_run *run, struct trm_error *err);

#endif
