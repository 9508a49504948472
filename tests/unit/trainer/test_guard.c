/* What a step's numbers are worth, what is skipped, and who deviates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/guard.h"

static struct trm_config rule(double factor, int window)
{
    return (struct trm_config){.loss_spike_factor = factor,
                               .loss_spike_window = window,
                               .nonfinite_policy = TRM_GUARD_STOP,
                               .loss_spike_policy = TRM_GUARD_ROLLBACK};
}

static struct trm_ckpt_state after(const struct trm_config *config, const double *losses, int count)
{
    struct trm_ckpt_state state = {0};
    for (int i = 0; i < count; i++)
        trm_guard_note(config, &state, losses[i]);
    return state;
}

static void nan_and_infinity_are_bad_in_loss_and_norm(void **context)
{
    static const double odd[] = {NAN, INFINITY, -INFINITY};
    struct trm_config config = rule(0, 4);
    struct trm_ckpt_state state = {0};
    (void)context;
    assert_int_equal(trm_guard_judge(&config, &state, 2.5, 1.0), TRM_GUARD_SOUND);
    assert_int_equal(trm_guard_judge(&config, &state, 0, 0), TRM_GUARD_SOUND);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(trm_guard_judge(&config, &state, odd[i], 1.0), TRM_GUARD_NOT_FINITE);
        assert_int_equal(trm_guard_judge(&config, &state, 2.5, odd[i]), TRM_GUARD_NOT_FINITE);
    }
}

static void each_verdict_has_its_policy(void **context)
{
    struct trm_config config = rule(2, 4);
    (void)context;
    assert_int_equal(trm_guard_policy_of(&config, TRM_GUARD_NOT_FINITE), TRM_GUARD_STOP);
    assert_int_equal(trm_guard_policy_of(&config, TRM_GUARD_SPIKE), TRM_GUARD_ROLLBACK);
    /* A sound step that left a state which is not: that is about finite numbers too. */
    assert_int_equal(trm_guard_policy_of(&config, TRM_GUARD_SOUND), TRM_GUARD_STOP);
}

static void a_spike_is_above_the_factor_times_the_median(void **context)
{
    static const double odd[] = {4, 1, 3, 2, 9}, even[] = {4, 1, 3, 2};
    struct trm_config five = rule(1.5, 5), four = rule(1.5, 4);
    struct trm_ckpt_state state = after(&five, odd, 5);
    (void)context;
    assert_true(trm_guard_limit(&five, &state) == 1.5 * 3);
    assert_int_equal(trm_guard_judge(&five, &state, 4.5, 1), TRM_GUARD_SOUND);
    assert_int_equal(trm_guard_judge(&five, &state, nextafter(4.5, 5), 1), TRM_GUARD_SPIKE);
    state = after(&four, even, 4);
    assert_true(trm_guard_limit(&four, &state) == 1.5 * 2); /* the lower one in the middle */
}

static void nothing_is_a_spike_before_the_window_is_full(void **context)
{
    static const double losses[] = {1, 1, 1};
    struct trm_config config = rule(1.5, 4);
    struct trm_ckpt_state state = after(&config, losses, 3);
    (void)context;
    assert_true(isinf(trm_guard_limit(&config, &state)));
    assert_int_equal(trm_guard_judge(&config, &state, 1e30, 1), TRM_GUARD_SOUND);
    trm_guard_note(&config, &state, 1);
    assert_int_equal(trm_guard_judge(&config, &state, 1e30, 1), TRM_GUARD_SPIKE);
}

static void without_a_factor_no_loss_is_kept(void **context)
{
    static const double losses[] = {1, 1, 1, 1};
    struct trm_config on = rule(1.5, 4), off = rule(0, 4);
    struct trm_ckpt_state state = after(&on, losses, 4);
    (void)context;
    assert_true(isinf(trm_guard_limit(&off, &state)));
    trm_guard_note(&off, &state, 1);
    assert_int_equal(state.recent_loss_count, 0);
}

static void the_window_holds_the_newest_losses_in_order(void **context)
{
    struct trm_config wide = rule(2, TRM_CKPT_MAX_LOSSES), narrow = rule(2, 3);
    struct trm_ckpt_state state = {0};
    (void)context;
    for (int i = 1; i <= 1000; i++) {
        state.skips_in_row = 1;
        trm_guard_note(&wide, &state, i);
        assert_int_equal(state.skips_in_row, 0);
        assert_int_equal(state.recent_loss_count,
                         i < TRM_CKPT_MAX_LOSSES ? i : TRM_CKPT_MAX_LOSSES);
        for (int k = 0; k < state.recent_loss_count; k++)
            assert_true(state.recent_losses[k] == i - state.recent_loss_count + 1 + k);
    }
    /* A window that was made smaller looks at the newest; one that was made larger waits. */
    assert_true(trm_guard_limit(&narrow, &state) == 2 * 999);
    trm_guard_note(&narrow, &state, 1001);
    assert_int_equal(state.recent_loss_count, 3);
    assert_true(state.recent_losses[0] == 999 && state.recent_losses[2] == 1001);
    assert_true(isinf(trm_guard_limit(&wide, &state)));
}

/* Against the plain definition, on every kind of order. */
static void the_median_is_that_of_sorted_losses(void **context)
{
    uint64_t random = 1;
    (void)context;
    for (int window = 2; window <= 40; window++) {
        struct trm_config config = rule(2, window);
        struct trm_ckpt_state state = {0};
        for (int i = 0; i < window; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            trm_guard_note(&config, &state, (double)(random >> 60)); /* many are equal */
        }
        double median = trm_guard_limit(&config, &state) / 2;
        int below = 0, up_to = 0, rank = (window - 1) / 2;
        for (int i = 0; i < window; i++) {
            below += state.recent_losses[i] < median;
            up_to += state.recent_losses[i] <= median;
        }
        assert_true(below <= rank && rank < up_to);
    }
}

