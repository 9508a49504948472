/*
 * A model: an architecture written in ops, over one flat vector of parameters.
 *
 * ★ trm_model is a table row (struct trm_model_architecture) and its context. It knows its tensors
 * (which it declares for the layout), two hooks, and no buckets, ranks of data, or optimizer.
 * Gradients of the *sum* of the losses go to the flat vector it is told, laid out as the
 * parameters.
 *
 * All memory is taken from an arena in `place`, which runs twice (measure, then commit). One
 * thread.
 */
#ifndef TRM_TRAINER_MODEL_MODEL_H
#define TRM_TRAINER_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "collectives/ordered.h"
#include "trainer/config/config.h"
#include "trainer/ops/ops.h"
#include "trainer/plan/layout.h"

struct trm_model;

/* Runs of tensors are of the layout, [first, first + count). */
struct trm_model_hooks {
    void *context;
    /* Before the forward pass first reads these parameters. May be NULL. */
    void (*param_wait)(void *context, int first, int count);
    /* The forward pass is over, the backward pass begins. May be NULL. */
    void (*backward)(void *context);
    /* The gradients of these tensors are complete for this micro-batch. May be NULL. */
    void (*grad_ready)(void *context, int first, int count);
};

struct trm_model_setup {
    const struct trm_config *config; /* checked; borrowed */
    const struct trm_layout *layout; /* borrowed */
    struct trm_device *device;       /* borrowed */
    struct trm_comm *tensor;         /* borrowed: my tensor-parallel group */
    enum trm_type type; /* of parameters and activations; gradients are float32 for bfloat16 */
    int64_t batch;      /* samples per pass */
    bool training;      /* false: forward only, no activations kept */
};

/* The architecture's tensors into specs[max]; returns how many there are (call with max 0 to
 * count). `tensor_size` decides the padding of the vocabulary alone. */
int trm_model_declare(const struct trm_config *config, int tensor_size,
                      struct trm_tensor_spec *specs, int max);

/* Model FLOPs of one token, forward and backward, as MFU counts them (Chowdhery et al., "PaLM",
 * 2022, appendix B): 6 per weight of a matrix that a token is multiplied by, and the two products
 * of attention, of which causal attention needs half. Nothing that is computed again, no padding.
 */
double trm_model_flops_per_token(const struct trm_config *config);

/* *out is returned owned; borrows what setup points to. */
enum trm_status trm_model_create(const struct trm_model_setup *setup, struct trm_model **out,
                                 struct trm_error *err);
void trm_model_destroy(struct trm_model *model);

/* Takes activations, tensor-parallel staging and the device's workspace from the arena. */
enum trm_status trm_model_place(struct trm_model *model, struct trm_arena *arena,
                                struct trm_error *err);

/* The flat vector of parameters: layout->elements elements of the setup's type. */
void trm_model_set_parameters(struct trm_model *model, void *parameters);

/* Collective over the tensor group. inputs, targets: int32 [batch * seq_length], in the device's
 * memory, as parameters, gradients and `loss` are. Adds the exact sum of the losses of all
 * positions to `loss`, and writes gradients: over what `gradients` holds when `accumulate` is
 * false, onto it otherwise. The work may still be under way when this returns (trm_device_sync).
 * Returns the device's or the group's first error so far. */
enum trm_status trm_model_forward_backward(struct trm_model *model, const int32_t *inputs,
                                           const int32_t *targets, void *gradients, bool accumulate,
                                           const struct trm_model_hooks *hooks,
                                           struct trm_exact_sum *loss, struct trm_error *err);

/* Collective over the tensor group. Adds the exact sum of the losses to `loss`, as above. */
enum trm_status trm_model_evaluate(struct trm_model *model, const int32_t *inputs,
                                   const int32_t *targets, const struct trm_model_hooks *hooks,
                                   struct trm_exact_sum *loss, struct trm_error *err);

/* Logits of the token that follows the last of `inputs`[length] (length <= seq_length, batch 1, no
 * tensor parallelism) into logits[vocab_size], as float32. */
enum trm_status trm_model_next_logits(struct trm_model *model, const int32_t *inputs,
                                      int64_t length, float *logits, struct trm_error *err);

#endif
