/* All-reduce in fixed order: equal, bit for bit, to the sum along the tree that one rank computes.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "collectives/ordered.h"

#define MAX_COUNT 70001

static const size_t counts[] = {0, 1, 2, 15, 16, 17, 63, 65, 1000, 16384, 16385, 70001};
#define COUNTS (sizeof counts / sizeof *counts)

/* Every rank can compute every rank's operand. */
static double operand(int rank, size_t i)
{
    uint64_t bits = trm_random_bits((uint64_t)rank + 5, i);
    return ((double)(int64_t)bits) * 0x1p-63 * (double)(1u << (bits % 20));
}

static double tree_sum(enum trm_type type, int first, int count, size_t i)
{
    if (count == 1)
        return type == TRM_F32 ? (double)(float)operand(first, i) : operand(first, i);
    int left = trm_lanes_left(count);
    double a = tree_sum(type, first, left, i);
    double b = tree_sum(type, first + left, count - left, i);
    return type == TRM_F32 ? (double)((float)a + (float)b) : a + b;
}

static double chain_sum(enum trm_type type, int count, size_t i)
{
    double sum = type == TRM_F32 ? (double)(float)operand(count - 1, i) : operand(count - 1, i);
    for (int r = count - 2; r >= 0; r--)
        sum = type == TRM_F32 ? (double)((float)operand(r, i) + (float)sum) : operand(r, i) + sum;
    return sum;
}

static void set(enum trm_type type, void *data, size_t i, double value)
{
    if (type == TRM_F32)
        ((float *)data)[i] = (float)value;
    else
        ((double *)data)[i] = value;
}

static double get(enum trm_type type, const void *data, size_t i)
{
    return type == TRM_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

struct reduction {
    void *data, *staging;
    struct trm_ordered_all_reduce *reduce;
};

static bool begin(struct trm_comm *world, enum trm_type type, struct reduction *out)
{
    const size_t bytes = trm_ordered_all_reduce_bytes(world, MAX_COUNT, type);
    out->data = malloc((MAX_COUNT + 1) * sizeof(double));
    out->staging = aligned_alloc(64, (bytes + 64) / 64 * 64);
    return !trm_ordered_all_reduce_create(world, MAX_COUNT, type, out->staging, &out->reduce, NULL);
}

static void end(struct reduction *reduction)
{
    trm_ordered_all_reduce_destroy(reduction->reduce);
    free(reduction->data);
    free(reduction->staging);
}

static void all_reduce_equals_the_serial_tree_sum(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int t = TRM_F32; t <= TRM_F64; t++) {
        const enum trm_type type = (enum trm_type)t;
        struct reduction reduction;
        ok = begin(world, type, &reduction) && ok;
        for (size_t c = 0; c < COUNTS; c++) {
            for (size_t i = 0; i < counts[c]; i++)
                set(type, reduction.data, i, operand(world->rank, i));
            set(type, reduction.data, counts[c], 77.0);
            ok = !trm_ordered_all_reduce_run(reduction.reduce, reduction.data, counts[c], NULL) &&
                 ok;
            for (size_t i = 0; i < counts[c]; i++)
                ok = ok && get(type, reduction.data, i) == tree_sum(type, 0, world->size, i);
            ok = ok && get(type, reduction.data, counts[c]) == 77.0;
        }
        end(&reduction);
    }
    assert_on_all_ranks(world, ok);
}

/* Of blocks of any size; the others' blocks stay. */
static void a_reduce_scatter_gives_my_block_the_same_sum(void **state)
{
    struct trm_comm *world = *state;
    const size_t size = (size_t)world->size;
    bool ok = true;
    for (int t = TRM_F32; t <= TRM_F64; t++) {
        const enum trm_type type = (enum trm_type)t;
        struct reduction reduction;
        ok = begin(world, type, &reduction) && ok;
        for (size_t c = 0; c < COUNTS; c++) {
            const size_t count = counts[c] / size, mine = (size_t)world->rank * count;
            for (size_t i = 0; i < count * size; i++)
                set(type, reduction.data, i, operand(world->rank, i));
            ok = !trm_ordered_reduce_scatter_run(reduction.reduce, reduction.data, count, NULL) &&
                 ok;
            for (size_t i = 0; i < count * size; i++) {
                double left = type == TRM_F32 ? (double)(float)operand(world->rank, i)
                                              : operand(world->rank, i);
                double expected = i - mine < count ? tree_sum(type, 0, world->size, i) : left;
                ok = ok && get(type, reduction.data, i) == expected;
            }
        }
        end(&reduction);
    }
    assert_on_all_ranks(world, ok);
}

/* From three ranks on a chain from the right brackets differently: the test above can fail. */
static void another_bracketing_gives_other_bits(void **state)
{
    struct trm_comm *world = *state;
    int different = 0;
    for (size_t i = 0; i < 1000; i++)
        different += tree_sum(TRM_F32, 0, world->size, i) != chain_sum(TRM_F32, world->size, i);
    assert_on_all_ranks(world, world->size > 2 ? different > 100 : different == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_equals_the_serial_tree_sum),
        cmocka_unit_test(a_reduce_scatter_gives_my_block_the_same_sum),
        cmocka_unit_test(another_bracketing_gives_other_bits),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
