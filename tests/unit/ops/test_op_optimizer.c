/* AdamW and the sums of a device against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial.h"
#include "trainer/ops/reference/reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int64_t SIZES[] = {1, 3, 17, 63, 64, 65, 127, 300, 769, 1023, 1024, 1025, 4097, 70001};

static void run_sum(struct trm_device *dev, const struct trial *t)
{
    struct trm_exact_sum sum;
    trm_exact_sum_init(&sum);
    trm_exact_sum_add(&sum, 0.25); /* it adds to what is there */
    dev->ops->sum(dev, &sum, t->operand[1].t);
    assert_no_device_error(dev);
    tensor_set(t->operand[0].t, 0, trm_exact_sum_value(&sum));
}

static void run_sum_of_squares(struct trm_device *dev, const struct trial *t)
{
    struct trm_exact_sum sum;
    trm_exact_sum_init(&sum);
    trm_exact_sum_add(&sum, 0.25);
    dev->ops->sum_of_squares(dev, &sum, t->operand[1].t);
    assert_no_device_error(dev);
    tensor_set(t->operand[0].t, 0, trm_exact_sum_value(&sum));
}

static void sums_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int squares = 0; squares < 2; squares++) {
            struct trial t;
            trial_begin(&t, squares ? run_sum_of_squares : run_sum, "sum of %s%d",
                        squares ? "squares of " : "", (int)SIZES[i]);
            trial_double(&t, TRIAL_OUTPUT, 1);
            trial_1d(&t, TRIAL_INPUT, SIZES[i]);
            /* A block's squares are added in double, in an order of the device's own. */
            t.operand[0].tolerance = squares ? 1e-13 : 0.0;
            t.half = TRIAL_HALF(1);
            trial_check(&t);
        }
}

/* So that any rank may hold any run of blocks. */
static void sum_of_squares_of_blocks_is_that_of_the_whole(void **state)
{
    enum { BLOCKS = 5 };
    struct pool pool = {0};
    struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = 1, .max_columns = BLOCKS * TRM_NORM_BLOCK};
    struct trm_device dev = trial_device(&pool, &limits);
    const struct trm_tensor t = pool_1d(&pool, TRM_F32, BLOCKS * TRM_NORM_BLOCK - 7);
    struct trm_exact_sum whole, parts;
    (void)state;
    trm_exact_sum_init(&whole);
    trm_exact_sum_init(&parts);
    dev.ops->sum_of_squares(&dev, &whole, t);
    dev.ops->sum_of_squares(&dev, &parts, trm_tensor_rows(t, 3 * TRM_NORM_BLOCK, 2 * 1024 - 7));
    dev.ops->sum_of_squares(&dev, &parts, trm_tensor_rows(t, 0, TRM_NORM_BLOCK));
    dev.ops->sum_of_squares(&dev, &parts, trm_tensor_rows(t, TRM_NORM_BLOCK, 2 * TRM_NORM_BLOCK));
    assert_no_device_error(&dev);
    assert_true(trm_exact_sum_value(&whole) == trm_exact_sum_value(&parts));
    pool_free(&pool);
}

static void sums_do_not_lose_a_nan_or_an_infinity(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 3000};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor t = pool_1d(&pool, TRM_F32, 3000);
    struct trm_exact_sum sum, squares;
    (void)state;
    tensor_set(t, 2500, NAN);
    trm_exact_sum_init(&sum);
    trm_exact_sum_init(&squares);
    dev.ops->sum(&dev, &sum, t);
    dev.ops->sum_of_squares(&dev, &squares, t);
    assert_no_device_error(&dev);
    assert_true(isnan(trm_exact_sum_value(&sum)) && isnan(trm_exact_sum_value(&squares)));
    tensor_set(t, 2500, -(double)INFINITY);
    trm_exact_sum_init(&sum);
    trm_exact_sum_init(&squares);
    dev.ops->sum(&dev, &sum, t);
    dev.ops->sum_of_squares(&dev, &squares, t);
    assert_no_device_error(&dev);
    assert_true(trm_exact_sum_value(&sum) == -(double)INFINITY);
    assert_true(trm_exact_sum_value(&squares) == (double)INFINITY);
    pool_free(&pool);
}

static void run_adamw(struct trm_device *dev, const struct trial *t)
{
    struct trm_adamw settings = t->adamw;
    for (int step = 1; step <= 3; step++) {
        settings.bias_correction1 = (float)(1.0 - pow(settings.beta1, step));
        settings.bias_correction2 = (float)(1.0 - pow(settings.beta2, step));
        dev->ops->adamw(dev, t->operand[0].t, t->operand[1].t, t->operand[2].t, t->operand[3].t,
                        &settings);
    }
}

static void adamw_equals_the_reference_for_three_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        struct trial t;
        trial_begin(&t, run_adamw, "adamw of %d", (int)SIZES[i]);
        t.adamw = (struct trm_adamw){.learning_rate = 0.25f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.95f,
                                     .epsilon = 1e-8f,
                                     .weight_decay = i % 2 ? 0.1f : 0.0f,
                                     .gradient_scale = 0.01f};
        trial_1d(&t, TRIAL_ACCUMULATED, SIZES[i]);
        trial_1d(&t, TRIAL_ACCUMULATED, SIZES[i]);
        trial_1d(&t, TRIAL_ACCUMULATED, SIZES[i]);
        trial_1d(&t, TRIAL_INPUT, SIZES[i]);
        for (int64_t k = 0; k < SIZES[i]; k++) { /* a second moment is no negative number */
            tensor_set(t.operand[1].t, k, 0.01 * tensor_get(t.operand[1].t, k));
            tensor_set(t.operand[2].t, k, 1e-4 * (1.0 + tensor_get(t.operand[2].t, k)));
        }
        trial_check(&t);
    }
}

static void adamw_of_a_gradient_of_zero_moves_nothing(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 65};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor p = pool_1d(&pool, TRM_F32, 65), m = pool_1d(&pool, TRM_F32, 65),
                      v = pool_1d(&pool, TRM_F32, 65), g = pool_1d(&pool, TRM_F32, 65);
    const struct trm_tensor before = pool_copy(&pool, p);
    const struct trm_adamw settings = {0.1f, 0.9f,  0.95f, 1e-8f, 0.0f,
                                       0.1f, 0.05f, 1.0f,  NULL,  NULL};
    (void)state;
    tensor_fill(m, 0.0);
    tensor_fill(v, 0.0);
    tensor_fill(g, 0.0);
    dev.ops->adamw(&dev, p, m, v, g, &settings);
    assert_no_device_error(&dev);
    assert_true(tensor_error(p, before) == 0.0);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_the_reference),
        cmocka_unit_test(sum_of_squares_of_blocks_is_that_of_the_whole),
        cmocka_unit_test(sums_do_not_lose_a_nan_or_an_infinity),
        cmocka_unit_test(adamw_equals_the_reference_for_three_steps),
        cmocka_unit_test(adamw_of_a_gradient_of_zero_moves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
