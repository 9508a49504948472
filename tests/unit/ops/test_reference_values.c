/* Values of the reference device that are known from elsewhere: by hand, in closed form, or by a
 * formula written a second time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/support.h"

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1.0 + fabs(want))))
        fail_msg("%.17g is not %.17g", got, want);
}

static void gelu_has_values_known_from_elsewhere(void **state)
{
    /* The formula evaluated by Python's math module. */
    const double x[] = {-3.0, -1.0, 0.0, 0.5, 1.0, 2.0};
    const double y[] = {-0.0036373920817729943, -0.15880800939172324, 0.0,
                        0.34571400982514394,    0.8411919906082768,   1.954597694087775};
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_tensor in = pool_1d(&pool, TRM_F64, 6), out = pool_1d(&pool, TRM_F64, 6);
    (void)state;
    memcpy(in.data, x, sizeof(x));
    dev.ops->activation_forward(&dev, out, in, TRM_ACT_GELU);
    for (int i = 0; i < 6; i++)
        assert_close(tensor_get(out, i), y[i], 1e-15);
    dev.ops->activation_forward(&dev, out, in, TRM_ACT_NONE);
    assert_true(tensor_error(out, in) == 0.0);
    pool_free(&pool);
}

static void linear_recomputed_from_its_stored_argument_gives_the_same_bits(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_tensor y = pool_2d(&pool, TRM_F32, 5, 7, 0), pre = pool_2d(&pool, TRM_F32, 5, 7, 0),
                      again = pool_2d(&pool, TRM_F32, 5, 7, 0);
    (void)state;
    dev.ops->linear_forward(&dev, y, pre, pool_2d(&pool, TRM_F32, 5, 9, 0),
                            pool_2d(&pool, TRM_F32, 7, 9, 0), pool_1d(&pool, TRM_F32, 7),
                            TRM_ACT_GELU);
    dev.ops->activation_forward(&dev, again, pre, TRM_ACT_GELU);
    assert_memory_equal(y.data, again.data, 5 * 7 * sizeof(float));
    pool_free(&pool);
}

static void norm_has_mean_zero_and_variance_one(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    double x[4] = {1.0, 2.0, 3.0, 6.0}; /* mean 3, variance 3.5 */
    double one[4] = {1.0, 1.0, 1.0, 1.0}, zero[4] = {0.0, 0.0, 0.0, 0.0};
    struct trm_tensor y = pool_2d(&pool, TRM_F64, 1, 4, 0), mean = pool_1d(&pool, TRM_F64, 1),
                      rstd = pool_1d(&pool, TRM_F64, 1);
    (void)state;
    dev.ops->norm_forward(&dev, y, mean, rstd, trm_tensor_2d(x, TRM_F64, 1, 4),
                          trm_tensor_1d(one, TRM_F64, 4), trm_tensor_1d(zero, TRM_F64, 4),
                          TRM_NORM_LAYER, 0.5f);
    assert_close(tensor_get(mean, 0), 3.0, 1e-15);
    assert_close(tensor_get(rstd, 0), 0.5, 1e-15);
    for (int i = 0; i < 4; i++)
        assert_close(tensor_get(y, i), (x[i] - 3.0) * 0.5, 1e-15);
    pool_free(&pool);
}

/* With q = 0 every visible key weighs the same. */
static void attention_to_equal_keys_is_the_mean_of_the_visible_values(void **state)
{
    const struct trm_attention shape = {2, 5, 4, 2, 3, 2, 3, 0.5f};
    const int64_t keys = 8;
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, &shape);
    struct trm_tensor q = pool_2d(&pool, TRM_F64, 10, 12, 0),
                      out = pool_2d(&pool, TRM_F64, 10, 12, 0),
                      k = pool_2d(&pool, TRM_F64, 16, 6, 0), v = pool_2d(&pool, TRM_F64, 16, 6, 0),
                      statistic = pool_2d(&pool, TRM_F64, 8, 5, 0);
    (void)state;
    tensor_fill(q, 0.0);
    dev.ops->attention_forward(&dev, out, statistic, q, k, v, &shape);
    for (int64_t b = 0; b < 2; b++)
        for (int64_t t = 0; t < 5; t++)
            for (int64_t column = 0; column < 12; column++) {
                const int64_t kv = column / 6 * 3 + column % 3; /* two heads share a key head */
                const int64_t last = b * keys + t + 3;
                const double mean =
                    0.5 * (tensor_get(v, (last - 1) * 6 + kv) + tensor_get(v, last * 6 + kv));
                assert_close(tensor_get(out, (b * 5 + t) * 12 + column), mean, 1e-14);
            }
    for (int64_t i = 0; i < 40; i++)
        assert_close(tensor_get(statistic, i), log(2.0), 1e-15);
    pool_free(&pool);
}

