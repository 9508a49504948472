/* The plan of lanes, by enumeration: who owns what, the schedule of each rank, and the bracketing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/random.h"
#include "collectives/lanes.h"

#define ENUMERATED_LANES 64
#define FEWEST_LANES     22 /* enumerating all cuts beyond takes too long */

/* A sum written down: the number depends on the whole bracketing, on left and right too. */
static uint64_t bracket(uint64_t left, uint64_t right)
{
    return (left * 0x9E3779B97F4A7C15u ^ (right + 0x7F4A7C159E3779B9u) * 0xC2B2AE3D27D4EB4Fu) +
           (left >> 29);
}

static uint64_t leaf(int lane)
{
    return trm_random_bits(1, (uint64_t)lane);
}

/* The definition of the tree. */
static uint64_t bracket_of_tree(int first, int count)
{
    if (count == 1)
        return leaf(first);
    int left = 1;
    while (2 * left < count)
        left *= 2;
    return bracket(bracket_of_tree(first, left), bracket_of_tree(first + left, count - left));
}

static float float_of_tree(const float *values, int count)
{
    if (count == 1)
        return values[0];
    int left = trm_lanes_left(count);
    float left_sum = float_of_tree(values, left);
    return left_sum + float_of_tree(values + left, count - left);
}

static bool is_tree_node(int lanes, int first, int count)
{
    int begin = 0, size = lanes;
    while (size > 1 && !(begin == first && size == count)) {
        int left = trm_lanes_left(size);
        if (first < begin + left) {
            size = left;
        } else {
            begin += left;
            size -= left;
        }
    }
    return begin == first && size == count;
}

/* Follows a rank's schedule, on brackets and on floats, into the operands of its nodes. */
static void follow_schedule(const struct trm_lanes *lanes, int rank, const float *values,
                            uint64_t *brackets, float *sums)
{
    enum { BUFFERS = 64 };
    uint64_t bracket_buffer[BUFFERS];
    float sum_buffer[BUFFERS];
    static struct trm_lane_step steps[TRM_LANES_MAX];
    const int count = trm_lanes_schedule(lanes, rank, steps, TRM_LANES_MAX);
    const int begin = lanes->rank_node_begin[rank], end = lanes->rank_node_begin[rank + 1];
    const int buffer_count = trm_lanes_buffer_count(lanes, rank);
    int open = 0, most_open = 0, last_lane = -1;
    assert_true(buffer_count <= BUFFERS);
    for (int i = 0; i < count; i++) {
        assert_true(steps[i].lane > last_lane);
        last_lane = steps[i].lane;
        assert_int_equal(steps[i].buffer, open);
        assert_true(open < buffer_count);
        bracket_buffer[open] = leaf(steps[i].lane);
        sum_buffer[open] = values[steps[i].lane];
        open++;
        most_open = open > most_open ? open : most_open;
        for (int m = 0; m < steps[i].merge_count; m++, open--) {
            assert_true(open >= 2);
            bracket_buffer[open - 2] = bracket(bracket_buffer[open - 2], bracket_buffer[open - 1]);
            sum_buffer[open - 2] += sum_buffer[open - 1];
        }
    }
    assert_int_equal(open, end - begin);
    assert_int_equal(most_open, buffer_count);
    for (int n = begin; n < end; n++) {
        brackets[lanes->rank_nodes[n]] = bracket_buffer[n - begin];
        sums[lanes->rank_nodes[n]] = sum_buffer[n - begin];
    }
}

/* Simulates all ranks; returns the float sum after checking the bracketing of everything. */
static float simulate(const struct trm_lanes *lanes, const float *values)
{
    uint64_t *brackets = calloc((size_t)lanes->node_count, sizeof *brackets);
    float *sums = calloc((size_t)lanes->node_count, sizeof *sums);
    for (int rank = 0; rank < lanes->rank_count; rank++)
        follow_schedule(lanes, rank, values, brackets, sums);
    for (int n = 0; n < lanes->node_count; n++)
        assert_true(brackets[n] == bracket_of_tree(lanes->nodes[n].first, lanes->nodes[n].count));
    for (int i = 0; i < lanes->node_count - 1; i++) {
        struct trm_lane_add add = lanes->adds[i];
        brackets[add.target] = bracket(brackets[add.target], brackets[add.source]);
        sums[add.target] += sums[add.source];
    }
    assert_true(brackets[0] == bracket_of_tree(0, lanes->lane_count));
    float sum = sums[0];
    free(brackets);
    free(sums);
    return sum;
}

/* Magnitudes from 2^-20 to 2^20 of both signs: almost every bracketing rounds differently. */
static void fill_adversarial(float *values, int count, uint64_t key)
{
    for (int i = 0; i < count; i++) {
        uint64_t bits = trm_random_bits(key, (uint64_t)i);
        float scale = (float)(1u << (bits % 21)) / (float)(1u << (bits / 32 % 21));
        values[i] = (float)(int32_t)(bits >> 32) * 0x1p-31f * scale;
    }
}

