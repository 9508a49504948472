#include "trainer/model/head.h"

/* Logits held at once, in elements: 64 MiB of float32. Fewer, and the weight's gradient would be
 * read and written too often. */
#define CHUNK_ELEMENTS  (INT64_C(16) << 20)
#define CHUNK_ALIGNMENT 16

static int64_t chunk_rows(int64_t rows, int64_t vocabulary)
{
    int64_t most = CHUNK_ELEMENTS / vocabulary;
    int64_t chunks, size;

    if (most < CHUNK_ALIGNMENT)
        most = CHUNK_ALIGNMENT;
    chunks = (rows + most - 1) / most;
    size = (rows + chunks - 1) / chunks;
    size = (size + CHUNK_ALIGNMENT - 1) / CHUNK_ALIGNMENT * CHUNK_ALIGNMENT;
    return size < rows ? size : rows;
}

void trm_head_place(struct trm_model_context *c, struct trm_arena *arena, struct trm_head *head)
{
    enum trm_arena_category kind = TRM_ARENA_ACTIVATIONS;

    head->chunk_rows = chunk_rows(c->max_rows, c->vocabulary);
    head->logits = trm_context_alloc(c, arena, kind, head->chunk_rows, c->vocabulary);
    head->maximum = trm_context_alloc_wide(c, arena, kind, 1, head->chunk_rows);
    head->sums = trm_context_alloc_wide(c, arena, kind, 2, head->chunk_rows);
    head->loss = trm_context_alloc_wide(c, arena, kind, 1, c->max_rows);
}

static struct trm_tensor rows_1d(struct trm_tensor t, int64_t first, int64_t count)
{
    char *data = t.data;
    return trm_tensor_1d(data + (size_t)first * trm_type_bytes(t.type), t.type, count);
}

/* Losses of rows [first, first + count) from head->logits, which become their gradient if that is
 * wanted. */
static void chunk_loss(struct trm_model_context *c, struct trm_head *head, struct trm_tensor wanted,
                       int64_t first, bool want_gradient)
{
    const struct trm_ops *ops = c->ops;
    int64_t count = wanted.shape[0], valid = c->valid_vocabulary_rows;
    struct trm_tensor logits = trm_tensor_rows(head->logits, 0, count);
    struct trm_tensor loss = rows_1d(head->loss, first, count);
    struct trm_tensor maximum = rows_1d(head->maximum, 0, count);
    struct trm_tensor sums = trm_tensor_2d(head->sums.data, c->wide_type, 2, count);

    if (!c->tensor_sum) {
        ops->cross_entropy(c->device, loss, logits, wanted, valid, want_gradient);
        return;
    }
    ops->cross_entropy_maximum(c->device, maximum, logits, valid);
    trm_context_tensor_max(c, maximum);
    ops->cross_entropy_sums(c->device, sums, logits, maximum, wanted, c->first_vocabulary_row,
                            valid);
    trm_context_tensor_sum(c, sums);
    ops->cross_entropy_gradient(c->device, loss, logits, maximum, sums, wanted,
                                c->first_vocabulary_row, valid, want_gradient);
}

struct trm_tensor trm_head_loss(struct trm_model_context *c, struct trm_head *head,
                                struct trm_tensor x, struct trm_tensor targets,
                                struct trm_tensor dx)
{
    const struct trm_ops *ops = c->ops;
    struct trm_tensor weight = trm_context_parameter(c, head->weight, 1);
    struct trm_tensor none = {0};
    int64_t rows = trm_context_rows(c);

    x = trm_stream_gather(c, x);
    for (int64_t first = 0; first < rows; first += head->chunk_rows) {
        int64_t count = rows - first < head->chunk_rows ? rows - first : head->chunk_rows;
        struct trm_tensor logits = trm_tensor_rows(head->logits, 0, count);
        struct trm_tensor chunk = trm_tensor_rows(x, first, count);

        ops->linear_forward(c->device, logits, none, chunk, weight, none, TRM_ACT_NONE);
        chunk_loss(c, head, rows_1d(targets, first, count), first, dx.data != NULL);
        if (dx.data)
            ops->linear_backward(c->device, trm_tensor_rows(dx, first, count),
                                 trm_context_gradient(c, head->weight, 1), none, logits, chunk,
                                 weight, none, TRM_ACT_NONE, c->accumulate || first > 0);
    }
    return dx.data ? trm_stream_sum(c, trm_tensor_rows(dx, 0, rows)) : none;
}

struct trm_tensor trm_head_losses(const struct trm_model_context *c, const struct trm_head *head)
{
    return trm_tensor_1d(head->loss.data, c->wide_type, trm_context_rows(c));
}

struct trm_tensor trm_head_logits(struct trm_model_context *c, struct trm_head *head,
                                  struct trm_tensor row)
{
    struct trm_tensor none = {0};
    struct trm_tensor logits = trm_tensor_rows(head->logits, 0, 1);
    c->ops->linear_forward(c->device, logits, none, row, trm_context_parameter(c, head->weight, 1),
                           none, TRM_ACT_NONE);
    return logits;
}
