#include "trainer/self_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "trainer/ops/cpu/cpu.h"

static const struct trm_ops *sound;
static int calls;

static void sound_machines_pass_with_one_checksum_at_any_threads(void **state)
{
    struct trm_self_test first, other;
    struct trm_device dev;
    (void)state;

    assert_int_equal(trm_device_cpu(&dev, 1, NULL), TRM_OK);
    assert_int_equal(trm_self_test_run(&dev, &first, NULL), TRM_OK);
    assert_true(first.largest_error > 0 && first.largest_error < 1e-5);
    assert_int_not_equal(first.checksum, 0);
    assert_null(dev.workspace);
    for (int threads = 2; threads <= 3; threads++) {
        assert_int_equal(trm_device_cpu(&dev, threads, NULL), TRM_OK);
        assert_int_equal(trm_self_test_run(&dev, &other, NULL), TRM_OK);
        assert_true(other.checksum == first.checksum);
        assert_string_equal(other.fingerprint, first.fingerprint);
    }
}

/* One element of one result is a little off. */
static void wrong_linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                                 struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                                 enum trm_activation activation)
{
    sound->linear_forward(dev, y, pre, x, w, bias, activation);
    ((float *)y.data)[trm_tensor_elements(y) - 1] += 1e-2f;
}

static void wrong_attention_backward(struct trm_device *dev, struct trm_tensor dq,
                                     struct trm_tensor dk, struct trm_tensor dv,
                                     struct trm_tensor dout, struct trm_tensor q,
                                     struct trm_tensor k, struct trm_tensor v,
                                     struct trm_tensor out, struct trm_tensor log_sum_exp,
                                     const struct trm_attention *shape)
{
    sound->attention_backward(dev, dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape);
    ((float *)dk.data)[7] = __builtin_nanf("");
}

static void wrong_adamw(struct trm_device *dev, struct trm_tensor parameter,
                        struct trm_tensor exp_avg, struct trm_tensor exp_avg_sq,
                        struct trm_tensor gradient, const struct trm_adamw *settings)
{
    sound->adamw(dev, parameter, exp_avg, exp_avg_sq, gradient, settings);
    ((float *)exp_avg_sq.data)[0] *= 2;
    ((float *)exp_avg_sq.data)[1] += 1;
}

/* Right to rounding, but not the same each time. */
static void unsteady_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                  struct trm_tensor mean, struct trm_tensor rstd,
                                  struct trm_tensor x, struct trm_tensor weight,
                                  struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    sound->norm_forward(dev, y, mean, rstd, x, weight, bias, kind, epsilon);
    ((float *)y.data)[5] *= 1 + 2e-7f * (float)(calls++ % 2);
}

static void an_op_that_is_wrong_fails_by_name(void **state)
{
    struct trm_device dev;
    struct trm_ops ops;
    const struct {
        size_t offset;
        void (*op)(void);
        const char *words;
    } cases[] = {
        {offsetof(struct trm_ops, linear_forward), (void (*)(void))wrong_linear_forward,
         "computes wrongly: a matrix product with an activation is off by"},
        {offsetof(struct trm_ops, attention_backward), (void (*)(void))wrong_attention_backward,
         "computes wrongly: attention backward (keys) is off by"},
        {offsetof(struct trm_ops, adamw), (void (*)(void))wrong_adamw,
         "computes wrongly: a second moment is off by"},
        {offsetof(struct trm_ops, norm_forward), (void (*)(void))unsteady_norm_forward,
         "does not compute the same twice: a norm"},
    };
    (void)state;

    assert_int_equal(trm_device_cpu(&dev, 1, NULL), TRM_OK);
    sound = dev.ops;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_self_test untouched = {.checksum = 5};
        struct trm_error error = {0};
        ops = *sound;
        memcpy((char *)&ops + cases[i].offset, &cases[i].op, sizeof cases[i].op);
        dev.ops = &ops;
        assert_int_equal(trm_self_test_run(&dev, &untouched, &error), TRM_ERR_INTERNAL);
        assert_non_null(strstr(error.text, cases[i].words));
        assert_int_equal(untouched.checksum, 5);
    }
    assert_int_equal(trm_status_exit_code(TRM_ERR_INTERNAL), TRM_EXIT_SOFTWARE);
}

static void the_report_is_one_line_of_json(void **state)
{
    char *text = NULL;
    const char *word;
    uint64_t checksum;
    int64_t number;
    double value;
    json_t *report;
    (void)state;

    assert_int_equal(trm_self_test_report("1.2.3", TRM_DEVICE_CPU, &text, NULL), TRM_OK);
    assert_null(strchr(text, '\n'));
    assert_int_equal(trm_json_parse(text, strlen(text), "report", &report, NULL), TRM_OK);
    assert_int_equal(trm_json_get_string(report, "version", &word, NULL), TRM_OK);
    assert_string_equal(word, "1.2.3");
    assert_int_equal(trm_json_get_string(report, "fingerprint", &word, NULL), TRM_OK);
    assert_int_equal(trm_json_get_hex64(report, "checksum", &checksum, NULL), TRM_OK);
    assert_int_equal(trm_json_get_int(report, "cores", 1, 100000, &number, NULL), TRM_OK);
    assert_int_equal(trm_json_get_int(report, "memory_bytes", 1, INT64_MAX, &number, NULL), TRM_OK);
    assert_int_equal(trm_json_get_double(report, "seconds", &value, NULL), TRM_OK);
    assert_true(value > 0);
    json_decref(report);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_machines_pass_with_one_checksum_at_any_threads),
        cmocka_unit_test(an_op_that_is_wrong_fails_by_name),
        cmocka_unit_test(the_report_is_one_line_of_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