static void attention_continued_from_an_offset_equals_the_whole(void **state)
{
    const struct trm_attention whole = {1, 9, 2, 1, 4, 0, 0, 0.5f};
    struct trm_attention part = whole;
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, &whole);
    struct trm_tensor q = pool_2d(&pool, TRM_F64, 9, 8, 0), k = pool_2d(&pool, TRM_F64, 9, 4, 0),
                      v = pool_2d(&pool, TRM_F64, 9, 4, 0), out = pool_2d(&pool, TRM_F64, 9, 8, 0),
                      statistic = pool_2d(&pool, TRM_F64, 2, 9, 0),
                      last = pool_2d(&pool, TRM_F64, 3, 8, 0),
                      last_statistic = pool_2d(&pool, TRM_F64, 2, 3, 0);
    (void)state;
    part.seq_length = 3;
    part.position_offset = 6;
    dev.ops->attention_forward(&dev, out, statistic, q, k, v, &whole);
    dev.ops->attention_forward(&dev, last, last_statistic, trm_tensor_rows(q, 6, 3), k, v, &part);
    assert_no_device_error(&dev);
    assert_true(tensor_error(last, trm_tensor_rows(out, 6, 3)) == 0.0);
    assert_true(tensor_error(last_statistic, trm_tensor_columns(statistic, 6, 3)) == 0.0);
    pool_free(&pool);
}

static void embedding_of_tokens_held_elsewhere_is_zero(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    int32_t numbers[4] = {3, 4, 6, 7};
    struct trm_tensor x = pool_2d(&pool, TRM_F64, 4, 2, 0),
                      table = pool_2d(&pool, TRM_F64, 3, 2, 0);
    (void)state;
    dev.ops->embedding_forward(&dev, x, trm_tensor_1d(numbers, TRM_I32, 4), table, 4);
    for (int64_t c = 0; c < 2; c++) {
        assert_true(tensor_get(x, c) == 0.0);
        assert_true(tensor_get(x, 2 + c) == tensor_get(table, c));
        assert_true(tensor_get(x, 4 + c) == tensor_get(table, 4 + c));
        assert_true(tensor_get(x, 6 + c) == 0.0);
    }
    pool_free(&pool);
}

static void position_rows_start_at_the_offset(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_tensor x = pool_2d(&pool, TRM_F64, 4, 3, 0),
                      table = pool_2d(&pool, TRM_F64, 7, 3, 0);
    const struct trm_tensor before = pool_copy(&pool, x);
    (void)state;
    dev.ops->position_forward(&dev, x, table, 2, 5);
    for (int64_t n = 0; n < 4; n++)
        for (int64_t c = 0; c < 3; c++)
            assert_close(tensor_get(x, n * 3 + c),
                         tensor_get(before, n * 3 + c) + tensor_get(table, (5 + n % 2) * 3 + c),
                         1e-15);
    pool_free(&pool);
}

static void cross_entropy_of_equal_logits_is_the_logarithm_of_the_vocabulary(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    int32_t target = 2;
    struct trm_tensor logits = pool_2d(&pool, TRM_F64, 1, 7, 0), loss = pool_1d(&pool, TRM_F64, 1),
                      maximum = pool_1d(&pool, TRM_F64, 1), sums = pool_2d(&pool, TRM_F64, 2, 1, 0);
    const struct trm_tensor targets = trm_tensor_1d(&target, TRM_I32, 1);
    (void)state;
    tensor_fill(logits, 3.0);
    tensor_set(logits, 5, 1e30); /* padding counts for nothing */
    tensor_set(logits, 6, NAN);
    dev.ops->cross_entropy_maximum(&dev, maximum, logits, 5);
    dev.ops->cross_entropy_sums(&dev, sums, logits, maximum, targets, 0, 5);
    dev.ops->cross_entropy_gradient(&dev, loss, logits, maximum, sums, targets, 0, 5, true);
    assert_true(tensor_get(maximum, 0) == 3.0);
    assert_close(tensor_get(loss, 0), log(5.0), 1e-15);
    for (int64_t v = 0; v < 7; v++)
        assert_close(tensor_get(logits, v), v >= 5 ? 0.0 : v == 2 ? -0.8 : 0.2, 1e-15);
    dev.ops->cross_entropy_maximum(&dev, maximum, logits, 0);
    assert_true(tensor_get(maximum, 0) == -(double)INFINITY);
    pool_free(&pool);
}

