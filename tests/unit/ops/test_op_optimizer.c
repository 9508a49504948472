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

/* Sums lie where the tensors of the device lie. */
static struct trm_exact_sum *sum_of(struct pool *pool)
{
    return pool_alloc(pool, sizeof(struct trm_exact_sum));
}

static void add_sum(struct trm_device *dev, const struct trial *t, bool squares)
{
    struct pool pool = {0};
    struct trm_exact_sum *sum = sum_of(&pool);
    trm_exact_sum_add(sum, 0.25); /* it adds to what is there */
    if (squares)
        dev->ops->sum_of_squares(dev, sum, t->operand[1].t);
    else
        dev->ops->sum(dev, sum, t->operand[1].t);
    assert_no_device_error(dev);
    tensor_set(t->operand[0].t, 0, trm_exact_sum_value(sum));
    pool_free(&pool);
}

static void run_sum(struct trm_device *dev, const struct trial *t)
{
    add_sum(dev, t, false);
}

static void run_sum_of_squares(struct trm_device *dev, const struct trial *t)
{
    add_sum(dev, t, true);
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
    struct trm_exact_sum *whole = sum_of(&pool), *parts = sum_of(&pool);
    (void)state;
    dev.ops->sum_of_squares(&dev, whole, t);
    dev.ops->sum_of_squares(&dev, parts, trm_tensor_rows(t, 3 * TRM_NORM_BLOCK, 2 * 1024 - 7));
    dev.ops->sum_of_squares(&dev, parts, trm_tensor_rows(t, 0, TRM_NORM_BLOCK));
    dev.ops->sum_of_squares(&dev, parts, trm_tensor_rows(t, TRM_NORM_BLOCK, 2 * TRM_NORM_BLOCK));
    assert_no_device_error(&dev);
    assert_true(trm_exact_sum_value(whole) == trm_exact_sum_value(parts));
    pool_free(&pool);
}

static void sums_do_not_lose_a_nan_or_an_infinity(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 3000};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor t = pool_1d(&pool, TRM_F32, 3000);
    struct trm_exact_sum *sum = sum_of(&pool), *squares = sum_of(&pool);
    (void)state;
    tensor_set(t, 2500, NAN);
    dev.ops->sum(&dev, sum, t);
    dev.ops->sum_of_squares(&dev, squares, t);
    assert_no_device_error(&dev);
    assert_true(isnan(trm_exact_sum_value(sum)) && isnan(trm_exact_sum_value(squares)));
    tensor_set(t, 2500, -(double)INFINITY);
    trm_exact_sum_init(sum);
    trm_exact_sum_init(squares);
    dev.ops->sum(&dev, sum, t);
    dev.ops->sum_of_squares(&dev, squares, t);
    assert_no_device_error(&dev);
    assert_true(trm_exact_sum_value(sum) == -(double)INFINITY);
    assert_true(trm_exact_sum_value(squares) == (double)INFINITY);
    pool_free(&pool);
}

/* What a step may add up to: of either sign, of few and of many magnitudes, and bad. */
static void fill_sum(struct trm_exact_sum *sum, uint64_t trial)
{
    static const double ADDENDS[] = {
        0.0,   5e-324, -1e-310,   1.0, -1.0,     0x1p53,           -0x1p-53,
        1e300, -1e300, 0x1p-1074, NAN, INFINITY, -(double)INFINITY};
    trm_exact_sum_init(sum);
    for (uint64_t i = 0; i < 1 + trial % 7; i++) {
        const double magnitude = exp2(60.0 * (double)(trial % 31) * random_value(trial, 2 * i));
        trm_exact_sum_add(sum, random_value(trial, 2 * i + 1) * magnitude);
    }
    if (trial % 3 == 0)
        trm_exact_sum_add(sum, ADDENDS[trial / 3 % (trial % 2 ? 10 : COUNT(ADDENDS))]);
}

static int is_bad(double loss, double norm, double limit)
{
    return !isfinite(loss) || !isfinite(norm) || loss > limit;
}

