/* Ordered sums against plain loops, at sizes around the block and at several numbers of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "base/random.h"
#include "collectives/ordered.h"

#define OPERANDS 7

static const size_t counts[] = {0, 1, 15, 16, 17, 4095, 4096, 4097, 100003};
#define COUNTS (sizeof counts / sizeof *counts)

static void *make_operand(enum trm_type type, size_t count, uint64_t key)
{
    char *data = malloc(count * 8 + 1);
    for (size_t i = 0; i < count; i++) {
        double value = trm_random_normal(key, i);
        if (type == TRM_F32)
            ((float *)data)[i] = (float)value;
        else
            ((double *)data)[i] = value;
    }
    return data;
}

static void make_operands(enum trm_type type, size_t count, void *operands[OPERANDS])
{
    for (uint64_t i = 0; i < OPERANDS; i++)
        operands[i] = make_operand(type, count, i);
}

static void free_operands(void *operands[OPERANDS])
{
    for (int i = 0; i < OPERANDS; i++)
        free(operands[i]);
}

/* Element by element, each addition rounded to the type. */
static double tree_sum(enum trm_type type, void *const *operands, int count, size_t element)
{
    if (count == 1)
        return type == TRM_F32 ? (double)((float *)operands[0])[element]
                               : ((double *)operands[0])[element];
    int left = trm_lanes_left(count);
    double a = tree_sum(type, operands, left, element);
    double b = tree_sum(type, operands + left, count - left, element);
    return type == TRM_F32 ? (double)((float)a + (float)b) : a + b;
}

static bool equals_tree_sum(enum trm_type type, const void *sum, void *const *operands,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double value = type == TRM_F32 ? (double)((const float *)sum)[i] : ((const double *)sum)[i];
        if (value != tree_sum(type, operands, OPERANDS, i))
            return false;
    }
    return true;
}

static void ordered_sum_follows_the_tree_at_any_count_and_threads(void **state)
{
    (void)state;
    struct trm_lanes *lanes = NULL;
    const int before = omp_get_max_threads();
    assert_int_equal(trm_lanes_create(OPERANDS, OPERANDS, &lanes, NULL), TRM_OK);
    for (int type = TRM_F32; type <= TRM_F64; type++) {
        for (size_t c = 0; c < COUNTS; c++) {
            for (int threads = 1; threads <= 3; threads++) {
                void *operands[OPERANDS], *original[OPERANDS];
                omp_set_num_threads(threads);
                make_operands((enum trm_type)type, counts[c], operands);
                make_operands((enum trm_type)type, counts[c], original);
                trm_ordered_sum(operands, lanes->adds, OPERANDS - 1, counts[c],
                                (enum trm_type)type);
                assert_true(equals_tree_sum((enum trm_type)type, operands[0], original, counts[c]));
                free_operands(operands);
                free_operands(original);
            }
        }
    }
    omp_set_num_threads(before);
    trm_lanes_destroy(lanes);
}

static void another_order_of_adds_gives_other_bits(void **state)
{
    (void)state;
    struct trm_lane_add chain[OPERANDS - 1];
    void *operands[OPERANDS], *original[OPERANDS];
    for (int i = 0; i < OPERANDS - 1; i++)
        chain[i] = (struct trm_lane_add){.target = 0, .source = i + 1};
    make_operands(TRM_F32, 1000, operands);
    make_operands(TRM_F32, 1000, original);
    trm_ordered_sum(operands, chain, OPERANDS - 1, 1000, TRM_F32);
    assert_false(equals_tree_sum(TRM_F32, operands[0], original, 1000));
    free_operands(operands);
    free_operands(original);
}

static void ordered_add_touches_no_element_past_the_count(void **state)
{
    (void)state;
    float target[21], source[21];
    for (int i = 0; i < 21; i++) {
        target[i] = (float)i;
        source[i] = 100.0f;
    }
    trm_ordered_add(target, source, 20, TRM_F32);
    for (int i = 0; i < 20; i++)
        assert_true(target[i] == (float)i + 100.0f);
    assert_true(target[20] == 20.0f);
}

static void all_reduce_of_one_rank_needs_no_memory_and_changes_nothing(void **state)
{
    (void)state;
    struct trm_comm *comm = NULL;
    struct trm_ordered_all_reduce *reduce = NULL;
    float data[3] = {1.0f, 2.0f, 3.0f};
    assert_int_equal(trm_comm_self(&comm, NULL), TRM_OK);
    assert_int_equal(trm_ordered_all_reduce_bytes(comm, 1000, TRM_F32), 0);
    assert_int_equal(trm_ordered_all_reduce_create(comm, 1000, TRM_F32, NULL, &reduce, NULL),
                     TRM_OK);
    assert_int_equal(trm_ordered_all_reduce_run(reduce, data, 3, NULL), TRM_OK);
    assert_true(data[0] == 1.0f && data[1] == 2.0f && data[2] == 3.0f);
    trm_ordered_all_reduce_destroy(reduce);
    trm_ordered_all_reduce_destroy(NULL);
    trm_comm_destroy(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordered_sum_follows_the_tree_at_any_count_and_threads),
        cmocka_unit_test(another_order_of_adds_gives_other_bits),
        cmocka_unit_test(ordered_add_touches_no_element_past_the_count),
        cmocka_unit_test(all_reduce_of_one_rank_needs_no_memory_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
