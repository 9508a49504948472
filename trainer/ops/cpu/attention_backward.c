/*
 * Attention, backward. With P the weights, recomputed per block from the scores and log_sum_exp:
 *   dv += P^T dout,  dP = dout v^T,  dS = scale P (dP - rowsum(dout out)),  dq = dS k,  dk += dS^T
 * q (Dao, "FlashAttention-2", 2023). A piece of work is one key/value head of one sequence, with
 * all query heads of its group: its keys' gradients are added up by one thread, in order.
 */
#include "trainer/ops/cpu/attention.h"
#include "trainer/ops/cpu/vector_math.h"

struct backward {
    struct trm_tensor dq, dk, dv, dout, q, k, v, out, log_sum_exp;
    const struct trm_attention *shape;
    float *scratch;
    int64_t scratch_floats; /* per thread */
    bool failed;
};

/* Rows of one head's operands, from the first of a block on. */
struct block_view {
    const float *q, *k, *v, *out, *dout, *log_sum_exp;
    float *dq, *dk, *dv;
};

TRM_VECTOR_CLONES
static float dot(const float *a, const float *b, int64_t count)
{
    v8d sum = {0};
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16 x = v16_load(a + i), y = v16_load(b + i);
        sum += v16_low(x) * v16_low(y) + v16_high(x) * v16_high(y);
    }
    double total = v8d_sum(sum);
    for (; i < count; i++)
        total += (double)a[i] * (double)b[i];
    return (float)total;
}

/* scores become weights e^(score - log_sum_exp), slopes (dP) become dS; both zero for keys that are
 * not in [first, last). */
TRM_VECTOR_CLONES
static void gradient_row(float *scores, float *slopes, int64_t stride, int64_t first, int64_t last,
                         float log_sum_exp, float dot_out, float scale)
{
    int64_t begin = first / TRM_LANES * TRM_LANES, end = trm_cpu_round_up(last, TRM_LANES);
    for (int64_t i = begin; i < first; i++) {
        scores[i] = -__builtin_inff();
        slopes[i] = 0.0f;
    }
    for (int64_t i = last; i < end; i++) {
        scores[i] = -__builtin_inff();
        slopes[i] = 0.0f;
    }
    memset(scores, 0, (size_t)begin * sizeof(*scores));
    memset(slopes, 0, (size_t)begin * sizeof(*slopes));
    memset(scores + end, 0, (size_t)(stride - end) * sizeof(*scores));
    memset(slopes + end, 0, (size_t)(stride - end) * sizeof(*slopes));
    for (int64_t i = begin; i < end; i += TRM_LANES) {
        v16 weight = v16_exp(v16_load(scores + i) - log_sum_exp);
        v16_store(scores + i, weight);
        v16_store(slopes + i, weight * (v16_load(slopes + i) - dot_out) * scale);
    }
}

static bool one_block(const struct backward *b, const struct trm_cpu_query_block *block,
                      const struct block_view *at, float *scores)
{
    const struct trm_attention *s = b->shape;
    int64_t n = block->queries, keys = block->keys, size = s->head_size, stride = block->stride;
    int64_t q_stride = b->q.stride[0], k_stride = b->k.stride[0], v_stride = b->v.stride[0];
    int64_t dout_stride = b->dout.stride[0];
    float *slopes = scores + n * stride;
    bool good = trm_cpu_sgemm(false, true, n, keys, size, s->scale, at->q, q_stride, at->k,
                              k_stride, 0.0f, scores, stride);
    good &= trm_cpu_sgemm(false, true, n, keys, size, 1.0f, at->dout, dout_stride, at->v, v_stride,
                          0.0f, slopes, stride);
    for (int64_t row = 0; row < n; row++) {
        int64_t first, last;
        trm_cpu_visible(s, block, row, &first, &last);
        float dot_out = dot(at->dout + row * dout_stride, at->out + row * b->out.stride[0], size);
        gradient_row(scores + row * stride, slopes + row * stride, stride, first, last,
                     at->log_sum_exp[row], dot_out, s->scale);
    }
    good &= trm_cpu_sgemm(true, false, keys, size, n, 1.0f, scores, stride, at->dout, dout_stride,
                          1.0f, at->dv, b->dv.stride[0]);
    good &= trm_cpu_sgemm(false, false, n, size, keys, 1.0f, slopes, stride, at->k, k_stride, 0.0f,
                          at->dq, b->dq.stride[0]);
    good &= trm_cpu_sgemm(true, false, keys, size, n, 1.0f, slopes, stride, at->q, q_stride, 1.0f,
                          at->dk, b->dk.stride[0]);
    return good;
}

