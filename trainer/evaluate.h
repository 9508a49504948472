/* Validation: the mean loss over eval_iters global batches of the validation samples, always the
 * same ones. An exact sum, so the layout changes no bit. */
#ifndef TRM_TRAINER_EVALUATE_H
#define TRM_TRAINER_EVALUATE_H

#include "trainer/run.h"

/* Collective over the world. Sets run->state.valid_loss and tells the metrics. Does nothing without
 * validation samples or with eval_iters 0, and leaves early, without a loss, when asked to stop. */
enum trm_status trm_evaluate(struct trm_run *run, struct trm_error *err);

#endif
