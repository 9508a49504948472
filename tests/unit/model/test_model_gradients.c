/* The whole model's gradients against central differences of its loss, in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/random.h"
#include "fixture.h"

#define ROWS   14
#define PROBES 5 /* elements of each tensor */

static double loss_of(struct fixture *f, int which)
{
    int32_t inputs[ROWS], targets[ROWS];
    struct trm_exact_sum sum;

    fixture_tokens(f, which, inputs, targets);
    trm_exact_sum_init(&sum);
    assert_int_equal(trm_model_evaluate(f->model, inputs, targets, NULL, &sum, NULL), TRM_OK);
    return trm_exact_sum_value(&sum);
}

static double backward(struct fixture *f, int which, bool accumulate,
                       const struct trm_model_hooks *hooks)
{
    int32_t inputs[ROWS], targets[ROWS];
    struct trm_exact_sum sum;

    fixture_tokens(f, which, inputs, targets);
    trm_exact_sum_init(&sum);
    assert_int_equal(trm_model_forward_backward(f->model, inputs, targets, f->gradients, accumulate,
                                                hooks, &sum, NULL),
                     TRM_OK);
    return trm_exact_sum_value(&sum);
}

/* Derivative of the sum of both micro-batches' losses by one parameter. */
static double central_difference(struct fixture *f, int64_t i, bool two)
{
    const double h = 1e-5;
    double at = fixture_get(f, f->parameters, i), above, below;

    fixture_set(f, f->parameters, i, at + h);
    above = loss_of(f, 1) + (two ? loss_of(f, 2) : 0);
    fixture_set(f, f->parameters, i, at - h);
    below = loss_of(f, 1) + (two ? loss_of(f, 2) : 0);
    fixture_set(f, f->parameters, i, at);
    return (above - below) / (2 * h);
}

static void check_tensors(struct fixture *f, bool two)
{
    for (int t = 0; t < f->layout->tensor_count; t++) {
        const struct trm_layout_tensor *tensor = &f->layout->tensors[t];
        int64_t valid = tensor->valid_rows * tensor->columns;
        for (int p = 0; p < PROBES; p++) {
            int64_t e =
                (int64_t)(trm_random_bits(99, (uint64_t)(t * PROBES + p)) % (uint64_t)valid);
            double expected = central_difference(f, tensor->offset + e, two);
            double got = fixture_get(f, f->gradients, tensor->offset + e);
            if (fabs(got - expected) > 1e-6 * (1.0 + fabs(expected)))
                fail_msg("%s[%lld]: gradient %.10g, central difference %.10g", tensor->spec.name,
                         (long long)e, got, expected);
        }
    }
}

static void gradients_equal_central_differences(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, TRM_F64, true, TRM_RECOMPUTE_NONE);
    /* What the buffer held before must not matter, and padding must come out zero. */
    for (int64_t i = 0; i < f.layout->elements; i++)
        fixture_set(&f, f.gradients, i, 0.0);
    for (int t = 0; t < f.layout->tensor_count; t++)
        for (int64_t e = 0; e < f.layout->tensors[t].elements; e++)
            fixture_set(&f, f.gradients, f.layout->tensors[t].offset + e, NAN);
    backward(&f, 1, false, NULL);
    check_tensors(&f, false);
    const struct trm_layout_tensor *token = &f.layout->tensors[0];
    for (int64_t e = token->valid_rows * token->columns; e < token->elements; e++)
        assert_true(fixture_get(&f, f.gradients, token->offset + e) == 0.0);
    fixture_close(&f);
}

static void accumulated_gradients_equal_central_differences(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f, TRM_F64, true, TRM_RECOMPUTE_NONE);
    backward(&f, 1, false, NULL);
    backward(&f, 2, true, NULL);
    check_tensors(&f, true);
    fixture_close(&f);
}

static void recomputation_changes_no_bit(void **state)
{
    struct fixture plain, recomputed;
    (void)state;
    for (int trial = 0; trial < 4; trial++) {
        bool reference = trial % 2;
        fixture_open(&plain, TRM_F32, reference, TRM_RECOMPUTE_NONE);
        fixture_open(&recomputed, TRM_F32, reference,
                     trial < 2 ? TRM_RECOMPUTE_ATTENTION : TRM_RECOMPUTE_FULL);
        assert_true(backward(&plain, 1, false, NULL) == backward(&recomputed, 1, false, NULL));
        assert_memory_equal(plain.gradients, recomputed.gradients,
                            (size_t)plain.layout->elements * sizeof(float));
        fixture_close(&plain);
        fixture_close(&recomputed);
    }
}

static void the_fast_device_agrees_with_the_reference(void **state)
{
    struct fixture exact, fast;
    double difference = 0, size = 0;
    (void)state;
    fixture_open(&exact, TRM_F64, true, TRM_RECOMPUTE_NONE);
    fixture_open(&fast, TRM_F32, false, TRM_RECOMPUTE_NONE);
    double a = backward(&exact, 1, false, NULL), b = backward(&fast, 1, false, NULL);
    assert_true(fabs(a - b) < 2e-6 * fabs(a));
    for (int64_t i = 0; i < exact.layout->elements; i++) {
        double x = fixture_get(&exact, exact.gradients, i);
        double d = x - fixture_get(&fast, fast.gradients, i);
        difference += d * d;
        size += x * x;
    }
    assert_true(sqrt(difference) < 2e-6 * sqrt(size));
    fixture_close(&exact);
    fixture_close(&fast);
}

struct calls {
    unsigned char waited[64], ready[64];
    int last_ready;
};

static void on_wait(void *context, int first, int count)
{
    struct calls *calls = context;
    for (int i = first; i < first + count; i++)
        calls->waited[i]++;
}

static void on_ready(void *context, int first, int count)
{
    struct calls *calls = context;
    assert_true(first + count <= calls->last_ready); /* from the last tensor to the first */
    calls->last_ready = first;
    for (int i = first; i < first + count; i++)
        calls->ready[i]++;
}

static void hooks_see_every_tensor_once_and_in_order(void **state)
{
    struct fixture f;
    struct calls calls = {.last_ready = 64};
    struct trm_model_hooks hooks = {
        .context = &calls, .param_wait = on_wait, .grad_ready = on_ready};
    (void)state;
    fixture_open(&f, TRM_F32, true, TRM_RECOMPUTE_NONE);
    backward(&f, 1, false, &hooks);
    for (int i = 0; i < f.layout->tensor_count; i++) {
        assert_int_equal(calls.waited[i], 1);
        assert_int_equal(calls.ready[i], 1);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_equal_central_differences),
        cmocka_unit_test(accumulated_gradients_equal_central_differences),
        cmocka_unit_test(recomputation_changes_no_bit),
        cmocka_unit_test(the_fast_device_agrees_with_the_reference),
        cmocka_unit_test(hooks_see_every_tensor_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
