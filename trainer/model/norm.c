#include "trainer/model/norm.h"

#include "base/assert.h"

void trm_norm_place(struct trm_model_context *c, struct trm_arena *arena,
                    struct trm_norm_state *state)
{
    int64_t rows = trm_stream_rows(c, c->max_rows);

    state->mean = trm_context_alloc_wide(c, arena, TRM_ARENA_ACTIVATIONS, 1, rows);
    state->rstd = trm_context_alloc_wide(c, arena, TRM_ARENA_ACTIVATIONS, 1, rows);
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

/* Row `row` of the gradients over this rank's rows. */
static struct trm_tensor part(const struct trm_model_context *c, int row)
{
    return trm_tensor_1d(trm_tensor_rows(c->norm_parts, row, 1).data, c->wide_type, c->hidden);
}

void trm_norm_backward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                       const struct trm_norm_state *state, struct trm_tensor dx,
                       struct trm_tensor dy, struct trm_tensor x)
{
    struct trm_tensor dweight, dbias;

    if (c->sequence_parallel) {
        int pending = c->pending_norm_count++;
        TRM_ASSERT(pending < TRM_PENDING_NORMS);
        c->pending_norms[pending] = layer;
        c->ops->zero(c->device, trm_tensor_rows(c->norm_parts, 2 * pending, 2));
        dweight = part(c, 2 * pending);
        dbias = part(c, 2 * pending + 1);
    } else {
        dweight = trm_context_gradient_to_add(c, layer->weight, 1);
        dbias = trm_context_gradient_to_add(c, layer->bias, 1);
    }
    c->ops->norm_backward(c->device, dx, dweight, dbias, dy, x, statistics(state->mean, x.shape[0]),
                          statistics(state->rstd, x.shape[0]),
                          trm_context_parameter(c, layer->weight, 1), TRM_NORM_LAYER);
}

static void finish(struct trm_model_context *c, int tensor, struct trm_tensor sum)
{
    struct trm_tensor gradient = trm_context_gradient(c, tensor, 1);

    if (c->accumulate)
        c->ops->add(c->device, gradient, gradient, sum);
    else
        c->ops->copy(c->device, gradient, sum);
}

void trm_norm_finish_gradients(struct trm_model_context *c)
{
    if (c->pending_norm_count == 0)
        return;
    trm_context_tensor_sum(c, trm_tensor_rows(c->norm_parts, 0, 2 * c->pending_norm_count));
    for (int i = 0; i < c->pending_norm_count; i++) {
        finish(c, c->pending_norms[i]->weight, part(c, 2 * i));
        finish(c, c->pending_norms[i]->bias, part(c, 2 * i + 1));
    }
    c->pending_norm_count = 0;
}
