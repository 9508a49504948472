/* Layer norm of a device against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    int64_t rows, columns, gap;
} SIZES[] = {
    {1, 1, 0},    {1, 3, 0},   {17, 2, 1},    {3, 17, 0},    {63, 64, 0},   {65, 63, 4},
    {129, 65, 0}, {5, 769, 3}, {300, 129, 0}, {127, 300, 2}, {1025, 17, 0}, {2, 3073, 0},
};

static void run_forward(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->norm_forward(dev, o[0].t, o[1].t, o[2].t, o[3].t, o[4].t, o[5].t, TRM_NORM_LAYER,
                           1e-5f);
}

static void run_backward(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    dev->ops->norm_backward(dev, o[0].t, o[1].t, o[2].t, o[3].t, o[4].t, o[5].t, o[6].t, o[7].t,
                            TRM_NORM_LAYER);
}

/* `offset`: how far the mean lies from zero, in standard deviations or so. */
static void forward_case(int64_t rows, int64_t columns, int64_t gap, double offset)
{
    struct trial t;
    trial_begin(&t, run_forward, "norm forward %d x %d gap %d offset %g", (int)rows, (int)columns,
                (int)gap, offset);
    trial_2d(&t, TRIAL_OUTPUT, rows, columns, gap);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_2d(&t, TRIAL_INPUT, rows, columns, 2 * gap);
    trial_1d(&t, TRIAL_INPUT, columns);
    trial_1d(&t, TRIAL_INPUT, columns);
    for (int64_t i = 0; i < rows * columns; i++)
        tensor_set(t.operand[3].t, i, tensor_get(t.operand[3].t, i) + offset);
    /* The mean is a float: its rounding, 6e-8 of it, stays in x - mean when `offset` is large, and
     * a row of one or two elements has little else. */
    t.operand[0].tolerance *= 1.0 + offset;
    t.operand[2].tolerance *= 1.0 + offset;
    t.half = TRIAL_HALF(0) | TRIAL_HALF(3) | TRIAL_HALF(4) | TRIAL_HALF(5);
    trial_check(&t);
}

static void norm_forward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        forward_case(SIZES[i].rows, SIZES[i].columns, SIZES[i].gap, 0.0);
        if (SIZES[i].columns > 16)
            forward_case(SIZES[i].rows, SIZES[i].columns, SIZES[i].gap, 30.0);
    }
}

static void run_residual(struct trm_device *dev, const struct trial *t)
{
    const struct trial_operand *o = t->operand;
    const struct trm_tensor x = t->flag ? o[1].t : o[4].t;
    dev->ops->residual_norm_forward(dev, o[0].t, o[1].t, o[2].t, o[3].t, x, o[5].t, o[6].t, o[7].t,
                                    TRM_NORM_LAYER, 1e-5f);
    assert_no_device_error(dev);
    /* What the two operations apart give, bit for bit. */
    dev->ops->norm_forward(dev, o[8].t, o[9].t, o[10].t, o[1].t, o[6].t, o[7].t, TRM_NORM_LAYER,
                           1e-5f);
    if (!t->flag)
        dev->ops->add(dev, o[11].t, x, o[5].t);
    assert_no_device_error(dev);
    for (int64_t i = 0; i < trm_tensor_elements(o[0].t); i++) {
        assert_true(tensor_get(o[0].t, i) == tensor_get(o[8].t, i));
        assert_true(t->flag || tensor_get(o[1].t, i) == tensor_get(o[11].t, i));
    }
    for (int64_t i = 0; i < trm_tensor_elements(o[2].t); i++) {
        assert_true(tensor_get(o[2].t, i) == tensor_get(o[9].t, i));
        assert_true(tensor_get(o[3].t, i) == tensor_get(o[10].t, i));
    }
}

