/*
 * Attention, forward: scores = q k^T by matrix product, their softmax row by row, out = weights v.
 * A piece of work is one block of queries of one head.
 */
#include "trainer/ops/cpu/attention.h"
#include "trainer/ops/cpu/vector_math.h"

struct forward {
    struct trm_tensor out, log_sum_exp, q, k, v;
    const struct trm_attention *shape;
    float *scratch;
    int64_t scratch_floats; /* per thread */
    bool failed;
};

/* Scores outside [first, last) become -inf in the vectors that hold an edge, and zero weights in
 * all others; inside, e^(score - maximum). Returns the sum of the weights, *maximum the largest
 * score. */
TRM_VECTOR_CLONES
static double softmax_row(float *scores, int64_t stride, int64_t first, int64_t last,
                          float *maximum)
{
    int64_t begin = first / TRM_LANES * TRM_LANES, end = trm_cpu_round_up(last, TRM_LANES);
    for (int64_t i = begin; i < first; i++)
        scores[i] = -__builtin_inff();
    for (int64_t i = last; i < end; i++)
        scores[i] = -__builtin_inff();
    memset(scores, 0, (size_t)begin * sizeof(*scores));
    memset(scores + end, 0, (size_t)(stride - end) * sizeof(*scores));
    v16 largest = v16_load(scores + begin);
    for (int64_t i = begin + TRM_LANES; i < end; i += TRM_LANES)
        largest = v16_max(largest, v16_load(scores + i));
    *maximum = v16_max_of(largest);
    v8d sum = {0};
    for (int64_t i = begin; i < end; i += TRM_LANES) {
        v16 weight = v16_exp(v16_load(scores + i) - *maximum);
        v16_store(scores + i, weight);
        sum += v16_widen_sum(weight);
    }
    return v8d_sum(sum);
}

TRM_VECTOR_CLONES
static void scale_row(float *row, int64_t count, float factor)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES)
        v16_store(row + i, v16_load(row + i) * factor);
    for (; i < count; i++)
        row[i] *= factor;
}

static void one_block(struct forward *f, int64_t sequence, int64_t head, int64_t index,
                      float *scores)
{
    const struct trm_attention *s = f->shape;
    struct trm_cpu_query_block block = trm_cpu_query_block(s, index);
    int64_t size = s->head_size, kv_head = head / (s->heads / s->kv_heads);
    int64_t query_row = sequence * s->seq_length + block.query;
    int64_t key_row = sequence * ((int64_t)s->seq_length + s->position_offset) + block.key;
    const float *q = trm_cpu_row(f->q, query_row) + head * size;
    const float *k = trm_cpu_row(f->k, key_row) + kv_head * size;
    const float *v = trm_cpu_row(f->v, key_row) + kv_head * size;
    float *out = trm_cpu_row(f->out, query_row) + head * size;
    float *log_sum_exp = trm_cpu_row(f->log_sum_exp, sequence * s->heads + head) + block.query;
    float factor[TRM_CPU_QUERY_BLOCK];
    bool good = trm_cpu_sgemm(false, true, block.queries, block.keys, size, s->scale, q,
                              f->q.stride[0], k, f->k.stride[0], 0.0f, scores, block.stride);
    for (int64_t row = 0; row < block.queries; row++) {
        int64_t first, last;
        float maximum;
        trm_cpu_visible(s, &block, row, &first, &last);
        double sum = softmax_row(scores + row * block.stride, block.stride, first, last, &maximum);
        log_sum_exp[row] = (float)((double)maximum + trm_cpu_log(sum));
        factor[row] = (float)(1.0 / sum);
    }
    good &= trm_cpu_sgemm(false, false, block.queries, size, block.keys, 1.0f, scores, block.stride,
                          v, f->v.stride[0], 0.0f, out, f->out.stride[0]);
    for (int64_t row = 0; row < block.queries; row++)
        scale_row(out + row * f->out.stride[0], size, factor[row]);
    if (!good)
        __atomic_store_n(&f->failed, true, __ATOMIC_RELAXED);
}

static void forward_blocks(void *context, int64_t first, int64_t last, int thread)
{
    struct forward *f = context;
    int64_t blocks = trm_cpu_query_blocks(f->shape), heads = f->shape->heads;
    for (int64_t index = first; index < last; index++)
        one_block(f, index / blocks / heads, index / blocks % heads, index % blocks,
                  f->scratch + thread * f->scratch_floats);
}

void trm_cpu_attention_forward(struct trm_device *dev, struct trm_tensor out,
                               struct trm_tensor log_sum_exp, struct trm_tensor q,
                               struct trm_tensor k, struct trm_tensor v,
                               const struct trm_attention *shape)
{
    if (!TRM_CPU_TAKES(dev, "attention_forward", out, log_sum_exp, q, k, v))
        return;
    int64_t rows = (int64_t)shape->batch * shape->seq_length;
    int64_t keys = rows + (int64_t)shape->batch * shape->position_offset;
    int64_t size = shape->head_size;
    TRM_ASSERT(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
    TRM_ASSERT(trm_cpu_is2(q, rows, shape->heads * size) && trm_cpu_is2(out, rows, q.shape[1]));
    TRM_ASSERT(trm_cpu_is2(k, keys, shape->kv_heads * size) && trm_cpu_is2(v, keys, k.shape[1]));
    TRM_ASSERT(trm_cpu_is2(log_sum_exp, (int64_t)shape->batch * shape->heads, shape->seq_length));
    size_t per_thread = trm_cpu_attention_bytes(shape);
    struct forward context = {out, log_sum_exp, q, k, v, shape, NULL, 0, false};
    context.scratch =
        trm_cpu_workspace(dev, "attention_forward", per_thread * (size_t)trm_cpu_threads(dev));
    context.scratch_floats = (int64_t)(per_thread / sizeof(float));
    if (context.scratch == NULL)
        return;
    int64_t count = (int64_t)shape->batch * shape->heads * trm_cpu_query_blocks(shape);
    trm_cpu_for(dev, count, 1, forward_blocks, &context);
    trm_cpu_attention_check(dev, context.failed);
}
