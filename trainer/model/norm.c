#include "trainer/model/norm.h"

void trm_norm_place(struct trm_model_context *c, struct trm_arena *arena,
                    struct trm_norm_state *state)
{
    state->mean = trm_context_alloc_wide(c, arena, TRM_ARENA_ACTIVATIONS, 1, c->max_rows);
    state->rstd = trm_context_alloc_wide(c, arena, TRM_ARENA_ACTIVATIONS, 1, c->max_rows);
}

/* Statistics of the rows of the pass under way. */
static struct trm_tensor statistics(struct trm_tensor t, int64_t rows)
{
    return trm_tensor_1d(t.data, t.type, rows);
}

void trm_norm_forward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                      struct trm_norm_state *state, struct trm_tensor y, struct trm_tensor x)
{
    c->ops->norm_forward(
        c->device, y, statistics(state->mean, x.shape[0]), statistics(state->rstd, x.shape[0]), x,
        trm_context_parameter(c, layer->weight, 1), trm_context_parameter(c, layer->bias, 1),
        TRM_NORM_LAYER, (float)c->config->layernorm_epsilon);
}

void trm_norm_residual_forward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                               struct trm_norm_state *state, struct trm_tensor y,
                               struct trm_tensor total, struct trm_tensor x,
                               struct trm_tensor branch)
{
    int64_t rows = x.shape[0];
    c->ops->residual_norm_forward(c->device, y, total, statistics(state->mean, rows),
                                  statistics(state->rstd, rows), x, branch,
                                  trm_context_parameter(c, layer->weight, 1),
                                  trm_context_parameter(c, layer->bias, 1), TRM_NORM_LAYER,
                                  (float)c->config->layernorm_epsilon);
}

void trm_norm_backward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                       const struct trm_norm_state *state, struct trm_tensor dx,
                       struct trm_tensor dy, struct trm_tensor x)
{
    c->ops->norm_backward(c->device, dx, trm_context_gradient_to_add(c, layer->weight, 1),
                          trm_context_gradient_to_add(c, layer->bias, 1), dy, x,
                          statistics(state->mean, x.shape[0]), statistics(state->rstd, x.shape[0]),
                          trm_context_parameter(c, layer->weight, 1), TRM_NORM_LAYER);
}
