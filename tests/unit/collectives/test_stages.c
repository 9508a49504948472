/* The summing tree in two stages: every addition once, operands ready, and the same sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "collectives/stages.h"

#define MOST 64

/* What the whole tree gives, in floats that make bracketing visible. */
static float whole_sum(const struct trm_lanes *lanes, const float *values)
{
    float sum[MOST];
    memcpy(sum, values, sizeof sum);
    for (int i = 0; i + 1 < lanes->node_count; i++)
        sum[lanes->adds[i].target] += sum[lanes->adds[i].source];
    return sum[0];
}

static void check(int lane_count, int ranks, int group_size)
{
    struct trm_lanes *lanes = NULL;
    float values[MOST], sum[MOST];
    int total = 0;

    assert_int_equal(trm_lanes_create(lane_count, ranks, &lanes, NULL), TRM_OK);
    for (int i = 0; i < MOST; i++)
        values[i] = (float)(trm_random_normal(3, (uint64_t)i) * (i % 3 ? 1e-3 : 1e4));
    memcpy(sum, values, sizeof sum);
    for (int group = 0; group < ranks / group_size; group++) {
        struct trm_stages *s = NULL;
        assert_int_equal(trm_stages_create(lanes, group_size, group, &s, NULL), TRM_OK);
        for (int i = 0; i < s->within_count; i++) {
            assert_int_equal(lanes->nodes[s->within[i].target].rank / group_size, group);
            assert_int_equal(lanes->nodes[s->within[i].source].rank / group_size, group);
            sum[s->within[i].target] += sum[s->within[i].source];
        }
        total += s->within_count;
        if (group + 1 == ranks / group_size) {
            assert_int_equal(s->left_begin[s->group_count], lanes->node_count - total);
            for (int i = 0; i < s->between_count; i++)
                sum[s->between[i].target] += sum[s->between[i].source];
            assert_int_equal(total + s->between_count, lanes->node_count - 1);
        }
        trm_stages_destroy(s);
    }
    assert_true(sum[0] == whole_sum(lanes, values));
    trm_lanes_destroy(lanes);
}

static void two_stages_give_the_sum_of_the_tree(void **state)
{
    (void)state;
    for (int lanes = 1; lanes <= 32; lanes++)
        for (int ranks = 1; ranks <= lanes; ranks++)
            for (int group = 1; group <= ranks; group++)
                if (ranks % group == 0)
                    check(lanes, ranks, group);
}

static void a_power_of_two_leaves_one_sum_per_group(void **state)
{
    struct trm_lanes *lanes = NULL;
    struct trm_stages *s = NULL;
    (void)state;
    assert_int_equal(trm_lanes_create(32, 16, &lanes, NULL), TRM_OK);
    assert_int_equal(trm_stages_create(lanes, 4, 1, &s, NULL), TRM_OK);
    for (int g = 0; g < 4; g++)
        assert_int_equal(s->left_begin[g + 1] - s->left_begin[g], 1);
    assert_int_equal(s->within_count, 3);
    assert_int_equal(s->between_count, 3);
    trm_stages_destroy(s);
    trm_lanes_destroy(lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_stages_give_the_sum_of_the_tree),
        cmocka_unit_test(a_power_of_two_leaves_one_sum_per_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
