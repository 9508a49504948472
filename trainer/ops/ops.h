/*
 * The operations a model is written in. One table per device: reference/ (plain loops in double
 * arithmetic, float32 and float64 tensors: the oracle), cpu/ (oneDNN and OpenMP, float32), cuda/
 * (also bfloat16: cuda/cuda.h).
 *
 * Contracts common to all:
 * - ops return nothing; a failure sets the device's sticky error, checked once per micro-batch;
 * - ops are asynchronous in principle: results may be read after trm_device_sync;
 * - operands, exact sums too, lie where the device's tensors lie;
 * - no op allocates: scratch comes from the workspace that was reserved at set-up;
 * - an op's bits are a function of its operands' values and shapes alone: not of threads, not of
 *   addresses. Float reductions run in a fixed order;
 * - "accumulate" adds to what the output holds; otherwise the output is overwritten and never read;
 * - outputs don't overlap inputs unless the op says "in place".
 *
 * Letters: N rows (batch x sequence), C hidden size, B batch, T sequence, H heads, G key/value
 * heads, D head size, F output features, V vocabulary rows held by this rank.
 */
#ifndef TRM_TRAINER_OPS_OPS_H
#define TRM_TRAINER_OPS_OPS_H

#include <stdbool.h>

#include "base/exact_sum.h"
#include "trainer/ops/cross_entropy.h"
#include "trainer/ops/device.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/tensor.h"

struct trm_ops {
    const char *name;

    /* The words of trm_device_describe; NULL: the name alone. */
    void (*describe)(const struct trm_device *dev, char *text, size_t text_bytes);
    /* Waits for the device's work, or sets its error; NULL: ops are done when they return. */
    void (*sync)(struct trm_device *dev);
    /* trm_device_mark; NULL: nobody is told. */
    void (*mark)(struct trm_device *dev, const char *name);
    const struct trm_device_memory *memory; /* NULL: the host's */
    /* Bytes of scratch that ops within these limits need. */
    size_t (*workspace_bytes)(struct trm_device *dev, const struct trm_ops_limits *limits);

    void (*zero)(struct trm_device *dev, struct trm_tensor t);
    void (*copy)(struct trm_device *dev, struct trm_tensor to, struct trm_tensor from);
    /* out = a + b, elementwise; in place allowed. */
    void (*add)(struct trm_device *dev, struct trm_tensor out, struct trm_tensor a,
                struct trm_tensor b);
    /* linear.h has their contracts. */
    trm_matmul_fn *matmul;
    trm_linear_forward_fn *linear_forward;
    trm_linear_backward_fn *linear_backward;

    /* y = x + bias, row by row; in place allowed. For row-parallel layers, after the reduction.
     * Backward: dbias[F] += column sums of dy[N, F]. */
    void (*bias_forward)(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                         struct trm_tensor bias);
    void (*bias_backward)(struct trm_device *dev, struct trm_tensor dbias, struct trm_tensor dy);

    /* y[N, F] = act(pre): what linear_forward gave, bit for bit, but for bfloat16, where that may
     * have rounded `pre` after its activation. */
    void (*activation_forward)(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                               enum trm_activation activation);
    /* dpre[N, F] = dy * act'(pre); in place allowed (dpre = dy). */
    void (*activation_backward)(struct trm_device *dev, struct trm_tensor dpre,
                                struct trm_tensor dy, struct trm_tensor pre,
                                enum trm_activation activation);

