/*
 * Causal attention with grouped key/value heads (Ainslie et al., "GQA", 2023) and a window
 * (Beltagy et al., "Longformer", 2020).
 *
 * Scratch, in doubles, for one key/value head: a row of probabilities and one of their gradients
 * [K], and the gradients of the keys and values [K, D], so that they are rounded once.
 */
#include "trainer/ops/reference/internal.h"

#include <string.h>

struct scratch {
    double *probability, *dprobability; /* [K] */
    double *dk, *dv;                    /* [K, D] */
};

/* One head of one sequence: query row t is row `row0 + t`, key j is row `key0 + j`. */
struct head {
    int64_t row0, key0;
    int64_t q_column, kv_column;
    int64_t statistics_row; /* of log_sum_exp */
};

/* The keys that a query sees: [first, last]. */
struct visible {
    int64_t first, last;
};

static int64_t keys_of(const struct trm_attention *shape)
{
    return (int64_t)shape->seq_length + shape->position_offset;
}

static size_t scratch_bytes(const struct trm_attention *shape)
{
    return (size_t)(2 * keys_of(shape) * (1 + shape->head_size)) * sizeof(double);
}

size_t trm_ref_workspace_bytes(struct trm_device *dev, const struct trm_ops_limits *limits)
{
    (void)dev;
    return scratch_bytes(&limits->attention);
}

static bool scratch_take(struct trm_device *dev, const struct trm_attention *shape,
                         struct scratch *scratch)
{
    if (dev->workspace == NULL || dev->workspace_bytes < scratch_bytes(shape)) {
        trm_ref_fail(dev, TRM_ERR_MEMORY, "attention needs a workspace of %zu bytes, not %zu",
                     scratch_bytes(shape), dev->workspace_bytes);
        return false;
    }
    const int64_t keys = keys_of(shape);
    scratch->probability = dev->workspace;
    scratch->dprobability = scratch->probability + keys;
    scratch->dk = scratch->dprobability + keys;
    scratch->dv = scratch->dk + keys * shape->head_size;
    return true;
}

static struct head head_of(const struct trm_attention *shape, int64_t b, int64_t h)
{
    const int64_t heads_per_group = shape->heads / shape->kv_heads;
    return (struct head){.row0 = b * shape->seq_length,
                         .key0 = b * keys_of(shape),
                         .q_column = h * shape->head_size,
                         .kv_column = h / heads_per_group * shape->head_size,
                         .statistics_row = b * shape->heads + h};
}

static struct visible keys_seen(const struct trm_attention *shape, int64_t t)
{
    const int64_t last = t + shape->position_offset;
    const int64_t first = shape->window > 0 ? last - shape->window + 1 : 0;
    return (struct visible){.first = first > 0 ? first : 0, .last = last};
}

/* The product of D columns of two rows. */
static double dot(struct trm_tensor a, int64_t row_a, int64_t column_a, struct trm_tensor b,
                  int64_t row_b, int64_t column_b, int64_t size)
{
    double sum = 0.0;
    for (int64_t d = 0; d < size; d++)
        sum += trm_ref_get2(a, row_a, column_a + d) * trm_ref_get2(b, row_b, column_b + d);
    return sum;
}

