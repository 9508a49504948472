/* Every backward of the reference device against central differences of its forward, in float64.
 * Outputs that are overwritten start as random values, outputs that accumulate too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/support.h"

#define TOLERANCE    1e-7
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct trm_tensor NONE;

/* All that any objective needs; each test fills in its part. */
struct problem {
    struct pool pool;
    struct trm_device dev;
    struct trm_tensor x, w, bias, pre, y, dy; /* dy: the objective's weights of y */
    struct trm_tensor mean, rstd, tokens, q, k, v, statistic;
    struct trm_attention attention;
    int64_t number;
};

struct shape {
    int64_t rows, columns, features;
};

static const struct shape SHAPES[] = {{1, 1, 1}, {3, 1, 2}, {1, 5, 3}, {7, 5, 3}, {2, 9, 11}};

static void problem_begin(struct problem *p)
{
    memset(p, 0, sizeof(*p));
    p->dev = reference_device(&p->pool, NULL);
}

static void problem_end(struct problem *p)
{
    assert_no_device_error(&p->dev);
    pool_free(&p->pool);
}

static double matmul_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->matmul(&p->dev, p->y, p->x, p->w, false);
    return tensor_dot(p->y, p->dy);
}

static void matmul_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        const struct shape s = SHAPES[i];
        struct problem p;
        problem_begin(&p);
        p.x = trm_tensor_transpose(pool_2d(&p.pool, TRM_F64, s.columns, s.rows, s.rows + 2));
        p.w = pool_2d(&p.pool, TRM_F64, s.columns, s.features, 0);
        p.y = pool_2d(&p.pool, TRM_F64, s.rows, s.features, s.features + 3);
        p.dy = pool_2d(&p.pool, TRM_F64, s.rows, s.features, 0);
        struct trm_tensor dx = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, 0);
        struct trm_tensor dw = pool_2d(&p.pool, TRM_F64, s.columns, s.features, 0);
        const struct trm_tensor before = pool_copy(&p.pool, dw);
        p.dev.ops->matmul(&p.dev, dx, p.dy, trm_tensor_transpose(p.w), false);
        p.dev.ops->matmul(&p.dev, dw, trm_tensor_transpose(p.x), p.dy, true);
        assert_gradient("matmul a", matmul_objective, &p, p.x, dx, NONE, TOLERANCE);
        assert_gradient("matmul b", matmul_objective, &p, p.w, dw, before, TOLERANCE);
        problem_end(&p);
    }
}

static double linear_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->linear_forward(&p->dev, p->y, p->pre, p->x, p->w, p->bias,
                               (enum trm_activation)p->number);
    return tensor_dot(p->y, p->dy);
}

static void linear_case(struct shape s, enum trm_activation activation, bool accumulate)
{
    struct problem p;
    problem_begin(&p);
    p.number = activation;
    p.x = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, s.columns + 1);
    p.w = pool_2d(&p.pool, TRM_F64, s.features, s.columns, 0);
    p.bias = pool_1d(&p.pool, TRM_F64, s.features);
    p.y = pool_2d(&p.pool, TRM_F64, s.rows, s.features, 0);
    p.pre = pool_2d(&p.pool, TRM_F64, s.rows, s.features, s.features + 4);
    p.dy = pool_2d(&p.pool, TRM_F64, s.rows, s.features, 0);
    struct trm_tensor dx = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, s.columns + 2);
    struct trm_tensor dw = pool_2d(&p.pool, TRM_F64, s.features, s.columns, 0);
    struct trm_tensor db = pool_1d(&p.pool, TRM_F64, s.features);
    const struct trm_tensor dw_before = accumulate ? pool_copy(&p.pool, dw) : NONE;
    const struct trm_tensor db_before = accumulate ? pool_copy(&p.pool, db) : NONE;
    struct trm_tensor dpre = pool_copy(&p.pool, p.dy);
    linear_objective(&p);
    if (activation != TRM_ACT_NONE)
        p.dev.ops->activation_backward(&p.dev, dpre, dpre, p.pre, activation);
    p.dev.ops->linear_backward(&p.dev, dx, dw, db, dpre, p.x, p.w, NONE, TRM_ACT_NONE, accumulate);
    assert_gradient("linear x", linear_objective, &p, p.x, dx, NONE, TOLERANCE);
    assert_gradient("linear w", linear_objective, &p, p.w, dw, dw_before, TOLERANCE);
    assert_gradient("linear bias", linear_objective, &p, p.bias, db, db_before, TOLERANCE);
    problem_end(&p);
}

