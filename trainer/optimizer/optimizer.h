/*
 * ★ trm_optimizer: AdamW over the shards that this rank owns (ZeRO-1: Rajbhandari et al., 2020).
 *
 * Moments exist for owned elements alone, and so do float32 master weights, where parameters are
 * bfloat16: an update adds to the master, and the parameter is its rounded value. The squared
 * gradient norm is an exact sum over fixed blocks, so it depends on no layout of data-parallel
 * ranks; replicated tensors count once.
 */
#ifndef TRM_TRAINER_OPTIMIZER_OPTIMIZER_H
#define TRM_TRAINER_OPTIMIZER_OPTIMIZER_H

#include "base/arena.h"
#include "base/exact_sum.h"
#include "trainer/config/config.h"
#include "trainer/ops/ops.h"
#include "trainer/plan/layout.h"

struct trm_optimizer;

/* Borrows config, layout and device. Parameters are of `type`. *out is returned owned. */
enum trm_status trm_optimizer_create(const struct trm_config *config,
                                     const struct trm_layout *layout, int data_rank,
                                     struct trm_device *device, enum trm_type type,
                                     struct trm_optimizer **out, struct trm_error *err);
void trm_optimizer_destroy(struct trm_optimizer *optimizer);

/* Takes both moments from the arena, and master weights where there are any; runs twice. */
void trm_optimizer_place(struct trm_optimizer *optimizer, struct trm_arena *arena);

/* First and second moment, layout->owned_elements floats each; borrowed. Master weights are as many
 * floats, of which bfloat16 parameters are the rounded values; NULL for float32 parameters. */
float *trm_optimizer_masters(struct trm_optimizer *optimizer);
float *trm_optimizer_exp_avg(struct trm_optimizer *optimizer);
float *trm_optimizer_exp_avg_sq(struct trm_optimizer *optimizer);

/* The runs of this rank's shards; borrowed. */
const struct trm_layout_run *trm_optimizer_runs(const struct trm_optimizer *optimizer, int *count);

/* Adds the sum of squares of the owned gradients that count on this rank to `sum`, which lies where
 * tensors lie. */
void trm_optimizer_sum_of_squares(struct trm_optimizer *optimizer, float *owned_gradient,
                                  struct trm_exact_sum *sum);

/* One update of the owned parameters inside the flat vector. `step` counts from 1; the gradient is
 * multiplied by `gradient_scale` (1 / tokens, times the clip factor), or as `verdict` says, which
 * lies on the device (NULL: there is none). */
void trm_optimizer_update(struct trm_optimizer *optimizer, int64_t step, double learning_rate,
                          double gradient_scale, const struct trm_step_verdict *verdict,
                          void *parameters, float *owned_gradient);

/* Owned parameters inside the flat vector become the rounded master weights, after those were set.
 * Nothing happens where there are none. */
void trm_optimizer_round(struct trm_optimizer *optimizer, void *parameters);

/* *name: of the first tensor of which an owned parameter (its master weight) or moment is not
 * finite; NULL: there is none. Borrowed from the layout. `scratch` lies where tensors lie, and is
 * overwritten. Waits for the device, whose error is returned. */
enum trm_status trm_optimizer_find_not_finite(struct trm_optimizer *optimizer, void *parameters,
                                              struct trm_exact_sum *scratch, const char **name,
                                              struct trm_error *err);

/* min(1, limit / norm); 1 when limit is 0. */
double trm_clip_factor(double norm, double limit);

#endif