static void check_shapes(const struct trm_attention *shape, struct trm_tensor q,
                         struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                         struct trm_tensor log_sum_exp)
{
    TRM_ASSERT(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
    const int64_t rows = (int64_t)shape->batch * shape->seq_length;
    const int64_t key_rows = shape->batch * keys_of(shape);
    const int64_t q_columns = (int64_t)shape->heads * shape->head_size;
    const int64_t kv_columns = (int64_t)shape->kv_heads * shape->head_size;
    TRM_ASSERT(trm_ref_is2(q, rows, q_columns) && trm_ref_is2(out, rows, q_columns));
    TRM_ASSERT(trm_ref_is2(k, key_rows, kv_columns) && trm_ref_is2(v, key_rows, kv_columns));
    TRM_ASSERT(trm_ref_is2(log_sum_exp, (int64_t)shape->batch * shape->heads, shape->seq_length));
}

static void forward_query(struct trm_tensor out, struct trm_tensor log_sum_exp, struct trm_tensor q,
                          struct trm_tensor k, struct trm_tensor v,
                          const struct trm_attention *shape, struct head head, int64_t t,
                          double *probability)
{
    const struct visible seen = keys_seen(shape, t);
    double largest = -INFINITY, sum = 0.0;
    for (int64_t j = seen.first; j <= seen.last; j++) {
        probability[j] = shape->scale * dot(q, head.row0 + t, head.q_column, k, head.key0 + j,
                                            head.kv_column, shape->head_size);
        if (probability[j] > largest || isnan(probability[j]))
            largest = probability[j];
    }
    for (int64_t j = seen.first; j <= seen.last; j++) {
        probability[j] = exp(probability[j] - largest);
        sum += probability[j];
    }
    for (int64_t d = 0; d < shape->head_size; d++) {
        double value = 0.0;
        for (int64_t j = seen.first; j <= seen.last; j++)
            value += probability[j] * trm_ref_get2(v, head.key0 + j, head.kv_column + d);
        trm_ref_set2(out, head.row0 + t, head.q_column + d, value / sum);
    }
    trm_ref_set2(log_sum_exp, head.statistics_row, t, largest + log(sum));
}

void trm_ref_attention_forward(struct trm_device *dev, struct trm_tensor out,
                               struct trm_tensor log_sum_exp, struct trm_tensor q,
                               struct trm_tensor k, struct trm_tensor v,
                               const struct trm_attention *shape)
{
    struct scratch scratch;
    check_shapes(shape, q, k, v, out, log_sum_exp);
    if (!TRM_REF_TAKES(dev, "attention_forward", out, log_sum_exp, q, k, v) ||
        !scratch_take(dev, shape, &scratch))
        return;
    for (int64_t b = 0; b < shape->batch; b++)
        for (int64_t h = 0; h < shape->heads; h++)
            for (int64_t t = 0; t < shape->seq_length; t++)
                forward_query(out, log_sum_exp, q, k, v, shape, head_of(shape, b, h), t,
                              scratch.probability);
}

struct backward {
    struct trm_tensor dq, dout, q, k, v, out, log_sum_exp;
    const struct trm_attention *shape;
    struct scratch scratch;
};

/* dS = P (dP - dout.out), where P = exp(S - log_sum_exp) and dP = dout v^T; then dq = scale dS k,
 * dk += scale dS q and dv += P dout. */
static void backward_query(struct backward *a, struct head head, int64_t t)
{
    const int64_t size = a->shape->head_size, row = head.row0 + t;
    const struct visible seen = keys_seen(a->shape, t);
    const double scale = a->shape->scale;
    const double statistic = trm_ref_get2(a->log_sum_exp, head.statistics_row, t);
    const double mean = dot(a->dout, row, head.q_column, a->out, row, head.q_column, size);
    for (int64_t j = seen.first; j <= seen.last; j++) {
        const int64_t key = head.key0 + j;
        const double s = scale * dot(a->q, row, head.q_column, a->k, key, head.kv_column, size);
        const double dp = dot(a->dout, row, head.q_column, a->v, key, head.kv_column, size);
        a->scratch.probability[j] = exp(s - statistic);
        a->scratch.dprobability[j] = a->scratch.probability[j] * (dp - mean);
    }
    for (int64_t d = 0; d < size; d++) {
        const double q = trm_ref_get2(a->q, row, head.q_column + d);
        const double dout = trm_ref_get2(a->dout, row, head.q_column + d);
        double dq = 0.0;
        for (int64_t j = seen.first; j <= seen.last; j++) {
            const double ds = scale * a->scratch.dprobability[j];
            dq += ds * trm_ref_get2(a->k, head.key0 + j, head.kv_column + d);
            a->scratch.dk[j * size + d] += ds * q;
            a->scratch.dv[j * size + d] += a->scratch.probability[j] * dout;
        }
        trm_ref_set2(a->dq, row, head.q_column + d, dq);
    }
}

void trm_ref_attention_backward(struct trm_device *dev, struct trm_tensor dq, struct trm_tensor dk,
                                struct trm_tensor dv, struct trm_tensor dout, struct trm_tensor q,
                                struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                                struct trm_tensor log_sum_exp, const struct trm_attention *shape)
{
    struct backward a = {.dq = dq,
                         .dout = dout,
                         .q = q,
                         .k = k,
                         .v = v,
                         .out = out,
                         .log_sum_exp = log_sum_exp,
                         .shape = shape};
    TRM_ASSERT(shape->position_offset == 0);
    check_shapes(shape, q, k, v, out, log_sum_exp);
    check_shapes(shape, dq, dk, dv, dout, log_sum_exp);
    if (!TRM_REF_TAKES(dev, "attention_backward", dq, dk, dv, dout, q, k, v, out, log_sum_exp) ||
        !scratch_take(dev, shape, &a.scratch))
        return;
    const int64_t heads_per_group = shape->heads / shape->kv_heads, size = shape->head_size;
    const size_t gradient_bytes = (size_t)(2 * keys_of(shape) * size) * sizeof(double);
    for (int64_t b = 0; b < shape->batch; b++)
        for (int64_t g = 0; g < shape->kv_heads; g++) {
            const int64_t first_head = g * heads_per_group;
            const struct head group = head_of(shape, b, first_head);
            memset(a.scratch.dk, 0, gradient_bytes); /* dv lies behind dk */
            for (int64_t h = first_head; h < first_head + heads_per_group; h++)
                for (int64_t t = 0; t < shape->seq_length; t++)
                    backward_query(&a, head_of(shape, b, h), t);
            for (int64_t j = 0; j < keys_of(shape); j++)
                for (int64_t d = 0; d < size; d++) {
                    trm_ref_set2(dk, group.key0 + j, group.kv_column + d,
                                 a.scratch.dk[j * size + d]);
                    trm_ref_set2(dv, group.key0 + j, group.kv_column + d,
                                 a.scratch.dv[j * size + d]);
                }
        }
}
