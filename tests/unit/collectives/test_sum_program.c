/* Sums as programs, run by the body of the device's kernel, against the host's ordered sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "collectives/nccl/key_kernel.h"
#include "collectives/nccl/sum_kernel.h"
#include "collectives/ordered.h"
#include "collectives/stages.h"

#define COUNT 37       /* elements: whole vectors and a rest */
#define ROOM  (40 * 8) /* bytes of an operand, aligned as vectors are */

struct operands {
    int count;
    enum trm_type type;
    char *memory;
    void **data;
};

static void *place(const struct operands *o, int i)
{
    return o->memory + (size_t)i * ROOM;
}

static struct operands make(int count, enum trm_type type)
{
    struct operands o = {.count = count, .type = type};
    o.memory = aligned_alloc(64, (size_t)count * ROOM);
    o.data = malloc((size_t)count * sizeof *o.data);
    for (int i = 0; i < count; i++) {
        o.data[i] = place(&o, i);
        for (int j = 0; j < COUNT; j++) {
            double value = trm_random_normal((uint64_t)i, (uint64_t)j) * (double)(1 << i % 12);
            if (type == TRM_F32)
                ((float *)o.data[i])[j] = (float)value;
            else if (type == TRM_F64)
                ((double *)o.data[i])[j] = value;
            else
                ((uint16_t *)o.data[i])[j] = trm_sum_round_bf16((float)value);
        }
    }
    return o;
}

static void drop(struct operands *o)
{
    free(o->memory);
    free(o->data);
}

static void run_threads(const struct trm_sum_program *p, enum trm_type type, size_t vectors)
{
    size_t lanes = type == TRM_F64 ? TRM_SUM_LANES_F64 : TRM_SUM_LANES_F32;
    for (size_t i = 0; i < vectors + COUNT - vectors * lanes; i++) {
        if (type == TRM_F32)
            trm_sum_f32(p, vectors, i);
        else if (type == TRM_F64)
            trm_sum_f64(p, vectors, i);
        else
            trm_sum_bf16(p, vectors, i);
    }
}

/* How many programs it took; *loads counts what was read. */
static int run(struct trm_sum *sum, enum trm_type type, bool in_vectors, int *loads)
{
    struct trm_sum_program program;
    int programs = 0;
    *loads = 0;
    while (!sum->done) {
        trm_sum_translate(sum, &program);
        for (int i = 0; i < program.step_count; i++)
            *loads += program.steps[i] < TRM_SUM_DEPTH;
        run_threads(&program, type, in_vectors ? COUNT / 4 : 0);
        assert_true(++programs < 1000);
    }
    return programs;
}

/* The host's sum of the same operands, and what is left by it must equal the device's. */
static void assert_same(const struct operands *o, const struct trm_lane_add *adds, int add_count,
                        const void *into)
{
    struct operands expected = make(o->count, o->type);
    bool *gone = calloc((size_t)o->count, sizeof *gone);
    trm_ordered_sum(expected.data, adds, add_count, COUNT, o->type);
    for (int i = 0; i < add_count; i++)
        gone[adds[i].source] = true;
    for (int i = 0; i < o->count; i++) {
        const void *sum = i == 0 && into ? into : o->data[i];
        if (!gone[i])
            assert_memory_equal(sum, expected.data[i], COUNT * trm_type_bytes(o->type));
    }
    free(gone);
    drop(&expected);
}

static void the_tree_reads_each_operand_once_and_writes_the_sum(void **state)
{
    (void)state;
    for (int t = TRM_F32; t <= TRM_F64; t++) {
        for (int n = 1; n <= 128; n++) {
            struct trm_lanes *lanes = NULL;
            struct operands o = make(n, (enum trm_type)t);
            double into[COUNT];
            int loads;
            assert_int_equal(trm_lanes_create(n, n, &lanes, NULL), TRM_OK);
            struct trm_sum sum = {
                .operands = o.data, .adds = lanes->adds, .add_count = n - 1, .into = into};
            assert_int_equal(run(&sum, o.type, n % 2 == 0, &loads), 1);
            assert_int_equal(loads, n);
            assert_false(sum.spilled);
            assert_same(&o, lanes->adds, n - 1, into);
            trm_lanes_destroy(lanes);
            drop(&o);
        }
    }
}

