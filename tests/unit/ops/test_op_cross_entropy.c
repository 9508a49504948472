/* Cross-entropy of a device against the reference, step by step. */
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

/* Targets are drawn from [0, range); this rank holds [first_row, first_row + held), `valid` real.
 */
static const struct {
    int64_t rows, held, valid, first_row, range, gap;
    double spread; /* logits lie in [-spread, spread] */
} CASES[] = {
    {1, 1, 1, 0, 1, 0, 1},
    {17, 3, 2, 0, 2, 0, 1},
    {3, 17, 17, 0, 17, 0, 5},
    {63, 64, 63, 64, 127, 0, 5},
    {65, 127, 65, 0, 300, 0, 5},
    {129, 300, 300, 0, 300, 4, 5},
    {64, 769, 700, 300, 1000, 0, 5},
    {5, 5025, 5025, 0, 5025, 0, 5},
    {33, 65, 64, 0, 64, 0, 80},
    {17, 300, 299, 0, 299, 0, 1e4},
    {2, 26003, 26001, 0, 26001, 0, 5},
};

enum { MAXIMUM, SUMS, LOSS, LOGITS, TARGETS };

static void run_maximum(struct trm_device *dev, const struct trial *t)
{
    dev->ops->cross_entropy_maximum(dev, t->operand[MAXIMUM].t, t->operand[LOGITS].t, t->number[1]);
}

static void run_sums(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->cross_entropy_sums(dev, o[SUMS].t, o[LOGITS].t, o[MAXIMUM].t, o[TARGETS].t,
                                 t->number[0], t->number[1]);
}

static void run_gradient(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->cross_entropy_gradient(dev, o[LOSS].t, o[LOGITS].t, o[MAXIMUM].t, o[SUMS].t,
                                     o[TARGETS].t, t->number[0], t->number[1], t->flag);
}

/* `step` 0: maximum; 1: sums; 2: loss; 3: loss and gradient. What earlier steps give comes from the
 * reference; padding holds garbage that must not count. */
static void cross_entropy_case(size_t i, int step)
{
    const int64_t rows = CASES[i].rows, held = CASES[i].held;
    struct trial t;
    trial_begin(&t,
                step == 0   ? run_maximum
                : step == 1 ? run_sums
                            : run_gradient,
                "cross-entropy step %d, %d x %d", step, (int)rows, (int)held);
    t.number[0] = CASES[i].first_row;
    t.number[1] = CASES[i].valid;
    t.flag = step == 3;
    t.limits.vocabulary = held;
    trial_1d(&t, step == 0 ? TRIAL_OUTPUT : TRIAL_INPUT, rows);
    trial_2d(&t, step == 1 ? TRIAL_OUTPUT : TRIAL_INPUT, 2, rows, 0);
    trial_1d(&t, step >= 2 ? TRIAL_OUTPUT : TRIAL_INPUT, rows);
    trial_2d(&t, step == 3 ? TRIAL_ACCUMULATED : TRIAL_INPUT, rows, held, CASES[i].gap);
    trial_tokens(&t, rows, CASES[i].range);
    const struct trm_tensor logits = t.operand[LOGITS].t;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t v = 0; v < held; v++)
            tensor_set(logits, n * held + v,
                       v < CASES[i].valid ? CASES[i].spread * tensor_get(logits, n * held + v)
                       : v % 2            ? NAN
                                          : INFINITY);
    struct trm_device reference = reference_device(&t.pool, NULL);
    if (step > 0)
        run_maximum(&reference, &t);
    if (step > 1)
        run_sums(&reference, &t);
    if (step == 0)
        t.operand[MAXIMUM].tolerance = 0.0;
    /* loss = log(sum) - target: two terms of the logits' size that may cancel. */
    t.operand[LOSS].magnitude = 1.0;
    t.half = TRIAL_HALF(LOGITS);
    trial_check(&t);
}

static void cross_entropy_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(CASES); i++)
        for (int step = 0; step < 4; step++)
            cross_entropy_case(i, step);
}

