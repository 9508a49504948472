/* Attention of a device against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial.h"
#include "tests/unit/ops/trial_device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* B, T, H, G, D, window, offset, scale (0: 1 / sqrt(D)) */
static const struct trm_attention FORWARD_AND_BACKWARD[] = {
    {1, 1, 1, 1, 1, 0, 0, 0},      {2, 1, 3, 1, 16, 0, 0, 0},     {1, 2, 1, 1, 1, 0, 0, 0},
    {1, 17, 2, 2, 1, 0, 0, 0},     {3, 17, 4, 2, 16, 0, 0, 0},    {1, 63, 3, 3, 64, 0, 0, 0},
    {2, 64, 2, 1, 64, 0, 0, 0},    {1, 65, 2, 2, 80, 0, 0, 0},    {2, 130, 4, 2, 16, 0, 0, 0},
    {1, 130, 3, 1, 80, 0, 0, 0},   {1, 257, 2, 2, 64, 0, 0, 0},   {1, 300, 1, 1, 17, 0, 0, 0},
    {2, 65, 2, 1, 16, 1, 0, 0},    {1, 130, 4, 4, 16, 7, 0, 0},   {1, 130, 2, 1, 64, 64, 0, 0},
    {1, 130, 2, 2, 3, 65, 0, 0},   {1, 257, 2, 1, 80, 100, 0, 0}, {1, 65, 2, 1, 16, 1000, 0, 0},
    {1, 200, 1, 1, 8, 0, 0, 3.0f},
};

static const struct trm_attention FORWARD_AT_AN_OFFSET[] = {
    {1, 1, 2, 2, 64, 0, 1, 0},   {1, 1, 12, 12, 64, 0, 129, 0}, {2, 1, 4, 2, 16, 0, 300, 0},
    {2, 17, 4, 1, 80, 0, 63, 0}, {1, 65, 2, 2, 16, 0, 64, 0},   {1, 130, 2, 1, 3, 0, 70, 0},
    {1, 1, 2, 1, 16, 7, 130, 0}, {2, 17, 2, 2, 64, 20, 130, 0}, {1, 130, 2, 2, 1, 1, 5, 0},
};

/* out, log_sum_exp, q, k, v and, for backward, dq, dk, dv, dout. */
enum { OUT, STATISTIC, Q, K, V, DQ, DK, DV, DOUT };

static void run_forward(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->attention_forward(dev, o[OUT].t, o[STATISTIC].t, o[Q].t, o[K].t, o[V].t,
                                &t->attention);
}

static void run_backward(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->attention_backward(dev, o[DQ].t, o[DK].t, o[DV].t, o[DOUT].t, o[Q].t, o[K].t, o[V].t,
                                 o[OUT].t, o[STATISTIC].t, &t->attention);
}

static void attention_begin(struct trial *t, struct trm_attention shape, bool backward)
{
    const enum trial_role out = backward ? TRIAL_INPUT : TRIAL_OUTPUT;
    if (shape.scale == 0.0f)
        shape.scale = (float)(1.0 / sqrt((double)shape.head_size));
    const int64_t keys = shape.seq_length + shape.position_offset;
    const int64_t rows = (int64_t)shape.batch * shape.seq_length, key_rows = shape.batch * keys;
    const int64_t q_columns = (int64_t)shape.heads * shape.head_size;
    const int64_t kv_columns = (int64_t)shape.kv_heads * shape.head_size;
    trial_begin(t, backward ? run_backward : run_forward,
                "attention %s B %d T %d H %d G %d D %d window %d offset %d",
                backward ? "backward" : "forward", shape.batch, shape.seq_length, shape.heads,
                shape.kv_heads, shape.head_size, shape.window, shape.position_offset);
    t->attention = t->limits.attention = shape;
    trial_2d(t, out, rows, q_columns, 0);
    trial_2d(t, out, (int64_t)shape.batch * shape.heads, shape.seq_length, 0);
    /* Columns of the fused projection's output: the row stride of each is that of all three. */
    trial_2d(t, TRIAL_INPUT, rows, q_columns, 2 * kv_columns);
    trial_2d(t, TRIAL_INPUT, key_rows, kv_columns, q_columns + kv_columns);
    trial_2d(t, TRIAL_INPUT, key_rows, kv_columns, q_columns + kv_columns);
    t->half = TRIAL_HALF(OUT) | TRIAL_HALF(Q) | TRIAL_HALF(K) | TRIAL_HALF(V);
}

