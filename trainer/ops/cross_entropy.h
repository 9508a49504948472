/*
 * The operations of a loss, part of the table of ops.h and under its contracts: softmax and
 * cross-entropy over logits[N, V] that may be split by vocabulary columns over ranks. This rank
 * holds vocabulary entries [first_row, first_row + V), of which the first `valid` are real and the
 * rest padding. targets[N]: int32, numbers of vocabulary entries.
 */
#ifndef TRM_TRAINER_OPS_CROSS_ENTROPY_H
#define TRM_TRAINER_OPS_CROSS_ENTROPY_H

#include <stdbool.h>

#include "trainer/ops/device.h"
#include "trainer/ops/tensor.h"

/* All steps in one pass over the rows, for a rank that holds the whole vocabulary: loss[N], and, if
 * wanted, logits overwritten by their gradient. The bits of the steps below, taken one by one. */
typedef void trm_cross_entropy_fn(struct trm_device *dev, struct trm_tensor loss,
                                  struct trm_tensor logits, struct trm_tensor targets,
                                  int64_t valid, bool want_gradient);

/* Where ranks share a row. Step 1: maximum[N] = largest real logit here (-inf when there is none).
 */
typedef void trm_cross_entropy_maximum_fn(struct trm_device *dev, struct trm_tensor maximum,
                                          struct trm_tensor logits, int64_t valid);

/* Step 2, with `maximum` taken over ranks: sums[2, N]: row 0 the sum of exp(logit - maximum), row 1
 * target logit - maximum when the target is held here, else 0. */
typedef void trm_cross_entropy_sums_fn(struct trm_device *dev, struct trm_tensor sums,
                                       struct trm_tensor logits, struct trm_tensor maximum,
                                       struct trm_tensor targets, int64_t first_row, int64_t valid);

/* Step 3, with `sums` added over ranks: loss[N] = log(sum) - target; logits are overwritten by
 * their gradient softmax - onehot (0 in padding), if that is wanted. */
typedef void trm_cross_entropy_gradient_fn(struct trm_device *dev, struct trm_tensor loss,
                                           struct trm_tensor logits, struct trm_tensor maximum,
                                           struct trm_tensor sums, struct trm_tensor targets,
                                           int64_t first_row, int64_t valid, bool want_gradient);

#endif
