#include "trainer/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "trainer/model/architecture.h"

struct trm_model {
    struct trm_model_context context;
    const struct trm_model_architecture *architecture;
    void *state;
};

static const struct trm_model_architecture *const architectures[] = {
    [TRM_ARCHITECTURE_GPT2] = &trm_architecture_gpt2,
};

int trm_model_declare(const struct trm_config *config, int tensor_size,
                      struct trm_tensor_spec *specs, int max)
{
    return architectures[config->architecture]->declare(config, tensor_size, specs, max);
}

double trm_model_flops_per_token(const struct trm_config *config)
{
    double layers = (double)config->num_layers, hidden = (double)config->hidden_size;
    double ffn = (double)config->ffn_hidden_size;
    /* q, k, v and the projection; both of the MLP; the head. */
    double matrices =
        layers * (4 * hidden * hidden + 2 * hidden * ffn) + (double)config->vocab_size * hidden;
    /* Two products of T/2 x C each (causal), forward and twice that backward, two FLOPs each. */
    double attention = layers * (double)config->seq_length * hidden;
    return 6 * matrices + 6 * attention;
}

static void fill_sizes(struct trm_model_context *c, const struct trm_model_setup *setup)
{
    const struct trm_config *config = setup->config;
    const struct trm_layout_tensor *vocabulary = &setup->layout->tensors[0];
    int tensor_size = setup->layout->tensor_size;

    c->config = config;
    c->layout = setup->layout;
    c->device = setup->device;
    c->ops = setup->device->ops;
    c->tensor = setup->tensor;
    c->type = setup->type;
    c->wide_type = setup->type == TRM_BF16 ? TRM_F32 : setup->type;
    c->training = setup->training;
    c->sequence_parallel = config->sequence_parallel && tensor_size > 1;
    c->batch = setup->batch;
    c->seq_length = config->seq_length;
    c->max_rows = setup->batch * config->seq_length;
    c->hidden = config->hidden_size;
    c->ffn = config->ffn_hidden_size / tensor_size;
    c->heads = config->num_attention_heads / tensor_size;
    c->head_size = config->hidden_size / config->num_attention_heads;
    c->attention_width = c->heads * c->head_size;
    c->vocabulary = vocabulary->rows;
    c->first_vocabulary_row = vocabulary->first_row;
    c->valid_vocabulary_rows = vocabulary->valid_rows;
}

enum trm_status trm_model_create(const struct trm_model_setup *setup, struct trm_model **out,
                                 struct trm_error *err)
{
    enum trm_status status;
    struct trm_model *model = calloc(1, sizeof *model);

    if (!model)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the model");
    fill_sizes(&model->context, setup);
    model->architecture = architectures[setup->config->architecture];
    status = model->architecture->create(&model->context, &model->state, err);
    if (status == TRM_OK && model->context.sequence_parallel)
        status = trm_request_create(setup->tensor, 0, &model->context.gather, err);
    if (status != TRM_OK) {
        trm_model_destroy(model);
        return status;
    }
    *out = model;
    return TRM_OK;
}

void trm_model_destroy(struct trm_model *model)
{
    if (!model)
        return;
    if (model->state)
        model->architecture->destroy(model->state);
    trm_request_destroy(model->context.gather);
    if (model->context.wide_sum != model->context.tensor_sum)
        trm_ordered_all_reduce_destroy(model->context.wide_sum);
    trm_ordered_all_reduce_destroy(model->context.tensor_sum);
    free(model);
}

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* One sum of the tensor group, and its staging; nothing while measuring. */
static enum trm_status place_sum(struct trm_model_context *c, struct trm_arena *arena, size_t count,
                                 enum trm_type type, struct trm_ordered_all_reduce **out,
                                 struct trm_error *err)
{
    size_t bytes = trm_ordered_all_reduce_bytes(c->tensor, count, type);
    void *staging = trm_arena_alloc(arena, TRM_ARENA_COMMUNICATION, bytes);

    return staging ? trm_ordered_all_reduce_create(c->tensor, count, type, staging, out, err)
                   : TRM_OK;
}

/* Sums of [N, C], and of the head's two rows of statistics and the gradients of norms. */
static enum trm_status place_tensor_sums(struct trm_model_context *c, struct trm_arena *arena,
                                         struct trm_error *err)
{
    size_t stream = (size_t)(c->max_rows * c->hidden), rows = (size_t)(2 * c->max_rows);
    size_t norms = c->sequence_parallel ? (size_t)(2 * TRM_PENDING_NORMS * c->hidden) : 0;
    enum trm_status status = TRM_OK;

