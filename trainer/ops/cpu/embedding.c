/*
 * Token and position embeddings. Backward needs no atomics: each thread owns a stripe of columns
 * and walks the rows in order, so a table row is added to in ascending order of N, and tokens that
 * come often don't unbalance the threads.
 */
#include <string.h>

#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

/* Columns of a stripe: two cache lines at least, and few enough that 16 threads have one each. */
enum { STRIPES = 16, STRIPE_LEAST = 2 * TRM_LANES };

struct job {
    struct trm_tensor x, tokens, table;
    int64_t first_row, seq_length, position_offset;
};

TRM_VECTOR_CLONES
static void add_to(float *out, const float *x, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES)
        v16_store(out + i, v16_load(out + i) + v16_load(x + i));
    for (; i < count; i++)
        out[i] += x[i];
}

/* The table row of token number `n`, or -1 when another rank holds it. */
static int64_t table_row(const struct job *job, int64_t n)
{
    int64_t row = ((const int32_t *)job->tokens.data)[n] - job->first_row;
    return row >= 0 && row < job->table.shape[0] ? row : -1;
}

static void gather(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    size_t bytes = (size_t)job->x.shape[1] * sizeof(float);
    for (int64_t n = first; n < last; n++) {
        int64_t row = table_row(job, n);
        if (row < 0)
            memset(trm_cpu_row(job->x, n), 0, bytes);
        else
            memcpy(trm_cpu_row(job->x, n), trm_cpu_row(job->table, row), bytes);
    }
}

static void scatter_stripe(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = 0; n < job->x.shape[0]; n++) {
        int64_t row = table_row(job, n);
        if (row >= 0)
            add_to(trm_cpu_row(job->table, row) + first, trm_cpu_row(job->x, n) + first,
                   last - first);
    }
}

static void check(struct trm_tensor x, struct trm_tensor tokens, struct trm_tensor table)
{
    TRM_ASSERT(tokens.type == TRM_I32 && trm_cpu_is1(tokens, x.shape[0]));
    TRM_ASSERT(trm_cpu_is2(x, x.shape[0], x.shape[1]));
    TRM_ASSERT(trm_cpu_is2(table, table.shape[0], x.shape[1]));
}

void trm_cpu_embedding_forward(struct trm_device *dev, struct trm_tensor x,
                               struct trm_tensor tokens, struct trm_tensor table, int64_t first_row)
{
    if (!TRM_CPU_TAKES(dev, "embedding_forward", x, table))
        return;
    check(x, tokens, table);
    struct job job = {.x = x, .tokens = tokens, .table = table, .first_row = first_row};
    trm_cpu_for(dev, x.shape[0], 1 + TRM_CPU_GRAIN / (x.shape[1] + 1), gather, &job);
}

void trm_cpu_embedding_backward(struct trm_device *dev, struct trm_tensor dtable,
                                struct trm_tensor dx, struct trm_tensor tokens, int64_t first_row)
{
    if (!TRM_CPU_TAKES(dev, "embedding_backward", dtable, dx))
        return;
    check(dx, tokens, dtable);
    struct job job = {.x = dx, .tokens = tokens, .table = dtable, .first_row = first_row};
    int64_t stripe = trm_cpu_round_up(trm_cpu_parts(dx.shape[1], STRIPES), STRIPE_LEAST);
    if (stripe > 0)
        trm_cpu_for(dev, dx.shape[1], stripe, scatter_stripe, &job);
}

static void add_positions(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = first; n < last; n++)
        add_to(trm_cpu_row(job->x, n),
               trm_cpu_row(job->table, job->position_offset + n % job->seq_length),
               job->x.shape[1]);
}

static void sum_positions(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t t = first; t < last; t++)
        for (int64_t n = t; n < job->x.shape[0]; n += job->seq_length)
            add_to(trm_cpu_row(job->table, t), trm_cpu_row(job->x, n), job->x.shape[1]);
}

void trm_cpu_position_forward(struct trm_device *dev, struct trm_tensor x, struct trm_tensor table,
                              int64_t seq_length, int64_t position_offset)
{
    if (!TRM_CPU_TAKES(dev, "position_forward", x, table))
        return;
    TRM_ASSERT(trm_cpu_is2(x, x.shape[0], x.shape[1]) && seq_length > 0);
    TRM_ASSERT(trm_cpu_is2(table, table.shape[0], x.shape[1]) &&
               trm_cpu_min(seq_length, x.shape[0]) + position_offset <= table.shape[0]);
    struct job job = {
        .x = x, .table = table, .seq_length = seq_length, .position_offset = position_offset};
    trm_cpu_for(dev, x.shape[0], 1 + TRM_CPU_GRAIN / (x.shape[1] + 1), add_positions, &job);
}

void trm_cpu_position_backward(struct trm_device *dev, struct trm_tensor dtable,
                               struct trm_tensor dx, int64_t seq_length)
{
    if (!TRM_CPU_TAKES(dev, "position_backward", dtable, dx))
        return;
    int64_t positions = trm_cpu_min(seq_length, dx.shape[0]);
    TRM_ASSERT(trm_cpu_is2(dx, dx.shape[0], dx.shape[1]) && seq_length > 0);
    TRM_ASSERT(trm_cpu_is2(dtable, dtable.shape[0], dx.shape[1]) && positions <= dtable.shape[0]);
    struct job job = {.x = dx, .table = dtable, .seq_length = seq_length};
    trm_cpu_for(dev, positions, 8, sum_positions, &job);
}
