/*
 * GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019): learned
 * positions, pre-norm layers with LayerNorm and GELU, a head tied to the token embedding.
 *
 * Initial weights: normal(0, init_method_std), output layers of both sublayers scaled by
 * 1 / sqrt(2 layers); biases zero, norms one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "trainer/model/architecture.h"
#include "trainer/model/block.h"
#include "trainer/model/embedding.h"
#include "trainer/model/head.h"

#define TENSORS_BEFORE_LAYERS 2
#define TENSORS_PER_LAYER     16
#define TENSORS_AFTER_LAYERS  2

struct gpt2 {
    int layers;
    struct trm_embedding embedding;
    struct trm_block *blocks;
    struct trm_block_state *states; /* [layers], or [1] under full recomputation */
    int state_count;
    bool shares_attention; /* among all states */
    struct trm_norm_layer final_norm;
    struct trm_norm_state final_state;
    struct trm_head head;
    struct trm_tensor
        *inputs; /* [layers + 1]: residual stream before each layer, and after (stream.h) */
    struct trm_tensor normed; /* the same after the final norm */
    struct trm_tensor dx;     /* gradient of the stream */
};

/* Appends one tensor to specs, or only counts it. */
struct declaration {
    struct trm_tensor_spec *specs;
    int count, max;
    int group;
    struct trm_tensor_spec beyond; /* where tensors past max go */
};

static struct trm_tensor_spec *declare(struct declaration *d, const char *prefix, const char *name,
                                       int64_t rows, int64_t columns, enum trm_split split)
{
    struct trm_tensor_spec *spec = d->count < d->max ? &d->specs[d->count] : &d->beyond;
    d->count++;
    *spec = (struct trm_tensor_spec){
        .dims = columns > 0 ? 2 : 1,
        .rows = rows,
        .columns = columns > 0 ? columns : 1,
        .padded_rows = rows,
        .split = split,
        .decay = columns > 0,
        .bucket_group = d->group,
    };
    snprintf(spec->name, sizeof spec->name, "%s%s", prefix, name);
    return spec;
}

static void declare_norm(struct declaration *d, const char *prefix, const char *name, int64_t size)
{
    char path[64];
    snprintf(path, sizeof path, "%s%s", prefix, name);
    declare(d, path, ".weight", size, 0, TRM_SPLIT_NONE)->init = TRM_INIT_ONE;
    declare(d, path, ".bias", size, 0, TRM_SPLIT_NONE);
}

static struct trm_tensor_spec *declare_matrix(struct declaration *d, const char *prefix,
                                              const char *name, int64_t rows, int64_t columns,
                                              enum trm_split split, double std)
{
    struct trm_tensor_spec *spec = declare(d, prefix, name, rows, columns, split);
    spec->init = TRM_INIT_NORMAL;
    spec->init_std = std;
    return spec;
}

static void declare_layer(struct declaration *d, const struct trm_config *config, int layer)
{
    static const char *const parts[3] = {"q", "k", "v"};
    int64_t c = config->hidden_size, f = config->ffn_hidden_size;
    double std = config->init_method_std;
    double output_std = std / __builtin_sqrt(2.0 * (double)config->num_layers);
    char prefix[40], name[48];

    snprintf(prefix, sizeof prefix, "layers.%d.", layer);
    declare_norm(d, prefix, "norm1", c);
    for (int p = 0; p < 3; p++) {
        snprintf(name, sizeof name, "attention.%s.weight", parts[p]);
        declare_matrix(d, prefix, name, c, c, TRM_SPLIT_ROWS, std)->fused = p > 0;
    }
    for (int p = 0; p < 3; p++) {
        snprintf(name, sizeof name, "attention.%s.bias", parts[p]);
        declare(d, prefix, name, c, 0, TRM_SPLIT_ROWS)->fused = p > 0;
    }
    declare_matrix(d, prefix, "attention.projection.weight", c, c, TRM_SPLIT_COLUMNS, output_std);
    declare(d, prefix, "attention.projection.bias", c, 0, TRM_SPLIT_NONE);
    declare_norm(d, prefix, "norm2", c);
    declare_matrix(d, prefix, "mlp.up.weight", f, c, TRM_SPLIT_ROWS, std);
    declare(d, prefix, "mlp.up.bias", f, 0, TRM_SPLIT_ROWS);
    declare_matrix(d, prefix, "mlp.down.weight", c, f, TRM_SPLIT_COLUMNS, output_std);
    declare(d, prefix, "mlp.down.bias", c, 0, TRM_SPLIT_NONE);
}

