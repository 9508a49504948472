/*
 * Linear layers cut over tensor-parallel ranks (Shoeybi et al., "Megatron-LM", 2019).
 *
 * Column-parallel: each rank holds rows of the weight and computes its own output features; the
 * gradient of the input is summed over ranks. Row-parallel: each rank holds columns and brings a
 * partial output; outputs are summed over ranks in fixed order, and the bias is added once after.
 * Column-parallel layers take rows of the stream and row-parallel ones give them (stream.h).
 */
#ifndef TRM_TRAINER_MODEL_LINEAR_H
#define TRM_TRAINER_MODEL_LINEAR_H

#include "trainer/model/stream.h"

/* `count` adjacent weights (q, k, v) form one matrix, and so do their biases. */
struct trm_linear {
    int weight, bias; /* tensors of the layout */
    int count;
};

/* y[N, F] = act(x w^T + b), with x of this rank's rows of the stream; `pre` as in ops.h. */
void trm_linear_column_forward(struct trm_model_context *c, const struct trm_linear *layer,
                               struct trm_tensor y, struct trm_tensor pre, struct trm_tensor x,
                               enum trm_activation activation);

/* Returns this rank's rows of dx[N, C], complete over ranks; gradients of weight and bias. */
struct trm_tensor trm_linear_column_backward(struct trm_model_context *c,
                                             const struct trm_linear *layer, struct trm_tensor dx,
                                             struct trm_tensor dy, struct trm_tensor x);

/* This rank's rows of y[N, C] = sum over ranks of x w^T, plus b. */
void trm_linear_row_forward(struct trm_model_context *c, const struct trm_linear *layer,
                            struct trm_tensor y, struct trm_tensor x);

/* dx of this rank's columns, as ops.h has it for an activation, from dy of its rows of the stream;
 * gradients of weight and bias. */
void trm_linear_row_backward(struct trm_model_context *c, const struct trm_linear *layer,
                             struct trm_tensor dx, struct trm_tensor dy, struct trm_tensor x,
                             struct trm_tensor pre, enum trm_activation activation);

#endif
