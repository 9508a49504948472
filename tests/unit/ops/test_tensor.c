#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/ops/ops.h"
#include "trainer/ops/reference/reference.h"

static void tensors_are_contiguous_in_row_major_order(void **state)
{
    float data[24];
    (void)state;
    const struct trm_tensor t = trm_tensor_4d(data, TRM_F32, 2, 3, 2, 2);
    const int64_t strides[4] = {12, 4, 2, 1};
    assert_int_equal(t.dims, 4);
    assert_memory_equal(t.stride, strides, sizeof(strides));
    assert_int_equal(trm_tensor_elements(t), 24);
    assert_true(trm_tensor_is_contiguous(t));
    assert_true(t.scale == 1.0f);
    assert_int_equal(trm_tensor_elements(trm_tensor_1d(data, TRM_F32, 24)), 24);
    assert_int_equal(trm_tensor_elements(trm_tensor_2d(data, TRM_F32, 0, 5)), 0);
}

static void transpose_exchanges_rows_and_columns_in_place(void **state)
{
    double data[6];
    (void)state;
    const struct trm_tensor t = trm_tensor_transpose(trm_tensor_2d(data, TRM_F64, 2, 3));
    assert_int_equal(t.shape[0], 3);
    assert_int_equal(t.shape[1], 2);
    assert_int_equal(t.stride[0], 1);
    assert_int_equal(t.stride[1], 3);
    assert_ptr_equal(t.data, data);
    assert_false(trm_tensor_is_contiguous(t));
}

static void rows_and_columns_are_views_of_the_same_memory(void **state)
{
    float data[20];
    (void)state;
    const struct trm_tensor t = trm_tensor_2d(data, TRM_F32, 4, 5);
    const struct trm_tensor rows = trm_tensor_rows(t, 1, 2);
    assert_ptr_equal(rows.data, data + 5);
    assert_int_equal(rows.shape[0], 2);
    assert_true(trm_tensor_is_contiguous(rows));
    const struct trm_tensor columns = trm_tensor_columns(rows, 3, 2);
    assert_ptr_equal(columns.data, data + 8);
    assert_int_equal(columns.shape[1], 2);
    assert_int_equal(columns.stride[0], 5);
    assert_false(trm_tensor_is_contiguous(columns));
    /* One row of them is contiguous whatever its row stride. */
    assert_true(trm_tensor_is_contiguous(trm_tensor_rows(columns, 1, 1)));
    assert_int_equal(trm_tensor_elements(trm_tensor_rows(t, 4, 0)), 0);
}

static void a_range_of_a_tensor_that_is_not_there_is_not_there(void **state)
{
    (void)state;
    assert_null(trm_tensor_rows(trm_tensor_2d(NULL, TRM_F32, 4, 5), 2, 1).data);
}

static void sync_reports_the_first_error_until_the_device_is_made_anew(void **state)
{
    struct trm_device dev;
    struct trm_error err = {0};
    int32_t numbers[2] = {0};
    uint16_t halves[2] = {0};
    (void)state;
    trm_device_reference(&dev);
    assert_int_equal(trm_device_sync(&dev, &err), TRM_OK);
    dev.ops->zero(&dev, trm_tensor_1d(halves, TRM_BF16, 2));
    dev.ops->zero(&dev, trm_tensor_1d(numbers, TRM_I32, 2));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trm_device_sync(&dev, &err), TRM_ERR_UNSUPPORTED);
        assert_string_equal(err.text,
                            "zero on the reference device takes float32 and float64, not bfloat16");
    }
    assert_int_equal(trm_device_sync(&dev, NULL), TRM_ERR_UNSUPPORTED);
}

static void attention_without_its_workspace_is_an_error(void **state)
{
    struct trm_device dev;
    float data[2] = {1.0f, 2.0f}, statistic = -7.0f, out[2] = {-7.0f, -7.0f};
    const struct trm_attention shape = {1, 1, 1, 1, 2, 0, 0, 1.0f};
    const struct trm_tensor t = trm_tensor_2d(data, TRM_F32, 1, 2);
    (void)state;
    trm_device_reference(&dev);
    dev.ops->attention_forward(&dev, trm_tensor_2d(out, TRM_F32, 1, 2),
                               trm_tensor_2d(&statistic, TRM_F32, 1, 1), t, t, t, &shape);
    assert_int_equal(trm_device_sync(&dev, NULL), TRM_ERR_MEMORY);
    assert_true(out[0] == -7.0f && statistic == -7.0f);
}

static void describe_gives_the_name_of_a_device_that_has_no_more_to_say(void **state)
{
    struct trm_device dev;
    char text[32];
    (void)state;
    trm_device_reference(&dev);
    trm_device_describe(&dev, text, sizeof(text));
    assert_string_equal(text, "reference");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_contiguous_in_row_major_order),
        cmocka_unit_test(transpose_exchanges_rows_and_columns_in_place),
        cmocka_unit_test(rows_and_columns_are_views_of_the_same_memory),
        cmocka_unit_test(a_range_of_a_tensor_that_is_not_there_is_not_there),
        cmocka_unit_test(sync_reports_the_first_error_until_the_device_is_made_anew),
        cmocka_unit_test(attention_without_its_workspace_is_an_error),
        cmocka_unit_test(describe_gives_the_name_of_a_device_that_has_no_more_to_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
