/* One optimizer step, in the order of data: samples, forward and backward per micro-batch, lane
 * sums and exchange, norm and clip, AdamW on owned shards, gather.
 *
 * On a device the host runs ahead: AdamW is queued before the host has seen the step's loss, and
 * does nothing when the device finds it bad; the host reads both while AdamW runs, so that nothing
 * waits for the host but the gather. */
#ifndef TRM_TRAINER_STEP_H
#define TRM_TRAINER_STEP_H

#include "trainer/run.h"

/* Collective over the world. Advances run->state by one step and fills `metrics`. `stop`: some rank
 * was asked to stop; then the step was not done. TRM_ERR_NUMERICS when loss or norm is bad, and
 * TRM_ERR_DIVERGED when copies of the parameters differ (numbers.h): parameters and state are as
 * before. */
enum trm_status trm_step(struct trm_run *run, bool *stop, struct trm_step_metrics *metrics,
                         struct trm_error *err);

#endif
