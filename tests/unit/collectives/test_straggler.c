#include "collectives/straggler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define RANKS 4
#define STEPS 3

struct fixture {
    struct trm_straggler_watch *watch;
    struct trm_flight_view ranks[RANKS];
    struct trm_straggler found[RANKS];
};

static int set_up(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof f);
    for (int i = 0; i < RANKS; i++)
        f.ranks[i] = (struct trm_flight_view){
            .state = TRM_FLIGHT_RUNNING, .rank = i, .step = -1, .compute_ms = 100 + i};
    *state = &f;
    return trm_straggler_create(RANKS, 1.5, STEPS, &f.watch, NULL);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    trm_straggler_destroy(f->watch);
    return 0;
}

/* One more step of all ranks; how many are told. */
static int take_step(struct fixture *f)
{
    for (int i = 0; i < RANKS; i++)
        f->ranks[i].step++;
    return trm_straggler_observe(f->watch, f->ranks, RANKS, f->found, RANKS);
}

static void even_ranks_have_no_straggler(void **state)
{
    for (int i = 0; i < 20; i++)
        assert_int_equal(take_step(*state), 0);
}

static void each_rank_that_stands_out_for_all_steps_is_told_once(void **state)
{
    struct fixture *f = *state;

    for (int slow = 0; slow < RANKS; slow++) {
        f->ranks[slow].compute_ms = 400;
        for (int i = 1; i < STEPS; i++)
            assert_int_equal(take_step(f), 0);
        assert_int_equal(take_step(f), 1);
        assert_int_equal(f->found[0].rank, slow);
        assert_int_equal(f->found[0].step, f->ranks[slow].step);
        assert_int_equal(f->found[0].steps, STEPS);
        assert_true(f->found[0].compute_ms == 400);
        assert_true(f->found[0].ratio > 3.8 && f->found[0].ratio < 4.01);
        for (int i = 0; i < 5; i++)
            assert_int_equal(take_step(f), 0);
        f->ranks[slow].compute_ms = 100;
        assert_int_equal(take_step(f), 0);
    }
}

static void a_step_in_time_starts_the_count_again(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 12; i++) {
        f->ranks[2].compute_ms = i % STEPS == STEPS - 1 ? 100 : 400;
        assert_int_equal(take_step(f), 0);
    }
}

static void looking_twice_at_one_step_does_not_count_twice(void **state)
{
    struct fixture *f = *state;

    f->ranks[2].compute_ms = 400;
    for (int i = 1; i < STEPS; i++)
        assert_int_equal(take_step(f), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(trm_straggler_observe(f->watch, f->ranks, RANKS, f->found, RANKS), 0);
    assert_int_equal(take_step(f), 1);
}

static void ranks_without_times_or_in_no_place_are_passed_over(void **state)
{
    struct fixture *f = *state;

    f->ranks[0].compute_ms = 0;
    f->ranks[1].state = TRM_FLIGHT_EXITED;
    f->ranks[3].rank = RANKS;
    f->ranks[2].compute_ms = 400;
    for (int i = 0; i < 10; i++)
        assert_int_equal(take_step(f), 0); /* there is nobody to compare it with */
    f->ranks[3].rank = -1;
    assert_int_equal(take_step(f), 0);
}

static void of_two_ranks_the_slower_stands_out(void **state)
{
    struct fixture *f = *state;

    f->ranks[0].compute_ms = f->ranks[1].compute_ms = 0;
    f->ranks[3].compute_ms = 400;
    for (int i = 1; i < STEPS; i++)
        assert_int_equal(take_step(f), 0);
    assert_int_equal(take_step(f), 1);
    assert_int_equal(f->found[0].rank, 3);
}

static void more_are_counted_than_fit(void **state)
{
    struct fixture *f = *state;
    int told = 0;

    f->ranks[2].compute_ms = f->ranks[3].compute_ms = 400;
    for (int i = 0; i < STEPS; i++) {
        for (int r = 0; r < RANKS; r++)
            f->ranks[r].step++;
        told = trm_straggler_observe(f->watch, f->ranks, RANKS, f->found, 1);
    }
    assert_int_equal(told, 2);
    assert_int_equal(f->found[0].rank, 2);
    assert_int_equal(f->found[1].rank, 0); /* untouched */
}

static void the_sentence_compares_with_the_median(void **state)
{
    const struct trm_straggler found = {
        .rank = 3, .step = 40, .steps = 20, .compute_ms = 412, .median_ms = 229, .ratio = 1.8};
    char text[256];
    (void)state;

    trm_straggler_describe(&found, "node2", text, sizeof text);
    assert_string_equal(text, "rank 3 on node2 slows all down: it computes 1.8 times as long as "
                              "the median (412 ms, and not 229 ms) for 20 steps");
    trm_straggler_describe(&found, NULL, text, sizeof text);
    assert_non_null(strstr(text, "rank 3 slows"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(even_ranks_have_no_straggler),
        TEST(each_rank_that_stands_out_for_all_steps_is_told_once),
        TEST(a_step_in_time_starts_the_count_again),
        TEST(looking_twice_at_one_step_does_not_count_twice),
        TEST(ranks_without_times_or_in_no_place_are_passed_over),
        TEST(of_two_ranks_the_slower_stands_out),
        TEST(more_are_counted_than_fit),
        TEST(the_sentence_compares_with_the_median),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