static void check_plan(const struct trm_lanes *lanes)
{
    int next = 0;
    int *loads = calloc((size_t)lanes->rank_count, sizeof *loads);
    int *seen = calloc((size_t)lanes->node_count, sizeof *seen);
    for (int n = 0; n < lanes->node_count; n++) {
        struct trm_lane_node node = lanes->nodes[n];
        assert_int_equal(node.first, next); /* sorted, no gap, no overlap: each lane once */
        assert_true(is_tree_node(lanes->lane_count, node.first, node.count));
        assert_in_range(node.rank, 0, lanes->rank_count - 1);
        loads[node.rank] += node.count;
        next += node.count;
    }
    assert_int_equal(next, lanes->lane_count);
    int most = 0;
    for (int rank = 0; rank < lanes->rank_count; rank++) {
        most = loads[rank] > most ? loads[rank] : most;
        for (int i = lanes->rank_node_begin[rank]; i < lanes->rank_node_begin[rank + 1]; i++) {
            int node = lanes->rank_nodes[i];
            assert_int_equal(lanes->nodes[node].rank, rank);
            assert_true(i == lanes->rank_node_begin[rank] || lanes->rank_nodes[i - 1] < node);
            seen[node]++;
        }
        assert_int_equal(trm_lanes_schedule(lanes, rank, NULL, 0), loads[rank]);
    }
    assert_int_equal(lanes->rank_node_begin[lanes->rank_count], lanes->node_count);
    for (int n = 0; n < lanes->node_count; n++)
        assert_int_equal(seen[n], 1);
    assert_int_equal(most, (lanes->lane_count + lanes->rank_count - 1) / lanes->rank_count);
    assert_int_equal(lanes->max_lanes_per_rank, most);
    free(loads);
    free(seen);
}

static void every_small_plan_sums_every_lane_once_along_the_tree(void **state)
{
    (void)state;
    float values[ENUMERATED_LANES];
    for (int lane_count = 1; lane_count <= ENUMERATED_LANES; lane_count++) {
        fill_adversarial(values, lane_count, (uint64_t)lane_count);
        const float expected = float_of_tree(values, lane_count);
        for (int ranks = 1; ranks <= lane_count; ranks++) {
            struct trm_lanes *lanes = NULL;
            assert_int_equal(trm_lanes_create(lane_count, ranks, &lanes, NULL), TRM_OK);
            check_plan(lanes);
            float sum = simulate(lanes, values);
            assert_memory_equal(&sum, &expected, sizeof sum);
            trm_lanes_destroy(lanes);
        }
    }
}

static void any_number_of_ranks_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint64_t trial = 0; trial < 60; trial++) {
        int lane_count = 1 + (int)(trm_random_bits(7, trial) % 3000);
        float *values = calloc((size_t)lane_count, sizeof *values);
        fill_adversarial(values, lane_count, trial);
        const float expected = float_of_tree(values, lane_count);
        for (uint64_t i = 0; i < 8; i++) {
            int ranks = 1 + (int)(trm_random_bits(8, 8 * trial + i) % (uint64_t)lane_count);
            struct trm_lanes *lanes = NULL;
            assert_int_equal(trm_lanes_create(lane_count, ranks, &lanes, NULL), TRM_OK);
            check_plan(lanes);
            float sum = simulate(lanes, values);
            assert_memory_equal(&sum, &expected, sizeof sum);
            trm_lanes_destroy(lanes);
        }
        free(values);
    }
}

/* Without this, the two tests above could pass on values that no bracketing changes. */
static void a_wrong_bracketing_gives_other_bits(void **state)
{
    (void)state;
    int different = 0, trials = 100;
    for (int trial = 0; trial < trials; trial++) {
        float values[16], chain = 0.0f;
        fill_adversarial(values, 16, (uint64_t)trial + 1000);
        for (int i = 0; i < 16; i++)
            chain += values[i];
        float tree = float_of_tree(values, 16);
        different += memcmp(&chain, &tree, sizeof tree) != 0;
    }
    assert_true(different > trials / 2);
    assert_true(bracket(bracket(1, 2), 3) != bracket(1, bracket(2, 3)));
}

/* Can `sizes` be packed into bins of `room`? Descending sizes; bins of equal room are alike. */
static bool packs(const int *sizes, int count, int *room, int bins)
{
    if (count == 0)
        return true;
    for (int b = 0; b < bins; b++) {
        bool tried = false;
        for (int earlier = 0; earlier < b; earlier++)
            tried |= room[earlier] == room[b];
        if (tried || room[b] < sizes[0])
            continue;
        room[b] -= sizes[0];
        bool fits = packs(sizes + 1, count - 1, room, bins);
        room[b] += sizes[0];
        if (fits)
            return true;
    }
    return false;
}

static int descending(const void *a, const void *b)
{
    return *(const int *)b - *(const int *)a;
}

/* Whether some cut of the tree into fewer than `limit` nodes fits. `open` holds the nodes not yet
 * decided on: each is taken whole or split into its children. */