static int gpt2_declare(const struct trm_config *config, int tensor_size,
                        struct trm_tensor_spec *specs, int max)
{
    struct declaration d = {.specs = specs, .max = max};
    int64_t multiple = config->make_vocab_size_divisible_by * tensor_size;
    struct trm_tensor_spec *token =
        declare_matrix(&d, "embedding.", "token.weight", config->vocab_size, config->hidden_size,
                       TRM_SPLIT_ROWS, config->init_method_std);

    token->padded_rows = (config->vocab_size + multiple - 1) / multiple * multiple;
    token->own_bucket = true;
    d.group++;
    declare_matrix(&d, "embedding.", "position.weight", config->seq_length, config->hidden_size,
                   TRM_SPLIT_NONE, config->init_method_std);
    for (int layer = 0; layer < config->num_layers; layer++) {
        d.group++;
        declare_layer(&d, config, layer);
    }
    d.group++;
    declare_norm(&d, "", "final_norm", config->hidden_size);
    return d.count;
}

static void gpt2_destroy(void *state)
{
    struct gpt2 *g = state;
    if (!g)
        return;
    free(g->blocks);
    free(g->states);
    free(g->inputs);
    free(g);
}

/* The order of declare_layer. */
static struct trm_block block_at(int first)
{
    return (struct trm_block){
        .norm1 = {first, first + 1},
        .qkv = {.weight = first + 2, .bias = first + 5, .count = 3},
        .projection = {.weight = first + 8, .bias = first + 9, .count = 1},
        .norm2 = {first + 10, first + 11},
        .up = {.weight = first + 12, .bias = first + 13, .count = 1},
        .down = {.weight = first + 14, .bias = first + 15, .count = 1},
        .first_tensor = first,
        .tensor_count = TENSORS_PER_LAYER,
    };
}

static enum trm_status gpt2_create(struct trm_model_context *c, void **state, struct trm_error *err)
{
    struct gpt2 *g = calloc(1, sizeof *g);
    int layers = (int)c->config->num_layers;
    int after = TENSORS_BEFORE_LAYERS + layers * TENSORS_PER_LAYER;
    bool shared = c->config->recompute_granularity == TRM_RECOMPUTE_FULL || !c->training;

    TRM_ASSERT(c->layout->tensor_count == after + TENSORS_AFTER_LAYERS);
    if (g) {
        g->layers = layers;
        g->state_count = shared ? 1 : layers;
        g->shares_attention = c->config->recompute_granularity == TRM_RECOMPUTE_ATTENTION;
        g->blocks = calloc((size_t)layers, sizeof *g->blocks);
        g->states = calloc((size_t)g->state_count, sizeof *g->states);
        g->inputs = calloc((size_t)layers + 1, sizeof *g->inputs);
    }
    if (!g || !g->blocks || !g->states || !g->inputs) {
        gpt2_destroy(g);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a model of %d layers", layers);
    }
    g->embedding = (struct trm_embedding){.token = 0, .position = 1};
    for (int i = 0; i < layers; i++)
        g->blocks[i] = block_at(TENSORS_BEFORE_LAYERS + i * TENSORS_PER_LAYER);
    g->final_norm = (struct trm_norm_layer){after, after + 1};
    g->head.weight = g->embedding.token;
    *state = g;
    return TRM_OK;
}