static void sums_longer_than_a_program_go_on_in_the_next(void **state)
{
    (void)state;
    enum { RANKS = 1500 };
    struct trm_lanes *lanes = NULL;
    struct operands o = make(RANKS, TRM_F32);
    int loads;
    assert_int_equal(trm_lanes_create(RANKS, RANKS, &lanes, NULL), TRM_OK);
    struct trm_sum sum = {.operands = o.data, .adds = lanes->adds, .add_count = RANKS - 1};
    assert_true(run(&sum, TRM_F32, true, &loads) > 1);
    assert_true(sum.spilled);
    assert_in_range(loads, RANKS, RANKS + 100);
    assert_same(&o, lanes->adds, RANKS - 1, NULL);
    trm_lanes_destroy(lanes);
    drop(&o);
}

/* What a group has left lies in several operands, and between groups only those are added. */
static void both_stages_leave_the_sums_of_the_host(void **state)
{
    (void)state;
    static const int cases[][3] = {{12, 12, 4}, {37, 8, 2}, {64, 6, 3}, {1024, 127, 1}, {9, 6, 2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct trm_lanes *lanes = NULL;
        struct trm_stages *stages = NULL;
        int loads;
        assert_int_equal(trm_lanes_create(cases[c][0], cases[c][1], &lanes, NULL), TRM_OK);
        assert_int_equal(trm_stages_create(lanes, cases[c][2], 0, &stages, NULL), TRM_OK);
        struct operands o = make(lanes->node_count, TRM_F32);
        struct trm_sum within = {
            .operands = o.data, .adds = stages->within, .add_count = stages->within_count};
        run(&within, TRM_F32, true, &loads);
        assert_same(&o, stages->within, stages->within_count, NULL);
        drop(&o);
        o = make(lanes->node_count, TRM_F32);
        float into[COUNT];
        struct trm_sum between = {.operands = o.data,
                                  .adds = stages->between,
                                  .add_count = stages->between_count,
                                  .into = into};
        run(&between, TRM_F32, true, &loads);
        assert_same(&o, stages->between, stages->between_count, into);
        drop(&o);
        trm_stages_destroy(stages);
        trm_lanes_destroy(lanes);
    }
}

/* Forests and chains in no order that a stack likes: sums are stored and loaded again. */
static void any_order_of_additions_gives_the_bits_of_the_host(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < 200; trial++) {
        int n = 2 + (int)(trm_random_bits(trial, 0) % 60), count = 0, loads;
        int *alive = malloc((size_t)n * sizeof *alive);
        struct trm_lane_add *adds = malloc((size_t)n * sizeof *adds);
        for (int i = 0; i < n; i++)
            alive[i] = i;
        for (int left = n; left > 1 + (int)(trial % 5) % n; left--, count++) {
            int source = 1 + (int)(trm_random_bits(trial, (uint64_t)left) % (uint64_t)(left - 1));
            int target = (int)(trm_random_bits(trial + 999, (uint64_t)left) % (uint64_t)source);
            adds[count] = (struct trm_lane_add){.target = alive[target], .source = alive[source]};
            alive[source] = alive[left - 1];
        }
        struct operands o = make(n, TRM_F64);
        double into[COUNT];
        struct trm_sum sum = {.operands = o.data, .adds = adds, .add_count = count, .into = into};
        run(&sum, TRM_F64, false, &loads);
        assert_same(&o, adds, count, into);
        drop(&o);
        free(adds);
        free(alive);
    }
}

static void without_additions_the_operand_is_copied(void **state)
{
    (void)state;
    struct operands o = make(1, TRM_F32);
    float into[COUNT] = {0};
    int loads;
    struct trm_sum sum = {.operands = o.data, .into = into};
    run(&sum, TRM_F32, true, &loads);
    assert_memory_equal(into, o.data[0], sizeof into);
    drop(&o);
}

