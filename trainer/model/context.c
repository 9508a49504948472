#include "trainer/model/context.h"

#include "base/assert.h"

int64_t trm_context_rows(const struct trm_model_context *c)
{
    return c->batch * c->seq_length;
}

struct trm_tensor trm_context_alloc(struct trm_model_context *c, struct trm_arena *arena,
                                    enum trm_arena_category category, int64_t rows, int64_t columns)
{
    size_t bytes = (size_t)(rows * columns) * trm_type_bytes(c->type);
    return trm_tensor_2d(trm_arena_alloc(arena, category, bytes), c->type, rows, columns);
}

struct trm_tensor trm_context_alloc_wide(struct trm_model_context *c, struct trm_arena *arena,
                                         enum trm_arena_category category, int64_t rows,
                                         int64_t columns)
{
    size_t bytes = (size_t)(rows * columns) * trm_type_bytes(c->wide_type);
    return trm_tensor_2d(trm_arena_alloc(arena, category, bytes), c->wide_type, rows, columns);
}

static struct trm_tensor view(const struct trm_model_context *c, char *base, enum trm_type type,
                              int tensor, int count)
{
    const struct trm_layout_tensor *t = &c->layout->tensors[tensor];
    int64_t rows = 0;
    for (int i = 0; i < count; i++) {
        TRM_ASSERT(i == 0 || t[i].spec.fused);
        rows += t[i].rows;
    }
    void *data = base + (size_t)t->offset * trm_type_bytes(type);
    return t->spec.dims == 1 ? trm_tensor_1d(data, type, rows)
                             : trm_tensor_2d(data, type, rows, t->columns);
}

struct trm_tensor trm_context_parameter(const struct trm_model_context *c, int tensor, int count)
{
    return view(c, c->parameters, c->type, tensor, count);
}

struct trm_tensor trm_context_gradient(const struct trm_model_context *c, int tensor, int count)
{
    return view(c, c->gradients, c->wide_type, tensor, count);
}

struct trm_tensor trm_context_gradient_to_add(const struct trm_model_context *c, int tensor,
                                              int count)
{
    struct trm_tensor gradient = view(c, c->gradients, c->wide_type, tensor, count);
    if (!c->accumulate)
        c->ops->zero(c->device, gradient);
    return gradient;
}

void trm_context_keep(struct trm_model_context *c, enum trm_status status,
                      const struct trm_error *error)
{
    if (status != TRM_OK && c->status == TRM_OK) {
        c->status = status;
        c->error = *error;
    }
}

void trm_context_tensor_sum(struct trm_model_context *c, struct trm_tensor t)
{
    struct trm_error error = {0};
    struct trm_ordered_all_reduce *sum = t.type == c->type ? c->tensor_sum : c->wide_sum;
    if (sum && c->status == TRM_OK)
        trm_context_keep(
            c, trm_ordered_all_reduce_run(sum, t.data, (size_t)trm_tensor_elements(t), &error),
            &error);
}

void trm_context_tensor_max(struct trm_model_context *c, struct trm_tensor t)
{
    struct trm_error error = {0};
    if (c->tensor_sum && c->status == TRM_OK)
        trm_context_keep(c,
                         trm_comm_all_reduce(c->tensor, t.data, (size_t)trm_tensor_elements(t),
                                             t.type == TRM_F64 ? TRM_MAX_F64 : TRM_MAX_F32, NULL,
                                             &error),
                         &error);
}

void trm_context_param_wait(const struct trm_model_context *c, int first, int count)
{
    if (c->hooks && c->hooks->param_wait)
        c->hooks->param_wait(c->hooks->context, first, count);
}

void trm_context_backward(const struct trm_model_context *c)
{
    if (c->hooks && c->hooks->backward)
        c->hooks->backward(c->hooks->context);
}

void trm_context_grad_ready(const struct trm_model_context *c, int first, int count)
{
    if (c->hooks && c->hooks->grad_ready)
        c->hooks->grad_ready(c->hooks->context, first, count);
}
