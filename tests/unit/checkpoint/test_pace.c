/* As often as copies cost under 1 % of the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint/parallel/pace.h"

#define MS 1000000

/* After enough of equal steps and copies. */
static struct trm_pace measured(int64_t interval, int64_t step_ns, int64_t copy_ns,
                                int64_t exchange_ns)
{
    struct trm_pace pace;
    trm_pace_init(&pace, interval);
    trm_pace_exchange(&pace, exchange_ns);
    trm_pace_copy(&pace, copy_ns);
    trm_pace_step(&pace, 50 * step_ns); /* the first warms up */
    for (int i = 0; i < 3; i++)
        trm_pace_step(&pace, step_ns);
    return pace;
}

static bool agree(struct trm_pace *pace)
{
    int64_t words[TRM_PACE_WORDS];
    trm_pace_report(pace, words);
    return trm_pace_agree(pace, words);
}

static void the_interval_keeps_the_cost_under_one_percent(void **state)
{
    (void)state;
    static const struct {
        int64_t step_ns, copy_ns, exchange_ns, interval;
    } cases[] = {
        {100 * MS, MS / 2, MS / 4, 1},    {100 * MS, MS, 0, 1},
        {100 * MS, MS, MS / 100, 2},      {100 * MS, 3 * MS, 4 * MS, 7},
        {MS, 100 * MS, 900 * MS, 1000},   {1000 * MS, 15 * MS, 10 * MS, 3},
        {INT64_C(1000000) * MS, 1, 0, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trm_pace pace =
            measured(TRM_PACE_AUTO, cases[i].step_ns, cases[i].copy_ns, cases[i].exchange_ns);
        assert_int_equal(pace.interval, 1);
        assert_true(agree(&pace));
        assert_int_equal(pace.interval, cases[i].interval);
        if (pace.interval < TRM_PACE_INTERVAL_MAX)
            assert_true(trm_pace_cost_share(&pace) <= TRM_PACE_SHARE);
    }
}

static void nothing_is_chosen_before_steps_were_measured_on_all_ranks(void **state)
{
    (void)state;
    struct trm_pace pace, other = measured(TRM_PACE_AUTO, 100 * MS, 5 * MS, 0);
    int64_t words[TRM_PACE_WORDS], theirs[TRM_PACE_WORDS];
    trm_pace_init(&pace, TRM_PACE_AUTO);
    trm_pace_report(&pace, words);
    trm_pace_report(&other, theirs);
    for (int i = 0; i < TRM_PACE_WORDS; i++)
        words[i] = words[i] > theirs[i] ? words[i] : theirs[i];
    assert_false(trm_pace_agree(&other, words));
    assert_int_equal(other.interval, 1);
    assert_true(trm_pace_cost_share(&other) == 0);
}

static void the_dearest_copy_and_the_shortest_step_count(void **state)
{
    (void)state;
    struct trm_pace a = measured(TRM_PACE_AUTO, 100 * MS, 1 * MS, 0),
                    b = measured(TRM_PACE_AUTO, 50 * MS, MS / 2, MS * 3 / 2);
    int64_t words[TRM_PACE_WORDS], theirs[TRM_PACE_WORDS];
    trm_pace_report(&a, words);
    trm_pace_report(&b, theirs);
    for (int i = 0; i < TRM_PACE_WORDS; i++)
        words[i] = words[i] > theirs[i] ? words[i] : theirs[i];
    trm_pace_agree(&a, words);
    trm_pace_agree(&b, words);
    assert_int_equal(a.interval, 4);
    assert_int_equal(b.interval, 4);
}

static void a_given_interval_stays(void **state)
{
    (void)state;
    struct trm_pace pace = measured(5, MS, 100 * MS, 100 * MS);
    assert_false(agree(&pace));
    assert_int_equal(pace.interval, 5);
    assert_true(trm_pace_cost_share(&pace) > 1);
}

static void small_changes_are_followed_and_large_ones_told(void **state)
{
    (void)state;
    struct trm_pace pace = measured(TRM_PACE_AUTO, 100 * MS, 8 * MS, 0);
    assert_true(agree(&pace));
    assert_int_equal(pace.interval, 8);
    for (int i = 0; i < 40; i++)
        trm_pace_copy(&pace, 10 * MS);
    assert_false(agree(&pace));
    assert_int_equal(pace.interval, 10);
    for (int i = 0; i < 60; i++)
        trm_pace_copy(&pace, 20 * MS);
    assert_true(agree(&pace));
    assert_int_equal(pace.interval, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_keeps_the_cost_under_one_percent),
        cmocka_unit_test(nothing_is_chosen_before_steps_were_measured_on_all_ranks),
        cmocka_unit_test(the_dearest_copy_and_the_shortest_step_count),
        cmocka_unit_test(a_given_interval_stays),
        cmocka_unit_test(small_changes_are_followed_and_large_ones_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