static void gpt2_place(struct trm_model_context *c, void *state, struct trm_arena *arena)
{
    struct gpt2 *g = state;

    for (int i = 0; i < g->state_count; i++)
        trm_block_place(c, arena, &g->states[i],
                        g->shares_attention && i > 0 ? &g->states[0] : NULL);
    /* Without backward two streams take turns: a layer reads one and writes the other. */
    for (int i = 0; i <= g->layers; i++)
        g->inputs[i] = c->training || i < 2 ? trm_stream_alloc(c, arena) : g->inputs[i - 2];
    trm_norm_place(c, arena, &g->final_state);
    g->normed = trm_stream_alloc(c, arena);
    if (c->training)
        g->dx = trm_stream_alloc(c, arena);
    trm_head_place(c, arena, &g->head);
}

/* The residual stream through all layers and the final norm: this rank's rows. */
static struct trm_tensor forward(struct trm_model_context *c, struct gpt2 *g,
                                 struct trm_tensor inputs)
{
    struct trm_tensor before = {0};

    trm_context_param_wait(c, g->embedding.token, TENSORS_BEFORE_LAYERS);
    trm_embedding_forward(c, &g->embedding, trm_stream_now(c, g->inputs[0]), inputs);
    for (int i = 0; i < g->layers; i++) {
        const struct trm_block *block = &g->blocks[i];
        trm_context_param_wait(c, block->first_tensor, block->tensor_count);
        trm_block_forward(c, block, &g->states[i % g->state_count], trm_stream_now(c, g->inputs[i]),
                          before, true);
        before = trm_stream_now(c, g->states[i % g->state_count].middle);
    }
    trm_context_param_wait(c, g->final_norm.weight, TENSORS_AFTER_LAYERS);
    trm_norm_residual_forward(
        c, &g->final_norm, &g->final_state, trm_stream_now(c, g->normed),
        trm_stream_now(c, g->inputs[g->layers]), before,
        trm_stream_mine(c, trm_tensor_rows(c->branch, 0, trm_context_rows(c))));
    return trm_stream_now(c, g->normed);
}

static struct trm_tensor gpt2_loss(struct trm_model_context *c, void *state,
                                   struct trm_tensor inputs, struct trm_tensor targets,
                                   bool backward)
{
    struct gpt2 *g = state;
    struct trm_tensor normed = forward(c, g, inputs), none = {0};
    struct trm_tensor dx = trm_stream_now(c, g->dx), dnormed;
    bool recompute = g->state_count < g->layers;
    bool attend_again = g->shares_attention && !recompute;

    dnormed = trm_head_loss(c, &g->head, normed, targets, backward ? c->branch : none);
    if (!backward)
        return trm_head_losses(c, &g->head);
    trm_context_backward(c);
    c->ops->zero(c->device, dx);
    trm_norm_backward(c, &g->final_norm, &g->final_state, dx, dnormed,
                      trm_stream_now(c, g->inputs[g->layers]));
    trm_norm_finish_gradients(c);
    trm_context_grad_ready(c, g->final_norm.weight, TENSORS_AFTER_LAYERS);
    for (int i = g->layers - 1; i >= 0; i--) {
        struct trm_block_state *s = &g->states[i % g->state_count];
        bool is_last = i == g->layers - 1; /* its state is still there */
        if (recompute && !is_last)
            trm_block_forward(c, &g->blocks[i], s, trm_stream_now(c, g->inputs[i]), none, false);
        trm_block_backward(c, &g->blocks[i], s, dx, trm_stream_now(c, g->inputs[i]),
                           attend_again && !is_last);
    }
    trm_embedding_backward(c, &g->embedding, dx, inputs);
    return trm_head_losses(c, &g->head);
}

static struct trm_tensor gpt2_next_logits(struct trm_model_context *c, void *state,
                                          struct trm_tensor inputs)
{
    struct gpt2 *g = state;
    struct trm_tensor normed = forward(c, g, inputs);
    return trm_head_logits(c, &g->head, trm_tensor_rows(normed, normed.shape[0] - 1, 1));
}

const struct trm_model_architecture trm_architecture_gpt2 = {
    .name = "gpt2",
    .declare = gpt2_declare,
    .create = gpt2_create,
    .destroy = gpt2_destroy,
    .place = gpt2_place,
    .loss = gpt2_loss,
    .next_logits = gpt2_next_logits,
};