static void verdicts_are_those_of_the_host_to_the_last_bit(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 65};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_exact_sum *sums = pool_alloc(&pool, 2 * sizeof *sums);
    struct trm_step_verdict *verdict = pool_alloc(&pool, sizeof *verdict);
    struct trm_step_rules rules = {.tokens = 96, .loss_limit = (double)INFINITY};
    int bad = 0;
    (void)state;
    for (uint64_t trial = 0; dev.ops->judge != NULL && trial < 3000; trial++) {
        double loss, norm, factor;
        fill_sum(&sums[0], trial);
        fill_sum(&sums[1], trial + 5000);
        loss = trm_exact_sum_value(&sums[0]) / rules.tokens;
        norm = sqrt(trm_exact_sum_value(&sums[1])) / rules.tokens;
        /* At the very edges, where a bit decides. */
        rules.loss_limit = trial % 4 == 0 ? loss : trial % 4 == 1 ? 0.1 : (double)INFINITY;
        rules.clip_grad = trial % 5 == 0 ? 0.0 : trial % 5 == 1 ? 1.0 : norm * 0.7;
        factor = rules.clip_grad > 0 && norm > rules.clip_grad ? rules.clip_grad / norm : 1.0;
        dev.ops->judge(&dev, verdict, &sums[0], &sums[1], &rules);
        assert_no_device_error(&dev);
        assert_int_equal(verdict->bad != 0, is_bad(loss, norm, rules.loss_limit));
        if (!verdict->bad)
            assert_true(verdict->gradient_scale == (float)(factor / rules.tokens));
        bad += verdict->bad != 0;
    }
    assert_true(dev.ops->judge == NULL || (bad > 300 && bad < 2700));
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

/* The device decides, where the host reads the step's numbers after the update was queued. */
static void adamw_does_nothing_on_a_bad_verdict_and_takes_the_scale_of_another(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 65};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor p = pool_1d(&pool, TRM_F32, 65), m = pool_1d(&pool, TRM_F32, 65),
                      v = pool_1d(&pool, TRM_F32, 65), g = pool_1d(&pool, TRM_F32, 65);
    struct trm_tensor q = pool_copy(&pool, p), n = pool_copy(&pool, m), w = pool_copy(&pool, v);
    const struct trm_tensor before = pool_copy(&pool, p), m_before = pool_copy(&pool, m);
    struct trm_step_verdict *verdict = pool_alloc(&pool, sizeof *verdict);
    struct trm_adamw settings = {.learning_rate = 0.1f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.95f,
                                 .epsilon = 1e-8f,
                                 .bias_correction1 = 0.1f,
                                 .bias_correction2 = 0.05f,
                                 .gradient_scale = 0.25f};
    (void)state;
    for (int64_t i = 0; i < 65; i++) { /* a second moment is no negative number */
        tensor_set(v, i, fabs(tensor_get(v, i)));
        tensor_set(w, i, tensor_get(v, i));
    }
    if (dev.ops->judge != NULL) {
        *verdict = (struct trm_step_verdict){1, 0.25f};
        settings.verdict = verdict;
        dev.ops->adamw(&dev, p, m, v, g, &settings);
        assert_no_device_error(&dev);
        assert_true(tensor_error(p, before) == 0.0 && tensor_error(m, m_before) == 0.0);
        *verdict = (struct trm_step_verdict){0, 0.25f};
        settings.gradient_scale = 7.0f; /* not taken */
        dev.ops->adamw(&dev, p, m, v, g, &settings);
        settings.verdict = NULL;
        settings.gradient_scale = 0.25f;
        dev.ops->adamw(&dev, q, n, w, g, &settings);
        assert_no_device_error(&dev);
        assert_true(tensor_error(p, q) == 0.0 && tensor_error(p, before) > 0.0);
    }
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
        cmocka_unit_test(adamw_does_nothing_on_a_bad_verdict_and_takes_the_scale_of_another),
        cmocka_unit_test(verdicts_are_those_of_the_host_to_the_last_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