    if (c->tensor->size == 1)
        return TRM_OK;
    if (rows < norms)
        rows = norms;
    if (c->type == c->wide_type) {
        status = place_sum(c, arena, stream > rows ? stream : rows, c->type, &c->tensor_sum, err);
        c->wide_sum = c->tensor_sum;
        return status;
    }
    status = place_sum(c, arena, stream, c->type, &c->tensor_sum, err);
    return status == TRM_OK ? place_sum(c, arena, rows, c->wide_type, &c->wide_sum, err) : status;
}

enum trm_status trm_model_place(struct trm_model *model, struct trm_arena *arena,
                                struct trm_error *err)
{
    struct trm_model_context *c = &model->context;
    int64_t wide = largest(c->ffn, 3 * c->attention_width);
    struct trm_ops_limits limits = {
        .type = c->type,
        .max_rows = c->max_rows,
        .max_columns = largest(largest(c->vocabulary, c->hidden), wide),
        .vocabulary = c->vocabulary,
        .attention = {.batch = (int)c->batch,
                      .seq_length = (int)c->seq_length,
                      .heads = (int)c->heads,
                      .kv_heads = (int)c->heads,
                      .head_size = (int)c->head_size},
    };
    size_t workspace_bytes = c->ops->workspace_bytes(c->device, &limits);

    c->branch = trm_context_alloc(c, arena, TRM_ARENA_ACTIVATIONS, c->max_rows, c->hidden);
    if (c->training) {
        c->wide = trm_context_alloc(c, arena, TRM_ARENA_ACTIVATIONS, c->max_rows, wide);
        c->narrow =
            trm_context_alloc(c, arena, TRM_ARENA_ACTIVATIONS, c->max_rows, c->attention_width);
    }
    if (c->sequence_parallel) {
        c->gathered = trm_context_alloc(c, arena, TRM_ARENA_ACTIVATIONS, c->max_rows, c->hidden);
        c->norm_parts = trm_context_alloc_wide(c, arena, TRM_ARENA_ACTIVATIONS,
                                               2 * TRM_PENDING_NORMS, c->hidden);
    }
    model->architecture->place(c, model->state, arena);
    c->device->workspace = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, workspace_bytes);
    c->device->workspace_bytes = workspace_bytes;
    return place_tensor_sums(c, arena, err);
}

void trm_model_set_parameters(struct trm_model *model, void *parameters)
{
    model->context.parameters = parameters;
}

/* One pass over batch x seq_length tokens; the losses are added to `loss` exactly. */
static enum trm_status run(struct trm_model *model, const int32_t *inputs, const int32_t *targets,
                           bool backward, struct trm_exact_sum *loss, struct trm_error *err)
{
    struct trm_model_context *c = &model->context;
    int64_t rows = trm_context_rows(c);
    struct trm_tensor in = trm_tensor_1d((void *)(uintptr_t)inputs, TRM_I32, rows);
    struct trm_tensor out = trm_tensor_1d((void *)(uintptr_t)targets, TRM_I32, rows);
    struct trm_tensor losses;

    c->status = TRM_OK;
    c->pending_norm_count = 0;
    losses = model->architecture->loss(c, model->state, in, out, backward);
    c->ops->sum(c->device, loss, losses);
    if (c->status != TRM_OK) {
        if (err)
            *err = c->error;
        return c->status;
    }
    return trm_device_check(c->device, err);
}

enum trm_status trm_model_forward_backward(struct trm_model *model, const int32_t *inputs,
                                           const int32_t *targets, void *gradients, bool accumulate,
                                           const struct trm_model_hooks *hooks,
                                           struct trm_exact_sum *loss, struct trm_error *err)
{
    TRM_ASSERT(model->context.training && model->context.parameters);
    model->context.gradients = gradients;
    model->context.accumulate = accumulate;
    model->context.hooks = hooks;
    return run(model, inputs, targets, true, loss, err);
}

enum trm_status trm_model_evaluate(struct trm_model *model, const int32_t *inputs,
                                   const int32_t *targets, const struct trm_model_hooks *hooks,
                                   struct trm_exact_sum *loss, struct trm_error *err)
{
    model->context.hooks = hooks;
    return run(model, inputs, targets, false, loss, err);
}

enum trm_status trm_model_next_logits(struct trm_model *model, const int32_t *inputs,
                                      int64_t length, float *logits, struct trm_error *err)
{
    struct trm_model_context *c = &model->context;
    struct trm_tensor row;

    TRM_ASSERT(c->batch == 1 && c->tensor->size == 1 && c->type == TRM_F32);
    TRM_ASSERT(length >= 1 && length <= c->config->seq_length);
    c->hooks = NULL;
    c->seq_length = length;
    row = model->architecture->next_logits(
        c, model->state, trm_tensor_1d((void *)(uintptr_t)inputs, TRM_I32, length));
    c->seq_length = c->config->seq_length;
    memcpy(logits, row.data, (size_t)c->config->vocab_size * sizeof *logits);
    return trm_device_sync(c->device, err);
}