static void linear_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        linear_case(SHAPES[i], TRM_ACT_NONE, true);
        linear_case(SHAPES[i], TRM_ACT_NONE, false);
        linear_case(SHAPES[i], TRM_ACT_GELU, true);
    }
}

static void linear_backward_leaves_out_what_is_not_wanted(void **state)
{
    struct problem p;
    (void)state;
    problem_begin(&p);
    p.x = pool_2d(&p.pool, TRM_F64, 4, 3, 0);
    p.w = pool_2d(&p.pool, TRM_F64, 5, 3, 0);
    p.dy = pool_2d(&p.pool, TRM_F64, 4, 5, 0);
    struct trm_tensor dw = pool_2d(&p.pool, TRM_F64, 5, 3, 0);
    struct trm_tensor expected = pool_2d(&p.pool, TRM_F64, 5, 3, 0);
    p.dev.ops->linear_backward(&p.dev, NONE, dw, NONE, p.dy, p.x, p.w, NONE, TRM_ACT_NONE, false);
    p.dev.ops->matmul(&p.dev, expected, trm_tensor_transpose(p.dy), p.x, false);
    assert_true(tensor_error(dw, expected) == 0.0);
    problem_end(&p);
}

static double bias_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->bias_forward(&p->dev, p->y, p->x, p->bias);
    return tensor_dot(p->y, p->dy);
}

static void bias_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        const struct shape s = SHAPES[i];
        struct problem p;
        problem_begin(&p);
        p.x = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, s.columns + 1);
        p.y = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, 0);
        p.dy = pool_2d(&p.pool, TRM_F64, s.rows, s.columns, s.columns + 2);
        p.bias = pool_1d(&p.pool, TRM_F64, s.columns);
        struct trm_tensor db = pool_1d(&p.pool, TRM_F64, s.columns);
        const struct trm_tensor before = pool_copy(&p.pool, db);
        p.dev.ops->bias_backward(&p.dev, db, p.dy);
        assert_gradient("bias", bias_objective, &p, p.bias, db, before, TOLERANCE);
        assert_gradient("bias x", bias_objective, &p, p.x, p.dy, NONE, TOLERANCE);
        problem_end(&p);
    }
}

static double activation_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->activation_forward(&p->dev, p->y, p->x, (enum trm_activation)p->number);
    return tensor_dot(p->y, p->dy);
}

static void activation_gradients_over_the_whole_range(void **state)
{
    (void)state;
    for (int activation = TRM_ACT_NONE; activation <= TRM_ACT_GELU; activation++) {
        struct problem p;
        problem_begin(&p);
        p.number = activation;
        p.x = pool_1d(&p.pool, TRM_F64, 121);
        p.y = pool_1d(&p.pool, TRM_F64, 121);
        p.dy = pool_1d(&p.pool, TRM_F64, 121);
        struct trm_tensor dx = pool_1d(&p.pool, TRM_F64, 121);
        for (int64_t i = 0; i < 121; i++)
            tensor_set(p.x, i, 0.1 * (double)(i - 60));
        p.dev.ops->activation_backward(&p.dev, dx, p.dy, p.x, (enum trm_activation)activation);
        assert_gradient("activation", activation_objective, &p, p.x, dx, NONE, TOLERANCE);
        problem_end(&p);
    }
}

static double norm_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->norm_forward(&p->dev, p->y, p->mean, p->rstd, p->x, p->w, p->bias, TRM_NORM_LAYER,
                             1e-5f);
    return tensor_dot(p->y, p->dy);
}

