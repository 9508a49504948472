/* Matrix products, linear layers and biases of a device against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct trm_tensor NONE;

struct size {
    int64_t m, n, k;
};

static void check_products(struct trial *t)
{
    for (int i = 0; i < t->count; i++)
        t->operand[i].tolerance = TRIAL_PRODUCT_TOLERANCE;
    t->by_alignment = true;
    trial_check(t);
}

/* Odd sizes around the tiles, long sums, and row strides that are multiples of 4 KiB. */
static const struct size SIZES[] = {
    {1, 1, 1},      {1, 17, 3},       {3, 1, 17},     {17, 3, 1},      {17, 63, 64},
    {64, 64, 64},   {65, 65, 63},     {63, 127, 129}, {127, 129, 128}, {300, 65, 129},
    {129, 300, 64}, {65, 769, 300},   {769, 17, 65},  {33, 65, 3072},  {1, 769, 300},
    {1100, 65, 33}, {65, 1100, 1024}, {385, 385, 17}, {72, 136, 40},
};

static void run_matmul(struct trm_device *dev, const struct trial *t)
{
    struct trm_tensor a = t->operand[1].t, b = t->operand[2].t;
    if (t->number[0])
        a = trm_tensor_transpose(a);
    if (t->number[1])
        b = trm_tensor_transpose(b);
    dev->ops->matmul(dev, t->operand[0].t, a, b, t->flag);
}

static void matmul_case(struct size s, bool a_transposed, bool b_transposed, bool accumulate,
                        int64_t gap)
{
    struct trial t;
    trial_begin(&t, run_matmul, "matmul %d x %d x %d%s%s%s gap %d", (int)s.m, (int)s.n, (int)s.k,
                a_transposed ? " at" : "", b_transposed ? " bt" : "", accumulate ? " +=" : "",
                (int)gap);
    t.number[0] = a_transposed;
    t.number[1] = b_transposed;
    t.flag = accumulate;
    trial_2d(&t, accumulate ? TRIAL_ACCUMULATED : TRIAL_OUTPUT, s.m, s.n, gap);
    trial_2d(&t, TRIAL_INPUT, a_transposed ? s.k : s.m, a_transposed ? s.m : s.k, gap);
    trial_2d(&t, TRIAL_INPUT, b_transposed ? s.n : s.k, b_transposed ? s.k : s.n, 2 * gap);
    /* Products of bfloat16 are bfloat16, or, as gradients of parameters, float32. */
    t.half = TRIAL_HALF(1) | TRIAL_HALF(2) | (accumulate ? 0 : TRIAL_HALF(0));
    check_products(&t);
}

static void matmul_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int kind = 0; kind < 4; kind++)
            matmul_case(SIZES[i], kind & 1, kind & 2, ((int)i + kind) % 2 == 1, 0);
}

static void matmul_of_strided_views_equals_the_reference(void **state)
{
    static const struct size sizes[] = {{1, 3, 17}, {17, 63, 65}, {65, 129, 64}, {130, 80, 127}};
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int kind = 0; kind < 8; kind++)
            matmul_case(sizes[i], kind & 1, kind & 2, kind & 4, 5);
}

static void run_linear_forward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->linear_forward(dev, t->operand[0].t, NONE, t->operand[1].t, t->operand[2].t,
                             t->flag ? t->operand[3].t : NONE, t->activation);
}

/* y = gelu(pre), which activation_forward must find again from pre: bit for bit, or, in bfloat16,
 * to what rounding the argument to eight bits can do. */
static void run_linear_gelu(struct trm_device *dev, const struct trial *t)
{
    const struct trm_tensor y = t->operand[0].t, pre = t->operand[4].t, again = t->operand[5].t;
    dev->ops->linear_forward(dev, y, pre, t->operand[1].t, t->operand[2].t,
                             t->flag ? t->operand[3].t : NONE, TRM_ACT_GELU);
    dev->ops->activation_forward(dev, again, pre, TRM_ACT_GELU);
    assert_no_device_error(dev);
    const double tolerance = y.type == TRM_BF16 ? 0x1p-6 : 0.0;
    for (int64_t i = 0; i < trm_tensor_elements(y); i++) {
        const double scale = fabs(tensor_get(y, i)) + fabs(tensor_get(pre, i));
        if (!(fabs(tensor_get(again, i) - tensor_get(y, i)) <= tolerance * scale))
            fail_msg("%s: %s: recomputed element %d differs", t->what, dev->ops->name, (int)i);
    }
}

static void linear_forward_case(struct size s, bool bias, int kind, int64_t gap)
{
    struct trial t;
    trial_begin(&t, kind == 2 ? run_linear_gelu : run_linear_forward,
                "linear forward %d x %d x %d bias %d kind %d gap %d", (int)s.m, (int)s.n, (int)s.k,
                bias, kind, (int)gap);
    t.limits.max_rows = s.m;
    t.limits.max_columns = s.n > s.k ? s.n : s.k;
    t.flag = bias;
    t.activation = kind == 0 ? TRM_ACT_NONE : TRM_ACT_GELU;
    trial_2d(&t, TRIAL_OUTPUT, s.m, s.n, gap);
    trial_2d(&t, TRIAL_INPUT, s.m, s.k, gap);
    trial_2d(&t, TRIAL_INPUT, s.n, s.k, 0);
    trial_1d(&t, TRIAL_INPUT, s.n);
    if (kind == 2) {
        trial_2d(&t, TRIAL_OUTPUT, s.m, s.n, 2 * gap);
        trial_2d(&t, TRIAL_OUTPUT, s.m, s.n, 0);
    }
    t.half = (1u << t.count) - 1;
    check_products(&t);
}