static void sums_are_those_of_all_elements(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_tensor t = pool_2d(&pool, TRM_F64, 43, 59, 64); /* 2,537 elements: 3 blocks */
    struct trm_exact_sum sum, squares;
    double expected = 0.0, expected_squares = 0.0;
    (void)state;
    trm_exact_sum_init(&sum);
    trm_exact_sum_init(&squares);
    trm_exact_sum_add(&squares, 10.0); /* they add to what is there */
    dev.ops->sum(&dev, &sum, t);
    dev.ops->sum_of_squares(&dev, &squares, t);
    for (int64_t i = 0; i < 43 * 59; i++) {
        expected += tensor_get(t, i);
        expected_squares += tensor_get(t, i) * tensor_get(t, i);
    }
    assert_close(trm_exact_sum_value(&sum), expected, 1e-12);
    assert_close(trm_exact_sum_value(&squares), 10.0 + expected_squares, 1e-12);
    pool_free(&pool);
}

static void sum_loses_nothing_to_rounding(void **state)
{
    double values[3] = {1e300, 1.0, -1e300};
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_exact_sum sum;
    (void)state;
    trm_exact_sum_init(&sum);
    dev.ops->sum(&dev, &sum, trm_tensor_1d(values, TRM_F64, 3));
    assert_true(trm_exact_sum_value(&sum) == 1.0);
    pool_free(&pool);
}

/* The paper's algorithm 2, written for one element with the moments as explicit sums. */
static double adamw_by_hand(double parameter, const double *gradient, int steps,
                            const struct trm_adamw *s)
{
    const double b1 = s->beta1, b2 = s->beta2, rate = s->learning_rate;
    for (int t = 1; t <= steps; t++) {
        double m = 0.0, v = 0.0;
        for (int i = 1; i <= t; i++) {
            const double g = gradient[i - 1] * s->gradient_scale;
            m += (1.0 - b1) * pow(b1, t - i) * g;
            v += (1.0 - b2) * pow(b2, t - i) * g * g;
        }
        m /= (float)(1.0 - pow(b1, t));
        v /= (float)(1.0 - pow(b2, t));
        parameter -= rate * m / (sqrt(v) + s->epsilon) + rate * s->weight_decay * parameter;
    }
    return parameter;
}

static void adamw_follows_the_paper_for_three_steps(void **state)
{
    struct pool pool = {0};
    struct trm_device dev = reference_device(&pool, NULL);
    struct trm_adamw settings = {.learning_rate = 0.01f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .epsilon = 1e-8f,
                                 .weight_decay = 0.1f,
                                 .gradient_scale = 0.25f};
    struct trm_tensor p = pool_1d(&pool, TRM_F64, 5), m = pool_1d(&pool, TRM_F64, 5),
                      v = pool_1d(&pool, TRM_F64, 5), g[3];
    const struct trm_tensor start = pool_copy(&pool, p);
    (void)state;
    tensor_fill(m, 0.0);
    tensor_fill(v, 0.0);
    for (int t = 1; t <= 3; t++) {
        g[t - 1] = pool_1d(&pool, TRM_F64, 5);
        settings.bias_correction1 = (float)(1.0 - pow(settings.beta1, t));
        settings.bias_correction2 = (float)(1.0 - pow(settings.beta2, t));
        dev.ops->adamw(&dev, p, m, v, g[t - 1], &settings);
        for (int64_t i = 0; i < 5; i++) {
            double history[3];
            for (int k = 0; k < t; k++)
                history[k] = tensor_get(g[k], i);
            assert_close(tensor_get(p, i),
                         adamw_by_hand(tensor_get(start, i), history, t, &settings), 1e-14);
        }
    }
    assert_no_device_error(&dev);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelu_has_values_known_from_elsewhere),
        cmocka_unit_test(linear_recomputed_from_its_stored_argument_gives_the_same_bits),
        cmocka_unit_test(norm_has_mean_zero_and_variance_one),
        cmocka_unit_test(attention_to_equal_keys_is_the_mean_of_the_visible_values),
        cmocka_unit_test(attention_continued_from_an_offset_equals_the_whole),
        cmocka_unit_test(embedding_of_tokens_held_elsewhere_is_zero),
        cmocka_unit_test(position_rows_start_at_the_offset),
        cmocka_unit_test(cross_entropy_of_equal_logits_is_the_logarithm_of_the_vocabulary),
        cmocka_unit_test(sums_are_those_of_all_elements),
        cmocka_unit_test(sum_loses_nothing_to_rounding),
        cmocka_unit_test(adamw_follows_the_paper_for_three_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
