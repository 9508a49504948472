#include "collectives/stall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MS     INT64_C(1000000)
#define GAP_NS (5000 * MS)

static void init_ranks(struct trm_flight_view ranks[2])
{
    memset(ranks, 0, 2 * sizeof *ranks);
    for (int i = 0; i < 2; i++)
        ranks[i] = (struct trm_flight_view){
            .state = TRM_FLIGHT_RUNNING, .rank = i, .step = 3, .step_ms = 200};
}

static void time_runs_until_any_word_of_any_rank_changes(void **state)
{
    struct trm_flight_view ranks[2];
    struct trm_stall stall;
    int64_t now = 1000 * MS;
    (void)state;

    init_ranks(ranks);
    trm_stall_init(&stall, now);
    for (int change = 0; change < 8; change++) {
        trm_stall_observe(&stall, ranks, 2, now, GAP_NS);
        assert_int_equal(trm_stall_ms(&stall), 0);
        trm_stall_observe(&stall, ranks, 2, now += 300 * MS, GAP_NS);
        assert_int_equal(trm_stall_ms(&stall), 300);
        now += 300 * MS;
        switch (change) {
        case 0:
            ranks[1].phase = TRM_PHASE_BACKWARD;
            break;
        case 1:
            ranks[0].step++;
            break;
        case 2:
            ranks[1].lanes[TRM_FLIGHT_TENSOR].entered++;
            break;
        case 3:
            ranks[1].lanes[TRM_FLIGHT_TENSOR].waiting++;
            break;
        case 4:
            ranks[0].lanes[TRM_FLIGHT_WORLD].completed++;
            break;
        case 5:
            ranks[0].disk_step++;
            break;
        case 6:
            ranks[1].state = TRM_FLIGHT_EXITED;
            break;
        default:
            break;
        }
        if (change < 7)
            continue;
        /* Ages change, and are no progress. */
        ranks[0].phase_age_ms = 12;
        trm_stall_observe(&stall, ranks, 2, now, GAP_NS);
        assert_int_equal(trm_stall_ms(&stall), 600);
    }
}

static void agreements_on_a_save_are_no_progress(void **state)
{
    struct trm_flight_view ranks[2];
    struct trm_stall stall;
    (void)state;

    init_ranks(ranks);
    ranks[0].phase = ranks[1].phase = TRM_PHASE_SAVE;
    trm_stall_init(&stall, 0);
    trm_stall_observe(&stall, ranks, 2, 100 * MS, GAP_NS);
    ranks[0].lanes[TRM_FLIGHT_WORLD].entered++;
    ranks[1].lanes[TRM_FLIGHT_WORLD].waiting++;
    trm_stall_observe(&stall, ranks, 2, 300 * MS, GAP_NS);
    assert_int_equal(trm_stall_ms(&stall), 200);
    ranks[0].disk_step++;
    trm_stall_observe(&stall, ranks, 2, 400 * MS, GAP_NS);
    assert_int_equal(trm_stall_ms(&stall), 0);
}

static void an_observer_that_was_stopped_itself_starts_anew(void **state)
{
    struct trm_flight_view ranks[2];
    struct trm_stall stall;
    (void)state;

    init_ranks(ranks);
    trm_stall_init(&stall, 0);
    trm_stall_observe(&stall, ranks, 2, 100 * MS, GAP_NS);
    trm_stall_observe(&stall, ranks, 2, 100 * MS + GAP_NS, GAP_NS);
    assert_int_equal(trm_stall_ms(&stall), GAP_NS / MS);
    trm_stall_observe(&stall, ranks, 2, 101 * MS + 2 * GAP_NS, GAP_NS);
    assert_int_equal(trm_stall_ms(&stall), 0);
}

static void the_limit_follows_the_slowest_recent_step(void **state)
{
    const struct trm_stall_limits limits = {
        .factor = 10, .floor_ms = 1000, .ceiling_ms = 60000, .io_ms = 500000};
    struct trm_flight_view ranks[2];
    struct trm_stall stall;
    (void)state;

    init_ranks(ranks);
    ranks[0].step_ms = ranks[1].step_ms = 0;
    trm_stall_init(&stall, 0);
    trm_stall_observe(&stall, ranks, 2, MS, GAP_NS);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 60000);
    ranks[1].step_ms = 250;
    trm_stall_observe(&stall, ranks, 2, 2 * MS, GAP_NS);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 2500);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_STORAGE), 500000);
    /* One slow step is forgotten by and by, not at once, and not by looking often. */
    ranks[1].step_ms = 100;
    for (int i = 0; i < 10; i++)
        trm_stall_observe(&stall, ranks, 2, 3 * MS, GAP_NS);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 2500);
    ranks[1].step++;
    trm_stall_observe(&stall, ranks, 2, 4 * MS, GAP_NS);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 2250);
    for (int i = 0; i < 50; i++) {
        ranks[1].step++;
        trm_stall_observe(&stall, ranks, 2, 5 * MS, GAP_NS);
    }
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 1000);
    ranks[0].step_ms = 7000;
    trm_stall_observe(&stall, ranks, 2, 6 * MS, GAP_NS);
    assert_int_equal(trm_stall_limit_ms(&stall, &limits, TRM_VERDICT_LATE), 60000);
}

static void no_ceiling_and_no_io_limit_are_for_ever(void **state)
{
    const struct trm_stall_limits none = {.factor = 10, .floor_ms = 1000};
    struct trm_stall stall;
    (void)state;

    trm_stall_init(&stall, 0);
    assert_true(trm_stall_limit_ms(&stall, &none, TRM_VERDICT_LATE) == INT64_MAX);
    assert_true(trm_stall_limit_ms(&stall, &none, TRM_VERDICT_STORAGE) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_runs_until_any_word_of_any_rank_changes),
        cmocka_unit_test(agreements_on_a_save_are_no_progress),
        cmocka_unit_test(an_observer_that_was_stopped_itself_starts_anew),
        cmocka_unit_test(the_limit_follows_the_slowest_recent_step),
        cmocka_unit_test(no_ceiling_and_no_io_limit_are_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