enum { STEPS_LOGITS = 5, STEPS_LOSS };

/* On a device that is not the reference: the bits of the steps taken one by one. */
static void run_one_pass(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    const struct trm_tensor logits = o[STEPS_LOGITS].t, loss = o[STEPS_LOSS].t;
    dev->ops->cross_entropy(dev, o[LOSS].t, o[LOGITS].t, o[TARGETS].t, t->number[1], t->flag);
    dev->ops->cross_entropy_maximum(dev, o[MAXIMUM].t, logits, t->number[1]);
    dev->ops->cross_entropy_sums(dev, o[SUMS].t, logits, o[MAXIMUM].t, o[TARGETS].t, 0,
                                 t->number[1]);
    dev->ops->cross_entropy_gradient(dev, loss, logits, o[MAXIMUM].t, o[SUMS].t, o[TARGETS].t, 0,
                                     t->number[1], t->flag);
    assert_no_device_error(dev);
    if (dev->ops->name[0] == 'r')
        return;
    for (int64_t n = 0; n < loss.shape[0]; n++)
        assert_true(tensor_get(loss, n) == tensor_get(o[LOSS].t, n));
    for (int64_t i = 0; i < trm_tensor_elements(logits) && t->flag; i++)
        assert_true(tensor_get(logits, i) == tensor_get(o[LOGITS].t, i));
}

static void one_pass_case(size_t i, bool want_gradient)
{
    const int64_t rows = CASES[i].rows, held = CASES[i].held;
    const enum trial_role role = want_gradient ? TRIAL_ACCUMULATED : TRIAL_INPUT;
    struct trial t;
    trial_begin(&t, run_one_pass, "cross-entropy in one pass, %d x %d, gradient %d", (int)rows,
                (int)held, want_gradient);
    t.number[1] = CASES[i].valid;
    t.flag = want_gradient;
    t.limits.vocabulary = held;
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_2d(&t, TRIAL_OUTPUT, 2, rows, 0);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_2d(&t, role, rows, held, CASES[i].gap);
    trial_tokens(&t, rows, CASES[i].range);
    trial_2d(&t, role, rows, held, 0);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    for (int64_t n = 0; n < rows; n++)
        for (int64_t v = 0; v < held; v++) {
            const int64_t at = n * held + v;
            const double logit = CASES[i].spread * tensor_get(t.operand[LOGITS].t, at);
            const double value = v < CASES[i].valid ? logit : v % 2 ? NAN : INFINITY;
            tensor_set(t.operand[LOGITS].t, at, value);
            tensor_set(t.operand[STEPS_LOGITS].t, at, value);
        }
    t.operand[LOSS].magnitude = t.operand[STEPS_LOSS].magnitude = 1.0;
    t.operand[SUMS].magnitude = 1.0;
    t.half = TRIAL_HALF(LOGITS) | TRIAL_HALF(STEPS_LOGITS);
    trial_check(&t);
}

static void one_pass_equals_the_reference_and_the_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(CASES); i++)
        if (CASES[i].first_row == 0) {
            one_pass_case(i, true);
            one_pass_case(i, false);
        }
}

/* With one column and a maximum of zero the sum is the exponential itself. */
static void the_exponential_is_close_at_every_argument(void **state)
{
    enum { N = 17401 };
    struct pool pool = {0};
    struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = N, .max_columns = 1, .vocabulary = 1};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor logits = pool_2d(&pool, TRM_F32, N, 1, 0),
                      maximum = pool_1d(&pool, TRM_F32, N), sums = pool_2d(&pool, TRM_F32, 2, N, 0),
                      targets = pool_tokens(&pool, N, 1);
    (void)state;
    tensor_fill(maximum, 0.0);
    for (int64_t i = 0; i < N; i++)
        tensor_set(logits, i, -0.005 * (double)i);
    dev.ops->cross_entropy_sums(&dev, sums, logits, maximum, targets, 0, 1);
    assert_no_device_error(&dev);
    for (int64_t i = 0; i < N; i++) {
        const double x = tensor_get(logits, i), want = exp(x), got = tensor_get(sums, i);
        if (!(fabs(got - want) <= trial_slack() * 2e-7 * want))
            fail_msg("exp(%g) is %.9g, not %.9g", x, got, want);
    }
    pool_free(&pool);
}