static const struct {
    int64_t first, end;
    const char *expected; /* the whole list afterwards */
} unions[] = {
    {40, 48, "[40,48)"},
    {60, 60, "[40,48)"},
    {96, 104, "[40,48)[96,104)"},
    {10, 12, "[10,12)[40,48)[96,104)"},
    {48, 56, "[10,12)[40,56)[96,104)"}, /* touches */
    {50, 52, "[10,12)[40,56)[96,104)"}, /* inside */
    {36, 41, "[10,12)[36,56)[96,104)"},
    {100, 110, "[10,12)[36,56)[96,110)"},
    {12, 36, "[10,56)[96,110)"},
    {0, 200, "[0,200)"},
};

static void skipped_ranges_stay_ascending_and_apart(void **context)
{
    struct trm_ckpt_state state = {0};
    char text[128];
    (void)context;
    for (unsigned i = 0; i < sizeof unions / sizeof *unions; i++) {
        size_t length = 0;
        assert_int_equal(trm_guard_skip(&state, unions[i].first, unions[i].end, NULL), TRM_OK);
        for (int k = 0; k < state.skip_count; k++)
            length += (size_t)snprintf(text + length, sizeof text - length, "[%lld,%lld)",
                                       (long long)state.skips[k].first,
                                       (long long)(state.skips[k].first + state.skips[k].count));
        assert_string_equal(text, unions[i].expected);
    }
    free(state.skips);
}

static void a_full_list_is_an_error_and_stays(void **context)
{
    struct trm_ckpt_state state = {0};
    struct trm_error err = {0};
    (void)context;
    state.skips = calloc(TRM_CKPT_MAX_SKIPS, sizeof *state.skips);
    for (int i = 0; i < TRM_CKPT_MAX_SKIPS; i++)
        state.skips[i] = (struct trm_ckpt_skip){10 * (int64_t)i, 1};
    state.skip_count = TRM_CKPT_MAX_SKIPS;
    assert_int_equal(trm_guard_skip(&state, 5, 6, &err), TRM_ERR_NUMERICS);
    assert_int_equal(state.skip_count, TRM_CKPT_MAX_SKIPS);
    assert_int_equal(trm_guard_skip(&state, 1, 10, &err), TRM_OK); /* joins two */
    assert_int_equal(state.skip_count, TRM_CKPT_MAX_SKIPS - 1);
    free(state.skips);
}

/* Number by number, as the reader does it. */
static int64_t walk_plainly(const struct trm_ckpt_state *state, int64_t position, int64_t count)
{
    while (count > 0) {
        bool skipped = false;
        for (int i = 0; i < state->skip_count; i++)
            skipped = skipped || (position >= state->skips[i].first &&
                                  position < state->skips[i].first + state->skips[i].count);
        count -= !skipped;
        position++;
    }
    return position;
}

static void a_walk_passes_over_what_is_skipped(void **context)
{
    struct trm_ckpt_skip skips[] = {{3, 2}, {8, 1}, {9, 4}, {20, 10}};
    struct trm_ckpt_state state = {.skips = skips, .skip_count = 4}, none = {0};
    (void)context;
    assert_int_equal(trm_guard_walk(&none, 5, 7), 12);
    for (int64_t position = 0; position < 35; position++)
        for (int64_t count = 0; count < 35; count++)
            assert_int_equal(trm_guard_walk(&state, position, count),
                             walk_plainly(&state, position, count));
}

static const struct {
    const char *values; /* a letter per rank */
    const char *deviates;
    int count;
} votes[] = {
    {"a", ".", 0},         {"aa", "..", 0},          {"ab", "..", -1},
    {"aab", "..x", 1},     {"baa", "x..", 1},        {"abc", "...", -1},
    {"aabb", "....", -1},  {"aaab", "...x", 1},      {"abaab", ".x..x", 2},
    {"abcaa", ".xx..", 2}, {"abcdaa", "......", -1}, {"bcaaaad", "xx....x", 3},
};

static void more_than_half_decide_who_deviates(void **context)
{
    (void)context;
    for (unsigned i = 0; i < sizeof votes / sizeof *votes; i++) {
        int count = (int)strlen(votes[i].values);
        uint64_t digests[8];
        bool deviates[8];
        for (int k = 0; k < count; k++)
            digests[k] = (uint64_t)votes[i].values[k] << 40;
        assert_int_equal(trm_guard_vote(digests, count, deviates), votes[i].count);
        for (int k = 0; k < count; k++)
            assert_int_equal(deviates[k], votes[i].deviates[k] == 'x');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nan_and_infinity_are_bad_in_loss_and_norm),
        cmocka_unit_test(each_verdict_has_its_policy),
        cmocka_unit_test(a_spike_is_above_the_factor_times_the_median),
        cmocka_unit_test(nothing_is_a_spike_before_the_window_is_full),
        cmocka_unit_test(without_a_factor_no_loss_is_kept),
        cmocka_unit_test(the_window_holds_the_newest_losses_in_order),
        cmocka_unit_test(the_median_is_that_of_sorted_losses),
        cmocka_unit_test(skipped_ranges_stay_ascending_and_apart),
        cmocka_unit_test(a_full_list_is_an_error_and_stays),
        cmocka_unit_test(a_walk_passes_over_what_is_skipped),
        cmocka_unit_test(more_than_half_decide_who_deviates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
