/* Zero, copy, add and activations of a device against the reference. */
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

struct size {
    int64_t rows, columns, gap;
};

static const struct size SIZES[] = {
    {1, 1, 0},   {1, 3, 0},   {3, 17, 0},    {17, 3, 2},    {63, 65, 0},   {65, 63, 1},
    {64, 64, 0}, {127, 1, 3}, {129, 300, 0}, {129, 300, 5}, {1, 70001, 0}, {61, 1153, 16},
};

static void run_zero(struct trm_device *dev, const struct trial *t)
{
    dev->ops->zero(dev, t->operand[0].t);
}

static void run_copy(struct trm_device *dev, const struct trial *t)
{
    dev->ops->copy(dev, t->operand[0].t, t->operand[1].t);
}

static void run_add(struct trm_device *dev, const struct trial *t)
{
    dev->ops->add(dev, t->operand[0].t, t->operand[1].t, t->operand[2].t);
}

static void run_add_in_place(struct trm_device *dev, const struct trial *t)
{
    const struct trm_tensor out = t->operand[0].t, other = t->operand[1].t;
    if (t->flag)
        dev->ops->add(dev, out, out, other);
    else
        dev->ops->add(dev, out, other, out);
}

static void run_activation_forward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->activation_forward(dev, t->operand[0].t, t->operand[1].t, t->activation);
}

static void run_activation_backward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->activation_backward(dev, t->operand[0].t, t->operand[2].t, t->operand[1].t,
                                  t->activation);
}

static void run_activation_backward_in_place(struct trm_device *dev, const struct trial *t)
{
    dev->ops->activation_backward(dev, t->operand[0].t, t->operand[0].t, t->operand[1].t,
                                  t->activation);
}

/* One output and two inputs of one size; the inputs' rows have other gaps. */
static void elementwise_case(void (*run)(struct trm_device *, const struct trial *),
                             enum trial_role role, struct size s, enum trm_activation activation,
                             double tolerance, bool flag)
{
    struct trial t;
    trial_begin(&t, run, "elementwise %d x %d gap %d activation %d", (int)s.rows, (int)s.columns,
                (int)s.gap, (int)activation);
    t.activation = activation;
    t.flag = flag;
    trial_2d(&t, role, s.rows, s.columns, s.gap);
    trial_2d(&t, TRIAL_INPUT, s.rows, s.columns, 2 * s.gap);
    trial_2d(&t, TRIAL_INPUT, s.rows, s.columns, 0);
    t.operand[0].tolerance = tolerance;
    t.half = TRIAL_HALF(0) | TRIAL_HALF(1) | TRIAL_HALF(2);
    /* From -8 to 8: activations have something to do. */
    for (int64_t i = 0; i < s.rows * s.columns; i++)
        tensor_set(t.operand[1].t, i, 8.0 * tensor_get(t.operand[1].t, i));
    trial_check(&t);
}

static void zero_copy_and_add_equal_the_reference_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        elementwise_case(run_zero, TRIAL_OUTPUT, SIZES[i], TRM_ACT_NONE, 0.0, false);
        elementwise_case(run_copy, TRIAL_OUTPUT, SIZES[i], TRM_ACT_NONE, 0.0, false);
        elementwise_case(run_add, TRIAL_OUTPUT, SIZES[i], TRM_ACT_NONE, 0.0, false);
        elementwise_case(run_add_in_place, TRIAL_ACCUMULATED, SIZES[i], TRM_ACT_NONE, 0.0, false);
        elementwise_case(run_add_in_place, TRIAL_ACCUMULATED, SIZES[i], TRM_ACT_NONE, 0.0, true);
    }
}

static void activations_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int a = TRM_ACT_NONE; a <= TRM_ACT_GELU; a++) {
            const enum trm_activation activation = (enum trm_activation)a;
            elementwise_case(run_activation_forward, TRIAL_OUTPUT, SIZES[i], activation, 1e-6,
                             false);
            elementwise_case(run_activation_backward, TRIAL_OUTPUT, SIZES[i], activation, 1e-6,
                             false);
            elementwise_case(run_activation_backward_in_place, TRIAL_ACCUMULATED, SIZES[i],
                             activation, 1e-6, false);
        }
}