static void norm_gradients_are_added_to_the_residuals(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        const int64_t rows = SHAPES[i].rows, columns = SHAPES[i].columns;
        struct problem p;
        problem_begin(&p);
        p.x = pool_2d(&p.pool, TRM_F64, rows, columns, columns + 1);
        p.y = pool_2d(&p.pool, TRM_F64, rows, columns, 0);
        p.dy = pool_2d(&p.pool, TRM_F64, rows, columns, columns + 2);
        p.w = pool_1d(&p.pool, TRM_F64, columns);
        p.bias = pool_1d(&p.pool, TRM_F64, columns);
        p.mean = pool_1d(&p.pool, TRM_F64, rows);
        p.rstd = pool_1d(&p.pool, TRM_F64, rows);
        struct trm_tensor dx = pool_2d(&p.pool, TRM_F64, rows, columns, columns + 3);
        struct trm_tensor dw = pool_1d(&p.pool, TRM_F64, columns);
        struct trm_tensor db = pool_1d(&p.pool, TRM_F64, columns);
        const struct trm_tensor dx0 = pool_copy(&p.pool, dx), dw0 = pool_copy(&p.pool, dw),
                                db0 = pool_copy(&p.pool, db);
        norm_objective(&p);
        const struct trm_tensor mean = pool_copy(&p.pool, p.mean),
                                rstd = pool_copy(&p.pool, p.rstd);
        p.dev.ops->norm_backward(&p.dev, dx, dw, db, p.dy, p.x, mean, rstd, p.w, TRM_NORM_LAYER);
        assert_gradient("norm x", norm_objective, &p, p.x, dx, dx0, TOLERANCE);
        assert_gradient("norm weight", norm_objective, &p, p.w, dw, dw0, TOLERANCE);
        assert_gradient("norm bias", norm_objective, &p, p.bias, db, db0, TOLERANCE);
        problem_end(&p);
    }
}

static double attention_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->attention_forward(&p->dev, p->y, p->statistic, p->q, p->k, p->v, &p->attention);
    return tensor_dot(p->y, p->dy);
}

/* q, k and v as columns of one matrix, as the fused projection gives them. */
static void attention_case(struct trm_attention shape)
{
    struct problem p;
    problem_begin(&p);
    p.attention = shape;
    p.dev = reference_device(&p.pool, &shape);
    const int64_t rows = (int64_t)shape.batch * shape.seq_length;
    const int64_t q_columns = (int64_t)shape.heads * shape.head_size;
    const int64_t kv_columns = (int64_t)shape.kv_heads * shape.head_size;
    p.x = pool_2d(&p.pool, TRM_F64, rows, q_columns + 2 * kv_columns, 0);
    struct trm_tensor dx = pool_2d(&p.pool, TRM_F64, rows, q_columns + 2 * kv_columns, 0);
    p.y = pool_2d(&p.pool, TRM_F64, rows, q_columns, q_columns + 1);
    p.dy = pool_2d(&p.pool, TRM_F64, rows, q_columns, q_columns + 2);
    p.statistic =
        pool_2d(&p.pool, TRM_F64, (int64_t)shape.batch * shape.heads, shape.seq_length, 0);
    p.q = trm_tensor_columns(p.x, 0, q_columns);
    p.k = trm_tensor_columns(p.x, q_columns, kv_columns);
    p.v = trm_tensor_columns(p.x, q_columns + kv_columns, kv_columns);
    attention_objective(&p);
    p.dev.ops->attention_backward(&p.dev, trm_tensor_columns(dx, 0, q_columns),
                                  trm_tensor_columns(dx, q_columns, kv_columns),
                                  trm_tensor_columns(dx, q_columns + kv_columns, kv_columns), p.dy,
                                  p.q, p.k, p.v, p.y, p.statistic, &shape);
    assert_gradient("attention", attention_objective, &p, p.x, dx, NONE, TOLERANCE);
    problem_end(&p);
}

