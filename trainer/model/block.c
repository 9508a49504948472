#include "trainer/model/block.h"

void trm_block_place(struct trm_model_context *c, struct trm_arena *arena,
                     struct trm_block_state *s, const struct trm_block_state *shared)
{
    enum trm_arena_category kind = TRM_ARENA_ACTIVATIONS;
    int64_t rows = c->max_rows;

    trm_norm_place(c, arena, &s->norm1);
    trm_norm_place(c, arena, &s->norm2);
    if (shared) {
        s->normed1 = shared->normed1;
        s->qkv = shared->qkv;
        s->attended = shared->attended;
        s->log_sum_exp = shared->log_sum_exp;
    } else {
        s->normed1 = trm_stream_alloc(c, arena);
        s->qkv = trm_context_alloc(c, arena, kind, rows, 3 * c->attention_width);
        s->attended = trm_context_alloc(c, arena, kind, rows, c->attention_width);
        s->log_sum_exp = trm_context_alloc_wide(c, arena, kind, rows, c->heads);
    }
    s->middle = trm_stream_alloc(c, arena);
    s->normed2 = trm_stream_alloc(c, arena);
    s->pre = trm_context_alloc(c, arena, kind, rows, c->ffn);
    s->expanded = trm_context_alloc(c, arena, kind, rows, c->ffn);
}

static struct trm_attention attention_shape(const struct trm_model_context *c)
{
    /* 1 / sqrt(D), computed in double: sqrt is exact to the last bit everywhere. */
    return (struct trm_attention){
        .batch = (int)c->batch,
        .seq_length = (int)c->seq_length,
        .heads = (int)c->heads,
        .kv_heads = (int)c->heads,
        .head_size = (int)c->head_size,
        .scale = (float)(1.0 / __builtin_sqrt((double)c->head_size)),
    };
}

/* Rows of the pass under way. */
static struct trm_tensor now(const struct trm_model_context *c, struct trm_tensor t)
{
    return trm_tensor_rows(t, 0, trm_context_rows(c));
}

static struct trm_tensor log_sum_exp_view(const struct trm_model_context *c,
                                          const struct trm_block_state *s)
{
    return trm_tensor_2d(s->log_sum_exp.data, c->wide_type, c->batch * c->heads, c->seq_length);
}

/* From the first norm's output to the attention's. */
static void attend(struct trm_model_context *c, const struct trm_block *block,
                   struct trm_block_state *s)
{
    struct trm_tensor none = {0}, qkv = now(c, s->qkv);
    struct trm_attention shape = attention_shape(c);
    int64_t width = c->attention_width;

    trm_linear_column_forward(c, &block->qkv, qkv, none, trm_stream_now(c, s->normed1),
                              TRM_ACT_NONE);
    c->ops->attention_forward(
        c->device, now(c, s->attended), log_sum_exp_view(c, s), trm_tensor_columns(qkv, 0, width),
        trm_tensor_columns(qkv, width, width), trm_tensor_columns(qkv, 2 * width, width), &shape);
}

void trm_block_forward(struct trm_model_context *c, const struct trm_block *block,
                       struct trm_block_state *s, struct trm_tensor x, struct trm_tensor before,
                       bool whole)
{
    struct trm_tensor branch = now(c, c->branch), mine = trm_stream_mine(c, branch);

    if (before.data)
        trm_norm_residual_forward(c, &block->norm1, &s->norm1, trm_stream_now(c, s->normed1), x,
                                  before, mine);
    else
        trm_norm_forward(c, &block->norm1, &s->norm1, trm_stream_now(c, s->normed1), x);
    attend(c, block, s);
    trm_linear_row_forward(c, &block->projection, branch, now(c, s->attended));

    trm_norm_residual_forward(c, &block->norm2, &s->norm2, trm_stream_now(c, s->normed2),
                              trm_stream_now(c, s->middle), x, mine);
    trm_linear_column_forward(c, &block->up, now(c, s->expanded), now(c, s->pre),
                              trm_stream_now(c, s->normed2), TRM_ACT_GELU);
    if (whole)
        trm_linear_row_forward(c, &block->down, branch, now(c, s->expanded));
}

void trm_block_backward(struct trm_model_context *c, const struct trm_block *block,
                        struct trm_block_state *s, struct trm_tensor dx, struct trm_tensor x,
                        bool attend_again)
{
    struct trm_attention shape = attention_shape(c);
    struct trm_tensor branch = now(c, c->branch), qkv = now(c, s->qkv);
    struct trm_tensor dattended, dnormed, none = {0};
    int64_t rows = trm_context_rows(c), width = c->attention_width;
    struct trm_tensor dexpanded = trm_tensor_2d(c->wide.data, c->type, rows, c->ffn);
    struct trm_tensor dqkv = trm_tensor_2d(c->wide.data, c->type, rows, 3 * width);

    trm_linear_row_backward(c, &block->down, dexpanded, dx, now(c, s->expanded), now(c, s->pre),
                            TRM_ACT_GELU);
    dnormed =
        trm_linear_column_backward(c, &block->up, branch, dexpanded, trm_stream_now(c, s->normed2));
    trm_norm_backward(c, &block->norm2, &s->norm2, dx, dnormed, trm_stream_now(c, s->middle));

    if (attend_again) {
        trm_norm_forward(c, &block->norm1, &s->norm1, trm_stream_now(c, s->normed1), x);
        attend(c, block, s);
    }
    dattended = now(c, c->narrow);
    trm_linear_row_backward(c, &block->projection, dattended, dx, now(c, s->attended), none,
                            TRM_ACT_NONE);
    c->ops->attention_backward(
        c->device, trm_tensor_columns(dqkv, 0, width), trm_tensor_columns(dqkv, width, width),
        trm_tensor_columns(dqkv, 2 * width, width), dattended, trm_tensor_columns(qkv, 0, width),
        trm_tensor_columns(qkv, width, width), trm_tensor_columns(qkv, 2 * width, width),
        now(c, s->attended), log_sum_exp_view(c, s), &shape);
    dnormed =
        trm_linear_column_backward(c, &block->qkv, branch, dqkv, trm_stream_now(c, s->normed1));
    trm_norm_backward(c, &block->norm1, &s->norm1, dx, dnormed, x);
    trm_norm_finish_gradients(c);
    trm_context_grad_ready(c, block->first_tensor, block->tensor_count);
}