/* In place: the stream is where the sum goes. */
static void residual_case(int64_t rows, int64_t columns, int64_t gap, bool in_place)
{
    struct trial t;
    trial_begin(&t, run_residual, "residual norm %d x %d gap %d in place %d", (int)rows,
                (int)columns, (int)gap, in_place);
    t.flag = in_place;
    trial_2d(&t, TRIAL_OUTPUT, rows, columns, gap);
    trial_2d(&t, in_place ? TRIAL_ACCUMULATED : TRIAL_OUTPUT, rows, columns, gap);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_2d(&t, TRIAL_INPUT, rows, columns, 2 * gap);
    trial_2d(&t, TRIAL_INPUT, rows, columns, gap);
    trial_1d(&t, TRIAL_INPUT, columns);
    trial_1d(&t, TRIAL_INPUT, columns);
    trial_2d(&t, TRIAL_OUTPUT, rows, columns, 0);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_1d(&t, TRIAL_OUTPUT, rows);
    trial_2d(&t, in_place ? TRIAL_INPUT : TRIAL_OUTPUT, rows, columns, 0);
    /* Rows of one or two elements: their differences are what is left of the rounded sum. */
    for (int i = 0; i < 11; i++)
        t.operand[i].magnitude = columns < 3 ? 300.0 : 0.0;
    for (int i = 0; i < t.count; i++)
        t.half |= t.operand[i].t.dims == 2 || i == 6 || i == 7 ? TRIAL_HALF(i) : 0;
    trial_check(&t);
}

static void residual_norm_equals_the_reference_and_the_two_operations_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        residual_case(SIZES[i].rows, SIZES[i].columns, SIZES[i].gap, false);
        residual_case(SIZES[i].rows, SIZES[i].columns, SIZES[i].gap, true);
    }
}

static void norm_backward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        const int64_t rows = SIZES[i].rows, columns = SIZES[i].columns, gap = SIZES[i].gap;
        struct trial t;
        trial_begin(&t, run_backward, "norm backward %d x %d gap %d", (int)rows, (int)columns,
                    (int)gap);
        trial_2d(&t, TRIAL_ACCUMULATED, rows, columns, gap);
        trial_1d(&t, TRIAL_ACCUMULATED, columns);
        trial_1d(&t, TRIAL_ACCUMULATED, columns);
        trial_2d(&t, TRIAL_INPUT, rows, columns, 2 * gap);
        trial_2d(&t, TRIAL_INPUT, rows, columns, gap);
        trial_1d(&t, TRIAL_INPUT, rows);
        trial_1d(&t, TRIAL_INPUT, rows);
        trial_1d(&t, TRIAL_INPUT, columns);
        struct trm_device reference = reference_device(&t.pool, NULL);
        struct trm_tensor y = pool_2d(&t.pool, TRM_F32, rows, columns, 0),
                          bias = pool_1d(&t.pool, TRM_F32, columns);
        reference.ops->norm_forward(&reference, y, t.operand[5].t, t.operand[6].t, t.operand[4].t,
                                    t.operand[7].t, bias, TRM_NORM_LAYER, 1e-5f);
        /* With one or two columns the gradient is what is left of terms of size rstd. */
        t.operand[0].magnitude = columns < 3 ? 300.0 : 0.0;
        t.half = TRIAL_HALF(0) | TRIAL_HALF(3) | TRIAL_HALF(4) | TRIAL_HALF(7);
        trial_check(&t);
    }
}

static void norm_of_equal_elements_is_the_bias(void **state)
{
    struct pool pool = {0};
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 3, .max_columns = 65};
    struct trm_device dev = trial_device(&pool, &limits);
    struct trm_tensor x = pool_2d(&pool, TRM_F32, 3, 65, 0), y = pool_2d(&pool, TRM_F32, 3, 65, 0),
                      weight = pool_1d(&pool, TRM_F32, 65), bias = pool_1d(&pool, TRM_F32, 65),
                      mean = pool_1d(&pool, TRM_F32, 3), rstd = pool_1d(&pool, TRM_F32, 3);
    (void)state;
    tensor_fill(x, 0.75);
    tensor_set(x, 2 * 65 + 64, NAN); /* and a NaN is not lost */
    dev.ops->norm_forward(&dev, y, mean, rstd, x, weight, bias, TRM_NORM_LAYER, 1e-5f);
    assert_no_device_error(&dev);
    for (int64_t c = 0; c < 65; c++) {
        assert_true(fabs(tensor_get(y, c) - tensor_get(bias, c)) < 1e-4);
        assert_true(isnan(tensor_get(y, 2 * 65 + c)));
    }
    assert_true(tensor_get(mean, 0) == 0.75);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_forward_equals_the_reference),
        cmocka_unit_test(residual_norm_equals_the_reference_and_the_two_operations_apart),
        cmocka_unit_test(norm_backward_equals_the_reference),
        cmocka_unit_test(norm_of_equal_elements_is_the_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