static void linear_forward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int kind = 0; kind < 3; kind++)
            linear_forward_case(SIZES[i], (i + (size_t)kind) % 3 != 0, kind, i % 2 ? 7 : 0);
}

static void run_linear_backward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->linear_backward(dev, t->number[0] ? t->operand[0].t : NONE, t->operand[1].t,
                              t->number[1] ? t->operand[2].t : NONE, t->operand[3].t,
                              t->operand[4].t, t->operand[5].t, t->operand[6].t, t->activation,
                              t->flag);
}

static void linear_backward_case(struct size s, bool accumulate, bool want_dx, bool want_dbias,
                                 enum trm_activation activation, int64_t gap)
{
    const enum trial_role role = accumulate ? TRIAL_ACCUMULATED : TRIAL_OUTPUT;
    struct trial t;
    trial_begin(&t, run_linear_backward,
                "linear backward %d x %d x %d%s dx %d dbias %d act %d gap %d", (int)s.m, (int)s.n,
                (int)s.k, accumulate ? " +=" : "", want_dx, want_dbias, (int)activation, (int)gap);
    t.limits.max_rows = s.m;
    t.limits.max_columns = s.n > s.k ? s.n : s.k;
    t.flag = accumulate;
    t.number[0] = want_dx;
    t.number[1] = want_dbias;
    t.activation = activation;
    trial_2d(&t, want_dx ? TRIAL_OUTPUT : TRIAL_INPUT, s.m, s.k, gap);
    trial_2d(&t, role, s.n, s.k, 0);
    trial_1d(&t, want_dbias ? role : TRIAL_INPUT, s.n);
    trial_2d(&t, TRIAL_INPUT, s.m, s.n, gap);
    trial_2d(&t, TRIAL_INPUT, s.m, s.k, 2 * gap);
    trial_2d(&t, TRIAL_INPUT, s.n, s.k, 0);
    trial_2d(&t, TRIAL_INPUT, s.m, s.k, gap);
    t.half = TRIAL_HALF(0) | TRIAL_HALF(3) | TRIAL_HALF(4) | TRIAL_HALF(5) | TRIAL_HALF(6);
    check_products(&t);
}

static void linear_backward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        linear_backward_case(SIZES[i], true, true, true, TRM_ACT_NONE, i % 2 ? 3 : 0);
        linear_backward_case(SIZES[i], false, true, true, TRM_ACT_GELU, i % 2 ? 0 : 3);
        linear_backward_case(SIZES[i], i % 2, false, true, TRM_ACT_GELU, 0);
        linear_backward_case(SIZES[i], i % 2, true, false, TRM_ACT_NONE, 0);
        linear_backward_case(SIZES[i], i % 2, true, false, TRM_ACT_GELU, 8);
    }
}

static void run_bias_forward(struct trm_device *dev, const struct trial *t)
{
    const struct trm_tensor y = t->operand[0].t, bias = t->operand[1].t;
    dev->ops->bias_forward(dev, y, t->flag ? y : t->operand[2].t, bias);
}

static void run_bias_backward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->bias_backward(dev, t->operand[0].t, t->operand[1].t);
}

static void biases_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SIZES); i++)
        for (int in_place = 0; in_place < 2; in_place++) {
            const struct size s = SIZES[i];
            const int64_t gap = i % 2 ? 0 : 9;
            struct trial t;
            trial_begin(&t, run_bias_forward, "bias forward %d x %d in place %d", (int)s.m,
                        (int)s.n, in_place);
            t.flag = in_place;
            trial_2d(&t, in_place ? TRIAL_ACCUMULATED : TRIAL_OUTPUT, s.m, s.n, gap);
            trial_1d(&t, TRIAL_INPUT, s.n);
            if (!in_place)
                trial_2d(&t, TRIAL_INPUT, s.m, s.n, 2 * gap);
            t.half = (1u << t.count) - 1;
            trial_check(&t);
            trial_begin(&t, run_bias_backward, "bias backward %d x %d", (int)s.m, (int)s.n);
            trial_1d(&t, TRIAL_ACCUMULATED, s.n);
            trial_2d(&t, TRIAL_INPUT, s.m, s.n, gap);
            t.half = TRIAL_HALF(1);
            trial_check(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_equals_the_reference),
        cmocka_unit_test(matmul_of_strided_views_equals_the_reference),
        cmocka_unit_test(linear_forward_equals_the_reference),
        cmocka_unit_test(linear_backward_equals_the_reference),
        cmocka_unit_test(biases_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
