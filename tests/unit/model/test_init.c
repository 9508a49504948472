/* Initial weights depend on name and global place alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "trainer/model/init.h"

static const struct trm_tensor_spec specs[] = {
    {.name = "token",
     .dims = 2,
     .rows = 61,
     .columns = 24,
     .padded_rows = 64,
     .split = TRM_SPLIT_ROWS,
     .init = TRM_INIT_NORMAL,
     .init_std = 0.02},
    {.name = "down",
     .dims = 2,
     .rows = 24,
     .columns = 96,
     .padded_rows = 24,
     .split = TRM_SPLIT_COLUMNS,
     .init = TRM_INIT_NORMAL,
     .init_std = 0.02,
     .bucket_group = 1},
};

static void slices_hold_the_values_of_the_whole(void **state)
{
    float whole[2][64 * 24 * 2], slice[64 * 24 * 2];
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = 1};
    struct trm_layout *layout;
    (void)state;
    assert_int_equal(trm_layout_create(specs, 2, &shape, &layout, NULL), TRM_OK);
    for (int t = 0; t < 2; t++)
        trm_init_fill(layout, t, 0, layout->tensors[t].elements, 5, whole[t]);
    trm_layout_destroy(layout);
    shape.tensor_size = 4;
    for (shape.tensor_rank = 0; shape.tensor_rank < 4; shape.tensor_rank++) {
        assert_int_equal(trm_layout_create(specs, 2, &shape, &layout, NULL), TRM_OK);
        for (int t = 0; t < 2; t++) {
            const struct trm_layout_tensor *l = &layout->tensors[t];
            trm_init_fill(layout, t, 3, l->elements, 5, slice);
            for (int64_t e = 3; e < l->elements; e++) {
                int64_t row = l->first_row + e / l->columns;
                int64_t column = l->first_column + e % l->columns;
                float expected =
                    row < specs[t].rows ? whole[t][row * specs[t].columns + column] : 0;
                assert_true(slice[e - 3] == expected);
            }
        }
        trm_layout_destroy(layout);
    }
}

static void weights_are_normal_and_differ_by_seed_and_name(void **state)
{
    float a[61 * 24], b[61 * 24], c[24 * 96];
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = 1};
    struct trm_layout *layout;
    double sum = 0, squares = 0;
    (void)state;
    assert_int_equal(trm_layout_create(specs, 2, &shape, &layout, NULL), TRM_OK);
    trm_init_fill(layout, 0, 0, 61 * 24, 1, a);
    trm_init_fill(layout, 0, 0, 61 * 24, 2, b);
    trm_init_fill(layout, 1, 0, 24 * 96, 1, c);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (int i = 0; i < 61 * 24; i++) {
        sum += a[i];
        squares += (double)a[i] * a[i];
    }
    assert_true(fabs(sum / (61 * 24)) < 0.002);
    assert_true(fabs(sqrt(squares / (61 * 24)) - 0.02) < 0.001);
    trm_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_hold_the_values_of_the_whole),
        cmocka_unit_test(weights_are_normal_and_differ_by_seed_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