static void attention_forward_equals_the_reference(void **state)
{
    struct trial t;
    (void)state;
    for (size_t i = 0; i < COUNT(FORWARD_AND_BACKWARD); i++) {
        if (FORWARD_AND_BACKWARD[i].seq_length > trial_longest())
            continue;
        attention_begin(&t, FORWARD_AND_BACKWARD[i], false);
        trial_check(&t);
    }
}

static void attention_forward_at_an_offset_equals_the_reference(void **state)
{
    struct trial t;
    (void)state;
    for (size_t i = 0; i < COUNT(FORWARD_AT_AN_OFFSET); i++) {
        attention_begin(&t, FORWARD_AT_AN_OFFSET[i], false);
        trial_check(&t);
    }
}

static void attention_backward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(FORWARD_AND_BACKWARD); i++) {
        const struct trm_attention shape = FORWARD_AND_BACKWARD[i];
        if (shape.seq_length > trial_longest())
            continue;
        const int64_t rows = (int64_t)shape.batch * shape.seq_length;
        const int64_t q_columns = (int64_t)shape.heads * shape.head_size;
        const int64_t kv_columns = (int64_t)shape.kv_heads * shape.head_size;
        struct trial t;
        attention_begin(&t, shape, true);
        trial_2d(&t, TRIAL_OUTPUT, rows, q_columns, 2 * kv_columns);
        trial_2d(&t, TRIAL_OUTPUT, rows, kv_columns, q_columns + kv_columns);
        trial_2d(&t, TRIAL_OUTPUT, rows, kv_columns, q_columns + kv_columns);
        trial_2d(&t, TRIAL_INPUT, rows, q_columns, 0);
        t.half |= TRIAL_HALF(DQ) | TRIAL_HALF(DK) | TRIAL_HALF(DV) | TRIAL_HALF(DOUT);
        struct trm_device reference = reference_device(&t.pool, &t.attention);
        run_forward(&reference, &t);
        /* A query that sees one key has no gradient: what is left are roundings of terms of size
         * scale * |dout.v| * |k|. */
        if (shape.seq_length == 1 || shape.window == 1)
            t.operand[DQ].magnitude = t.operand[DK].magnitude = 0.2;
        trial_check(&t);
    }
}

/* Scores of +-100: the softmax must subtract its maximum, and most probabilities vanish. */
static void attention_with_large_scores_equals_the_reference(void **state)
{
    struct trial t;
    (void)state;
    attention_begin(&t, (struct trm_attention){1, 130, 2, 1, 64, 0, 0, 20.0f}, false);
    /* The scores' own rounding, 6e-8 of 200, is in the exponent. */
    t.operand[OUT].tolerance = 1e-4;
    trial_check(&t);
}

static void attention_does_not_lose_a_nan(void **state)
{
    const struct trm_attention shape = {1, 70, 1, 1, 16, 0, 0, 0.25f};
    struct pool pool = {0};
    struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = 70, .max_columns = 16, .attention = shape};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor q = pool_2d(&pool, TRM_F32, 70, 16, 0),
                      k = pool_2d(&pool, TRM_F32, 70, 16, 0),
                      v = pool_2d(&pool, TRM_F32, 70, 16, 0),
                      out = pool_2d(&pool, TRM_F32, 70, 16, 0),
                      statistic = pool_2d(&pool, TRM_F32, 1, 70, 0);
    (void)state;
    tensor_set(q, 40 * 16 + 3, NAN); /* of query 40 alone */
    dev.ops->attention_forward(&dev, out, statistic, q, k, v, &shape);
    assert_no_device_error(&dev);
    for (int64_t row = 0; row < 70; row++)
        for (int64_t d = 0; d < 16; d++)
            assert_int_equal(isnan(tensor_get(out, row * 16 + d)) != 0, row == 40);
    tensor_set(q, 40 * 16 + 3, 0.5);
    tensor_set(v, 30 * 16 + 5, NAN); /* of key 30, column 5: later keys must not see it */
    dev.ops->attention_forward(&dev, out, statistic, q, k, v, &shape);
    assert_no_device_error(&dev);
    for (int64_t row = 30; row < 70; row++)
        assert_true(isnan(tensor_get(out, row * 16 + 5)));
    assert_no_device_error(&dev);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_forward_equals_the_reference),
        cmocka_unit_test(attention_forward_at_an_offset_equals_the_reference),
        cmocka_unit_test(attention_backward_equals_the_reference),
        cmocka_unit_test(attention_with_large_scores_equals_the_reference),
        cmocka_unit_test(attention_does_not_lose_a_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