static void a_rank_without_real_entries_adds_nothing(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = 17, .max_columns = 65, .vocabulary = 65};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor logits = pool_2d(&pool, TRM_F32, 17, 65, 0),
                      maximum = pool_1d(&pool, TRM_F32, 17),
                      sums = pool_2d(&pool, TRM_F32, 2, 17, 0), loss = pool_1d(&pool, TRM_F32, 17),
                      targets = pool_tokens(&pool, 17, 100);
    (void)state;
    dev.ops->cross_entropy_maximum(&dev, maximum, logits, 0);
    assert_no_device_error(&dev);
    for (int64_t n = 0; n < 17; n++)
        assert_true(tensor_get(maximum, n) == -(double)INFINITY);
    tensor_fill(maximum, 3.0); /* of another rank */
    dev.ops->cross_entropy_sums(&dev, sums, logits, maximum, targets, 130, 0);
    assert_no_device_error(&dev);
    for (int64_t i = 0; i < 34; i++)
        assert_true(tensor_get(sums, i) == 0.0);
    for (int64_t n = 0; n < 17; n++)
        tensor_set(sums, n, 2.0);
    dev.ops->cross_entropy_gradient(&dev, loss, logits, maximum, sums, targets, 130, 0, true);
    assert_no_device_error(&dev);
    for (int64_t n = 0; n < 17; n++)
        assert_true(fabs(tensor_get(loss, n) - log(2.0)) < 1e-6);
    for (int64_t i = 0; i < 17 * 65; i++)
        assert_true(tensor_get(logits, i) == 0.0);
    assert_no_device_error(&dev);
    pool_free(&pool);
}

static void a_nan_among_the_logits_is_a_nan_loss(void **state)
{
    (void)state;
    for (int64_t place = 0; place < 65; place += 16) {
        struct pool pool = {0};
        struct trm_ops_limits limits = {
            .type = TRM_F32, .max_rows = 2, .max_columns = 65, .vocabulary = 65};
        struct trm_device dev = trial_device(&pool, &limits);
        struct trm_tensor logits = pool_2d(&pool, TRM_F32, 2, 65, 0),
                          maximum = pool_1d(&pool, TRM_F32, 2),
                          sums = pool_2d(&pool, TRM_F32, 2, 2, 0),
                          loss = pool_1d(&pool, TRM_F32, 2), targets = pool_tokens(&pool, 2, 65);
        tensor_set(logits, 65 + place, NAN);
        dev.ops->cross_entropy_maximum(&dev, maximum, logits, 65);
        dev.ops->cross_entropy_sums(&dev, sums, logits, maximum, targets, 0, 65);
        dev.ops->cross_entropy_gradient(&dev, loss, logits, maximum, sums, targets, 0, 65, false);
        assert_no_device_error(&dev);
        assert_true(isfinite(tensor_get(loss, 0)));
        assert_true(isnan(tensor_get(loss, 1)));
        tensor_fill(loss, 0.0);
        dev.ops->cross_entropy(&dev, loss, logits, targets, 65, false);
        assert_no_device_error(&dev);
        assert_true(isfinite(tensor_get(loss, 0)));
        assert_true(isnan(tensor_get(loss, 1)));
        pool_free(&pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy_equals_the_reference),
        cmocka_unit_test(one_pass_equals_the_reference_and_the_steps),
        cmocka_unit_test(the_exponential_is_close_at_every_argument),
        cmocka_unit_test(a_rank_without_real_entries_adds_nothing),
        cmocka_unit_test(a_nan_among_the_logits_is_a_nan_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