static float tree_of_floats(const struct operands *o, int first, int count, int element)
{
    if (count == 1)
        return trm_sum_widen_bf16(((uint16_t *)o->data[first])[element]);
    int left = trm_lanes_left(count);
    return tree_of_floats(o, first, left, element) +
           tree_of_floats(o, first + left, count - left, element);
}

static void bfloat16_is_rounded_once(void **state)
{
    (void)state;
    for (int n = 2; n <= 8; n++) {
        struct trm_lanes *lanes = NULL;
        struct operands o = make(n, TRM_BF16);
        uint16_t into[COUNT];
        int loads;
        assert_int_equal(trm_lanes_create(n, n, &lanes, NULL), TRM_OK);
        struct trm_sum sum = {
            .operands = o.data, .adds = lanes->adds, .add_count = n - 1, .into = into};
        run(&sum, TRM_BF16, true, &loads);
        assert_false(sum.spilled);
        for (int j = 0; j < COUNT; j++)
            assert_int_equal(into[j], trm_sum_round_bf16(tree_of_floats(&o, 0, n, j)));
        trm_lanes_destroy(lanes);
        drop(&o);
    }
}

static void bfloat16_rounds_to_nearest_and_ties_to_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t bits;
        uint16_t rounded;
    } cases[] = {{0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80},
                 {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82},
                 {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
                 {0x7f800001, 0x7fc0}, {0xffffffff, 0x7fc0}, {0x00000001, 0x0000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float value;
        memcpy(&value, &cases[i].bits, sizeof value);
        assert_int_equal(trm_sum_round_bf16(value), cases[i].rounded);
    }
}

/* Each key lies above those before it, and becomes the float again. */
static void keys_order_as_floats_do(void **state)
{
    (void)state;
    const uint32_t rising[] = {0xff800000, 0xff7fffff, 0xbf800000, 0x80000001, 0x80000000,
                               0x00000000, 0x00000001, 0x3f800000, 0x7f7fffff, 0x7f800000};
    const uint64_t nan[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff};
    int32_t last = INT32_MIN;
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        int32_t key = (int32_t)rising[i];
        trm_key_encode_f32(&key, 0);
        assert_true(key > last);
        last = key;
        trm_key_decode_f32(&key, 0);
        assert_int_equal((uint32_t)key, rising[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        int32_t key = (int32_t)(uint32_t)nan[i];
        trm_key_encode_f32(&key, 0);
        assert_true(key > last);
        trm_key_decode_f32(&key, 0);
        assert_int_equal(key, 0x7fc00000);
    }
    const double doubles[] = {-1e300, -2.5, -0.0, 0.0, 1e-310, 2.5, 1e300};
    int64_t last_long = INT64_MIN;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        int64_t key, bits;
        memcpy(&bits, &doubles[i], sizeof bits);
        key = bits;
        trm_key_encode_f64(&key, 0);
        assert_true(key > last_long);
        last_long = key;
        trm_key_decode_f64(&key, 0);
        assert_true(key == bits);
    }
    int64_t key = INT64_C(0x7ff0000000000001);
    trm_key_encode_f64(&key, 0);
    assert_true(key == INT64_MAX);
    trm_key_decode_f64(&key, 0);
    assert_true(key == INT64_C(0x7ff8000000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_reads_each_operand_once_and_writes_the_sum),
        cmocka_unit_test(sums_longer_than_a_program_go_on_in_the_next),
        cmocka_unit_test(both_stages_leave_the_sums_of_the_host),
        cmocka_unit_test(any_order_of_additions_gives_the_bits_of_the_host),
        cmocka_unit_test(without_additions_the_operand_is_copied),
        cmocka_unit_test(bfloat16_is_rounded_once),
        cmocka_unit_test(bfloat16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(keys_order_as_floats_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