static void one_dimension_is_enough(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 70; n += 17) {
        struct trial t;
        trial_begin(&t, run_add, "add of %d", (int)n);
        trial_1d(&t, TRIAL_OUTPUT, n);
        trial_1d(&t, TRIAL_INPUT, n);
        trial_1d(&t, TRIAL_INPUT, n);
        trial_check(&t);
        trial_begin(&t, run_zero, "zero of %d", (int)n);
        trial_1d(&t, TRIAL_OUTPUT, n);
        trial_check(&t);
    }
}

/* Element by element, where the norm of 70,000 others would hide an error. Both fall to zero on the
 * left, where the argument's rounding is multiplied by its size in the exponent: there the error is
 * measured against 0.1. In the slope, 1 - s rounds by 6e-8 and is multiplied by x 2u', up to 36. */
static void gelu_is_close_at_every_argument(void **state)
{
    enum { N = 32001 };
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = N};
    struct trm_device reference = reference_device(&pool, NULL), dev = trial_device(&pool, &limits);
    struct trm_tensor x = pool_2d(&pool, TRM_F32, 1, N, 0), one = pool_2d(&pool, TRM_F32, 1, N, 0);
    struct trm_tensor got = pool_2d(&pool, TRM_F32, 1, N, 0),
                      want = pool_2d(&pool, TRM_F32, 1, N, 0);
    (void)state;
    tensor_fill(one, 1.0);
    for (int64_t i = 0; i < N; i++)
        tensor_set(x, i, 0.001 * (double)(i - N / 2));
    for (int backward = 0; backward < 2; backward++) {
        if (backward) {
            reference.ops->activation_backward(&reference, want, one, x, TRM_ACT_GELU);
            dev.ops->activation_backward(&dev, got, one, x, TRM_ACT_GELU);
        } else {
            reference.ops->activation_forward(&reference, want, x, TRM_ACT_GELU);
            dev.ops->activation_forward(&dev, got, x, TRM_ACT_GELU);
        }
        assert_no_device_error(&dev);
        for (int64_t i = 0; i < N; i++)
            if (!(fabs(tensor_get(got, i) - tensor_get(want, i)) <=
                  trial_slack() * (backward ? 2.5e-6 : 1e-6) *
                      fmax(fabs(tensor_get(want, i)), backward ? 1.0 : 0.1)))
                fail_msg("gelu%s(%g) is %.9g, not %.9g", backward ? "'" : "", tensor_get(x, i),
                         tensor_get(got, i), tensor_get(want, i));
    }
    assert_no_device_error(&dev);
    pool_free(&pool);
}

static void gelu_of_extreme_arguments(void **state)
{
    static const float x[8] = {-100.0f, 100.0f, -3e38f, 3e38f, 0.0f, NAN, INFINITY, 1e-30f};
    static const double y[8] = {0.0, 100.0, 0.0, 3e38, 0.0, NAN, INFINITY, 0.5e-30};
    static const double slope[8] = {0.0, 1.0, 0.0, 1.0, 0.5, NAN, 1.0, 0.5};
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 1, .max_columns = 8};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor in = pool_2d(&pool, TRM_F32, 1, 8, 0), one = pool_2d(&pool, TRM_F32, 1, 8, 0),
                      out = pool_2d(&pool, TRM_F32, 1, 8, 0),
                      gradient = pool_2d(&pool, TRM_F32, 1, 8, 0);
    (void)state;
    memcpy(in.data, x, sizeof(x));
    tensor_fill(one, 1.0);
    dev.ops->activation_forward(&dev, out, in, TRM_ACT_GELU);
    dev.ops->activation_backward(&dev, gradient, one, in, TRM_ACT_GELU);
    assert_no_device_error(&dev);
    for (int64_t i = 0; i < 8; i++) {
        const double got[2] = {tensor_get(out, i), tensor_get(gradient, i)};
        const double want[2] = {y[i], slope[i]};
        for (int k = 0; k < 2; k++) {
            if (k == 1 && isinf(x[i]))
                continue; /* inf * 0: no answer is wrong */
            if (isnan(want[k])
                    ? !isnan(got[k])
                    : !(got[k] == want[k] || fabs(got[k] - want[k]) <= 1e-6 * fabs(want[k])))
                fail_msg("gelu%s(%g) is %g, not %g", k ? "'" : "", (double)x[i], got[k], want[k]);
        }
    }
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_copy_and_add_equal_the_reference_exactly),
        cmocka_unit_test(activations_equal_the_reference),
        cmocka_unit_test(one_dimension_is_enough),
        cmocka_unit_test(gelu_is_close_at_every_argument),
        cmocka_unit_test(gelu_of_extreme_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
