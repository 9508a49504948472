/* Learning rate by step. Pure, and free of the C library's cosine: the bits are ours. */
#ifndef TRM_TRAINER_OPTIMIZER_SCHEDULE_H
#define TRM_TRAINER_OPTIMIZER_SCHEDULE_H

#include "trainer/config/config.h"

/* Learning rate of the update that completes step `step` (1, 2, ...): linear warm-up over
 * lr_warmup_iters, then constant, linear, cosine, or warm-up-stable-decay down to min_lr at
 * lr_decay_iters, and min_lr after it. */
double trm_schedule_learning_rate(const struct trm_config *config, int64_t step);

#endif