    /* y[N, C] = norm(x) * weight + bias; mean[N], rstd[N] are kept for backward. */
    void (*norm_forward)(struct trm_device *dev, struct trm_tensor y, struct trm_tensor mean,
                         struct trm_tensor rstd, struct trm_tensor x, struct trm_tensor weight,
                         struct trm_tensor bias, enum trm_norm kind, float epsilon);
    /* total[N, C] = x + branch, a residual stream and what a sublayer adds to it, rounded to its
     * type, and y = norm(total): the bits of `add` and norm_forward, in one pass. `total` in place
     * of x or branch allowed. Its backward is norm_backward: dx, the gradient of `total`, is that
     * of x and of the branch. */
    void (*residual_norm_forward)(struct trm_device *dev, struct trm_tensor y,
                                  struct trm_tensor total, struct trm_tensor mean,
                                  struct trm_tensor rstd, struct trm_tensor x,
                                  struct trm_tensor branch, struct trm_tensor weight,
                                  struct trm_tensor bias, enum trm_norm kind, float epsilon);
    /* dx[N, C] += gradient through the norm (dx holds the residual's gradient already);
     * dweight[C] +=, dbias[C] +=. */
    void (*norm_backward)(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dweight,
                          struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                          struct trm_tensor mean, struct trm_tensor rstd, struct trm_tensor weight,
                          enum trm_norm kind);

    /* Causal attention. q[B*T, H*D], k, v[B*K, G*D] and out[B*T, H*D] may be column ranges of wider
     * matrices (row stride larger than the columns); keys per sequence K = T + position_offset.
     * log_sum_exp[B*H, T] is kept for backward. */
    void (*attention_forward)(struct trm_device *dev, struct trm_tensor out,
                              struct trm_tensor log_sum_exp, struct trm_tensor q,
                              struct trm_tensor k, struct trm_tensor v,
                              const struct trm_attention *shape);
    /* dq, dk, dv overwritten; `out` is forward's result. position_offset is 0. */
    void (*attention_backward)(struct trm_device *dev, struct trm_tensor dq, struct trm_tensor dk,
                               struct trm_tensor dv, struct trm_tensor dout, struct trm_tensor q,
                               struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                               struct trm_tensor log_sum_exp, const struct trm_attention *shape);

    /* x[N, C] = table[token - first_row] for tokens[N] (int32) in [first_row, first_row + V), else
     * 0. */
    void (*embedding_forward)(struct trm_device *dev, struct trm_tensor x, struct trm_tensor tokens,
                              struct trm_tensor table, int64_t first_row);
    /* dtable[token - first_row] += dx rows, each table row in ascending order of N. */
    void (*embedding_backward)(struct trm_device *dev, struct trm_tensor dtable,
                               struct trm_tensor dx, struct trm_tensor tokens, int64_t first_row);

    /* x[B*T, C] += table[position_offset + t], t = row modulo T. */
    void (*position_forward)(struct trm_device *dev, struct trm_tensor x, struct trm_tensor table,
                             int64_t seq_length, int64_t position_offset);
    /* dtable[t] += sum over the batch of dx, in ascending order of batch. */
    void (*position_backward)(struct trm_device *dev, struct trm_tensor dtable,
                              struct trm_tensor dx, int64_t seq_length);

    /* cross_entropy.h has their contracts. */
    trm_cross_entropy_fn *cross_entropy;
    trm_cross_entropy_maximum_fn *cross_entropy_maximum;
    trm_cross_entropy_sums_fn *cross_entropy_sums;
    trm_cross_entropy_gradient_fn *cross_entropy_gradient;

    /* Adds the float64 sum of squares of each aligned block of TRM_NORM_BLOCK elements to `sum`. */
    void (*sum_of_squares)(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t);
    /* Adds every element to `sum`, exactly. */
    void (*sum)(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t);
    /* The verdict on a step with these sums, by the host's arithmetic, to the last bit. May be
     * NULL: then the host decides before it updates. */
    void (*judge)(struct trm_device *dev, struct trm_step_verdict *verdict,
                  const struct trm_exact_sum *loss, const struct trm_exact_sum *squares,
                  const struct trm_step_rules *rules);
    /* A hash of the bytes (device.h: TRM_DIGEST_BYTES). May be NULL. */
    uint64_t (*digest)(struct trm_device *dev, struct trm_tensor t);

    /* Decoupled weight decay (Loshchilov and Hutter 2019): parameter and both moments in place. */
    void (*adamw)(struct trm_device *dev, struct trm_tensor parameter, struct trm_tensor exp_avg,
                  struct trm_tensor exp_avg_sq, struct trm_tensor gradient,
                  const struct trm_adamw *settings);
};

#endif