static struct block_view view(const struct backward *b, int64_t sequence, int64_t head,
                              const struct trm_cpu_query_block *block)
{
    const struct trm_attention *s = b->shape;
    int64_t column = head * s->head_size;
    int64_t kv_column = head / (s->heads / s->kv_heads) * s->head_size;
    int64_t row = sequence * s->seq_length + block->query;
    int64_t key_row = sequence * ((int64_t)s->seq_length + s->position_offset) + block->key;
    return (struct block_view){
        .q = trm_cpu_row(b->q, row) + column,
        .k = trm_cpu_row(b->k, key_row) + kv_column,
        .v = trm_cpu_row(b->v, key_row) + kv_column,
        .out = trm_cpu_row(b->out, row) + column,
        .dout = trm_cpu_row(b->dout, row) + column,
        .log_sum_exp = trm_cpu_row(b->log_sum_exp, sequence * s->heads + head) + block->query,
        .dq = trm_cpu_row(b->dq, row) + column,
        .dk = trm_cpu_row(b->dk, key_row) + kv_column,
        .dv = trm_cpu_row(b->dv, key_row) + kv_column,
    };
}

static void one_group(struct backward *b, int64_t sequence, int64_t kv_head, float *scores)
{
    const struct trm_attention *s = b->shape;
    int64_t keys = (int64_t)s->seq_length + s->position_offset;
    int64_t group = s->heads / s->kv_heads;
    for (int64_t key = sequence * keys; key < (sequence + 1) * keys; key++) {
        size_t bytes = (size_t)s->head_size * sizeof(float);
        memset(trm_cpu_row(b->dk, key) + kv_head * s->head_size, 0, bytes);
        memset(trm_cpu_row(b->dv, key) + kv_head * s->head_size, 0, bytes);
    }
    bool good = true;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        for (int64_t index = 0; index < trm_cpu_query_blocks(s); index++) {
            struct trm_cpu_query_block block = trm_cpu_query_block(s, index);
            struct block_view at = view(b, sequence, head, &block);
            good &= one_block(b, &block, &at, scores);
        }
    }
    if (!good)
        __atomic_store_n(&b->failed, true, __ATOMIC_RELAXED);
}

static void backward_groups(void *context, int64_t first, int64_t last, int thread)
{
    struct backward *b = context;
    int64_t kv_heads = b->shape->kv_heads;
    for (int64_t index = first; index < last; index++)
        one_group(b, index / kv_heads, index % kv_heads, b->scratch + thread * b->scratch_floats);
}

void trm_cpu_attention_backward(struct trm_device *dev, struct trm_tensor dq, struct trm_tensor dk,
                                struct trm_tensor dv, struct trm_tensor dout, struct trm_tensor q,
                                struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                                struct trm_tensor log_sum_exp, const struct trm_attention *shape)
{
    if (!TRM_CPU_TAKES(dev, "attention_backward", dq, dk, dv, dout, q, k, v, out, log_sum_exp))
        return;
    int64_t rows = (int64_t)shape->batch * shape->seq_length;
    int64_t keys = rows + (int64_t)shape->batch * shape->position_offset;
    int64_t columns = (int64_t)shape->heads * shape->head_size;
    int64_t kv_columns = (int64_t)shape->kv_heads * shape->head_size;
    TRM_ASSERT(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
    TRM_ASSERT(trm_cpu_is2(q, rows, columns) && trm_cpu_is2(dq, rows, columns));
    TRM_ASSERT(trm_cpu_is2(out, rows, columns) && trm_cpu_is2(dout, rows, columns));
    TRM_ASSERT(trm_cpu_is2(k, keys, kv_columns) && trm_cpu_is2(dk, keys, kv_columns));
    TRM_ASSERT(trm_cpu_is2(v, keys, kv_columns) && trm_cpu_is2(dv, keys, kv_columns));
    TRM_ASSERT(trm_cpu_is2(log_sum_exp, (int64_t)shape->batch * shape->heads, shape->seq_length));
    size_t per_thread = trm_cpu_attention_bytes(shape);
    struct backward context = {dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape, NULL, 0, false};
    context.scratch =
        trm_cpu_workspace(dev, "attention_backward", per_thread * (size_t)trm_cpu_threads(dev));
    context.scratch_floats = (int64_t)(per_thread / sizeof(float));
    if (context.scratch == NULL)
        return;
    trm_cpu_for(dev, (int64_t)shape->batch * shape->kv_heads, 1, backward_groups, &context);
    trm_cpu_attention_check(dev, context.failed);
}