static void attention_gradients(void **state)
{
    static const struct trm_attention cases[] = {
        /* B  T  H  G  D  window, offset, scale */
        {1, 1, 1, 1, 1, 0, 0, 1.0f}, {1, 2, 1, 1, 1, 0, 0, 2.0f},  {2, 5, 4, 2, 3, 0, 0, 0.57f},
        {2, 7, 3, 3, 5, 0, 0, 1.3f}, {1, 7, 3, 1, 2, 3, 0, 0.7f},  {2, 6, 4, 1, 4, 1, 0, 0.5f},
        {1, 5, 2, 2, 3, 5, 0, 0.6f}, {1, 5, 2, 1, 3, 99, 0, 0.6f},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        attention_case(cases[i]);
}

static double embedding_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->embedding_forward(&p->dev, p->y, p->tokens, p->w, p->number);
    return tensor_dot(p->y, p->dy);
}

static void embedding_gradients_of_one_rank_of_a_split_vocabulary(void **state)
{
    (void)state;
    for (int64_t first_row = 0; first_row <= 8; first_row += 4) {
        struct problem p;
        problem_begin(&p);
        p.number = first_row;
        p.tokens = pool_tokens(&p.pool, 23, 11);
        p.w = pool_2d(&p.pool, TRM_F64, 4, 5, 0);
        p.y = pool_2d(&p.pool, TRM_F64, 23, 5, 6);
        p.dy = pool_2d(&p.pool, TRM_F64, 23, 5, 0);
        struct trm_tensor dw = pool_2d(&p.pool, TRM_F64, 4, 5, 0);
        const struct trm_tensor before = pool_copy(&p.pool, dw);
        p.dev.ops->embedding_backward(&p.dev, dw, p.dy, p.tokens, first_row);
        assert_gradient("embedding", embedding_objective, &p, p.w, dw, before, TOLERANCE);
        problem_end(&p);
    }
}

static double position_objective(void *context)
{
    struct problem *p = context;
    p->dev.ops->copy(&p->dev, p->y, p->x);
    p->dev.ops->position_forward(&p->dev, p->y, p->w, p->number, 0);
    return tensor_dot(p->y, p->dy);
}

static void position_gradients(void **state)
{
    (void)state;
    for (int64_t seq_length = 1; seq_length <= 7; seq_length += 3) {
        struct problem p;
        problem_begin(&p);
        p.number = seq_length;
        p.x = pool_2d(&p.pool, TRM_F64, 3 * seq_length, 5, 0);
        p.y = pool_2d(&p.pool, TRM_F64, 3 * seq_length, 5, 7);
        p.dy = pool_2d(&p.pool, TRM_F64, 3 * seq_length, 5, 0);
        p.w = pool_2d(&p.pool, TRM_F64, 9, 5, 0);
        struct trm_tensor dw = pool_2d(&p.pool, TRM_F64, 9, 5, 0);
        const struct trm_tensor before = pool_copy(&p.pool, dw);
        p.dev.ops->position_backward(&p.dev, dw, p.dy, seq_length);
        assert_gradient("position", position_objective, &p, p.w, dw, before, TOLERANCE);
        assert_gradient("position x", position_objective, &p, p.x, p.dy, NONE, TOLERANCE);
        problem_end(&p);
    }
}

/* A vocabulary of `number` entries over `ranks` ranks of `share` columns, padded at the end. */
struct split {
    int ranks;
    int64_t share;
};

struct loss_problem {
    struct problem p;
    struct split split;
    struct trm_tensor maximum[4], sums[4]; /* of each rank */
};

static int64_t real_columns(const struct loss_problem *l, int rank)
{
    const int64_t rest = l->p.number - rank * l->split.share;
    return rest < 0 ? 0 : rest < l->split.share ? rest : l->split.share;
}

/* Runs all ranks; each one's columns of `logits` are overwritten when a gradient is wanted. The
 * loss, equal on all, is left in p.y. */
