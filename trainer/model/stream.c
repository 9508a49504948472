#include "trainer/model/stream.h"

#include "base/assert.h"

int64_t trm_stream_rows(const struct trm_model_context *c, int64_t rows)
{
    if (!c->sequence_parallel)
        return rows;
    TRM_ASSERT(rows % c->tensor->size == 0);
    return rows / c->tensor->size;
}

struct trm_tensor trm_stream_alloc(struct trm_model_context *c, struct trm_arena *arena)
{
    return trm_context_alloc(c, arena, TRM_ARENA_ACTIVATIONS, trm_stream_rows(c, c->max_rows),
                             c->hidden);
}

struct trm_tensor trm_stream_now(const struct trm_model_context *c, struct trm_tensor t)
{
    return trm_tensor_rows(t, 0, trm_stream_rows(c, trm_context_rows(c)));
}

struct trm_tensor trm_stream_mine(const struct trm_model_context *c, struct trm_tensor whole)
{
    int64_t rows = trm_stream_rows(c, whole.shape[0]);
    return c->sequence_parallel ? trm_tensor_rows(whole, c->tensor->rank * rows, rows) : whole;
}

struct trm_tensor trm_stream_gather(struct trm_model_context *c, struct trm_tensor mine)
{
    struct trm_error error = {0};
    struct trm_tensor whole;
    enum trm_status status = c->status;

    if (!c->sequence_parallel)
        return mine;
    whole = trm_tensor_rows(c->gathered, 0, trm_context_rows(c));
    if (status == TRM_OK)
        status = trm_comm_all_gather(c->tensor, mine.data, whole.data,
                                     (size_t)trm_tensor_elements(mine) * trm_type_bytes(mine.type),
                                     c->gather, &error);
    if (status == TRM_OK)
        status = trm_request_wait_stream(c->gather, &error);
    trm_context_keep(c, status, &error);
    return whole;
}

struct trm_tensor trm_stream_sum(struct trm_model_context *c, struct trm_tensor partial)
{
    struct trm_tensor mine = trm_stream_mine(c, partial);
    struct trm_error error = {0};

    if (!c->sequence_parallel)
        trm_context_tensor_sum(c, partial);
    else if (c->status == TRM_OK)
        trm_context_keep(c,
                         trm_ordered_reduce_scatter_run(c->tensor_sum, partial.data,
                                                        (size_t)trm_tensor_elements(mine), &error),
                         &error);
    return mine;
}