static bool smaller_cut_exists(int *open, int open_count, const int *taken, int taken_count,
                               int limit, int most, int ranks)
{
    if (taken_count + open_count >= limit)
        return false;
    if (open_count == 0) {
        int sizes[FEWEST_LANES], room[FEWEST_LANES];
        memcpy(sizes, taken, (size_t)taken_count * sizeof *sizes);
        qsort(sizes, (size_t)taken_count, sizeof *sizes, descending);
        for (int r = 0; r < ranks; r++)
            room[r] = most;
        return packs(sizes, taken_count, room, ranks);
    }
    int rest[FEWEST_LANES + 1], more[FEWEST_LANES + 1], count = open[open_count - 1];
    memcpy(rest, open, (size_t)open_count * sizeof *rest);
    memcpy(more, taken, (size_t)taken_count * sizeof *more);
    more[taken_count] = count;
    if (count <= most &&
        smaller_cut_exists(rest, open_count - 1, more, taken_count + 1, limit, most, ranks))
        return true;
    if (count == 1)
        return false;
    rest[open_count - 1] = trm_lanes_left(count);
    rest[open_count] = count - trm_lanes_left(count);
    return smaller_cut_exists(rest, open_count + 1, taken, taken_count, limit, most, ranks);
}

static void no_cut_with_fewer_partial_sums_fits(void **state)
{
    (void)state;
    for (int lane_count = 1; lane_count <= FEWEST_LANES; lane_count++) {
        for (int ranks = 1; ranks <= lane_count; ranks++) {
            struct trm_lanes *lanes = NULL;
            assert_int_equal(trm_lanes_create(lane_count, ranks, &lanes, NULL), TRM_OK);
            int whole[1] = {lane_count}, none[1] = {0};
            assert_false(smaller_cut_exists(whole, 1, none, 0, lanes->node_count,
                                            lanes->max_lanes_per_rank, ranks));
            /* and the search is no dud: one more node allowed, it finds the plan's */
            assert_true(smaller_cut_exists(whole, 1, none, 0, lanes->node_count + 1,
                                           lanes->max_lanes_per_rank, ranks));
            trm_lanes_destroy(lanes);
        }
    }
}

static void known_plans(void **state)
{
    static const struct {
        int lanes, ranks, most, nodes;
    } cases[] = {
        {1, 1, 1, 1},        {4, 3, 2, 2},          {6, 4, 2, 3},       {7, 2, 4, 2},
        {8, 3, 3, 5},        {8, 5, 2, 4},          {1024, 1, 1024, 1}, {1024, 127, 9, 135},
        {1024, 128, 8, 128}, {1024, 1024, 1, 1024}, {1000, 1, 1000, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_lanes *lanes = NULL;
        assert_int_equal(trm_lanes_create(cases[i].lanes, cases[i].ranks, &lanes, NULL), TRM_OK);
        assert_int_equal(lanes->max_lanes_per_rank, cases[i].most);
        assert_int_equal(lanes->node_count, cases[i].nodes);
        trm_lanes_destroy(lanes);
    }
}

/* Of this process: what others do beside it doesn't count. */
static int64_t processor_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void a_million_lanes_are_planned_in_a_moment(void **state)
{
    (void)state;
    struct trm_lanes *lanes = NULL;
    const int64_t start_ns = processor_ns();
    assert_int_equal(trm_lanes_create(TRM_LANES_MAX, 100000, &lanes, NULL), TRM_OK);
    const int64_t took_ns = processor_ns() - start_ns;
    assert_int_equal(lanes->max_lanes_per_rank, 11);
    assert_in_range(took_ns, 0, 1000000000);
    check_plan(lanes);
    trm_lanes_destroy(lanes);
}

static void impossible_numbers_are_refused_in_words(void **state)
{
    static const struct {
        int lanes, ranks;
        const char *text;
    } cases[] = {
        {4, 5,
         "5 data-parallel ranks cannot share 4 lanes, as a lane is never split: use between "
         "1 and 4 ranks"},
        {4, 0,
         "0 data-parallel ranks cannot share 4 lanes, as a lane is never split: use between "
         "1 and 4 ranks"},
        {0, 1, "0 lanes: use between 1 and 1048576"},
        {-3, 1, "-3 lanes: use between 1 and 1048576"},
        {TRM_LANES_MAX + 1, 1, "1048577 lanes: use between 1 and 1048576"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_lanes *lanes = NULL;
        struct trm_error err;
        assert_int_equal(trm_lanes_create(cases[i].lanes, cases[i].ranks, &lanes, &err),
                         TRM_ERR_CONFIG);
        assert_string_equal(err.text, cases[i].text);
        assert_null(lanes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_plan_sums_every_lane_once_along_the_tree),
        cmocka_unit_test(any_number_of_ranks_gives_the_same_bits),
        cmocka_unit_test(a_wrong_bracketing_gives_other_bits),
        cmocka_unit_test(no_cut_with_fewer_partial_sums_fits),
        cmocka_unit_test(known_plans),
        cmocka_unit_test(a_million_lanes_are_planned_in_a_moment),
        cmocka_unit_test(impossible_numbers_are_refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