static void cross_entropy_of_all_ranks(struct loss_problem *l, struct trm_tensor logits,
                                       bool want_gradient)
{
    struct problem *p = &l->p;
    const int64_t rows = logits.shape[0], share = l->split.share;
    struct trm_tensor maximum = l->maximum[0], sums = l->sums[0];
    for (int r = 0; r < l->split.ranks; r++)
        p->dev.ops->cross_entropy_maximum(&p->dev, l->maximum[r],
                                          trm_tensor_columns(logits, r * share, share),
                                          real_columns(l, r));
    for (int r = 1; r < l->split.ranks; r++)
        for (int64_t n = 0; n < rows; n++)
            if (tensor_get(l->maximum[r], n) > tensor_get(maximum, n))
                tensor_set(maximum, n, tensor_get(l->maximum[r], n));
    for (int r = 0; r < l->split.ranks; r++)
        p->dev.ops->cross_entropy_sums(&p->dev, l->sums[r],
                                       trm_tensor_columns(logits, r * share, share), maximum,
                                       p->tokens, r * share, real_columns(l, r));
    for (int r = 1; r < l->split.ranks; r++)
        p->dev.ops->add(&p->dev, sums, sums, l->sums[r]);
    for (int r = 0; r < l->split.ranks; r++)
        p->dev.ops->cross_entropy_gradient(
            &p->dev, p->y, trm_tensor_columns(logits, r * share, share), maximum, sums, p->tokens,
            r * share, real_columns(l, r), want_gradient);
}

static double cross_entropy_objective(void *context)
{
    struct loss_problem *l = context;
    double sum = 0.0;
    cross_entropy_of_all_ranks(l, l->p.x, false);
    for (int64_t n = 0; n < l->p.y.shape[0]; n++)
        sum += tensor_get(l->p.y, n);
    return sum;
}

static void cross_entropy_case(struct split split, int64_t rows, int64_t vocabulary)
{
    struct loss_problem l = {.split = split};
    struct problem *p = &l.p;
    problem_begin(p);
    p->number = vocabulary;
    p->x = pool_2d(&p->pool, TRM_F64, rows, split.ranks * split.share, 0);
    p->y = pool_1d(&p->pool, TRM_F64, rows);
    p->tokens = pool_tokens(&p->pool, rows, vocabulary);
    for (int r = 0; r < split.ranks; r++) {
        l.maximum[r] = pool_1d(&p->pool, TRM_F64, rows);
        l.sums[r] = pool_2d(&p->pool, TRM_F64, 2, rows, 0);
    }
    struct trm_tensor gradient = pool_copy(&p->pool, p->x);
    const struct trm_tensor before = pool_copy(&p->pool, p->x);
    cross_entropy_of_all_ranks(&l, gradient, true);
    cross_entropy_objective(&l);
    assert_true(tensor_error(p->x, before) == 0.0); /* want_gradient = false leaves the logits */
    assert_gradient("cross-entropy", cross_entropy_objective, &l, p->x, gradient, NONE, TOLERANCE);
    problem_end(p);
}

static void cross_entropy_gradients_at_any_split_of_the_vocabulary(void **state)
{
    static const struct split splits[] = {{1, 17}, {1, 21}, {3, 6}, {3, 7}, {3, 9}, {4, 5}};
    (void)state;
    for (size_t i = 0; i < COUNT(splits); i++) {
        cross_entropy_case(splits[i], 1, 17);
        cross_entropy_case(splits[i], 5, 17);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_gradients),
        cmocka_unit_test(linear_gradients),
        cmocka_unit_test(linear_backward_leaves_out_what_is_not_wanted),
        cmocka_unit_test(bias_gradients),
        cmocka_unit_test(activation_gradients_over_the_whole_range),
        cmocka_unit_test(norm_gradients_are_added_to_the_residuals),
        cmocka_unit_test(attention_gradients),
        cmocka_unit_test(embedding_gradients_of_one_rank_of_a_split_vocabulary),
        cmocka_unit_test(position_gradients),
        cmocka_unit_test(cross_entropy_gradients_at_any_split_of_the_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
