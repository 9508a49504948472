/* Every mesh up to 2 x 3, every culprit and every pair, every place where it may stop. */
#include "collectives/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "play.h"

static void find(const struct trm_flight_view *views, int count, struct trm_verdict *verdict)
{
    struct trm_tally scratch[TRM_TALLY_PLACES(MOST_RANKS)];

    trm_verdict_find(views, count, scratch, verdict);
}

static bool waits(const struct play *play, int rank)
{
    const struct trm_flight_lane_view *lanes = play->views[rank].lanes;
    return lanes[0].waiting > 0 || lanes[1].waiting > 0 || lanes[2].waiting > 0;
}

static bool waits_anybody(const struct play *play)
{
    for (int i = 0; i < play->ranks; i++)
        if (waits(play, i))
            return true;
    return false;
}

static bool names(const struct trm_verdict *verdict, int index)
{
    for (int i = 0; i < verdict->culprit_count; i++)
        if (verdict->culprits[i] == index)
            return true;
    return false;
}

/* The first place at or behind the culprit's at which there is anybody to miss it. */
static int missed_at(const struct play *play, int culprit)
{
    int place = play->stop[culprit];
    while (play_size(play, play_group(place)) == 1)
        place++;
    return place;
}

static void a_late_rank_is_named_with_the_place_wherever_it_is(void **state)
{
    int played = 0;
    (void)state;

    for (int data = 1; data <= 2; data++)
        for (int tensor = 1; tensor <= 3; tensor++)
            for (int culprit = 0; culprit < data * tensor; culprit++)
                for (int place = 0; place < PLACES; place++) {
                    struct play play;
                    struct trm_verdict verdict;
                    play_init(&play, data, tensor);
                    play.stop[culprit] = place;
                    play_run(&play);
                    find(play.views, play.ranks, &verdict);
                    assert_int_equal(verdict.culprit_count, 1);
                    assert_int_equal(verdict.culprits[0], culprit);
                    played++;
                    if (play.ranks == 1) {
                        assert_int_equal(verdict.kind, TRM_VERDICT_STILL);
                        assert_int_equal(verdict.number, 0);
                        continue;
                    }
                    enum trm_flight_group group = play_group(missed_at(&play, culprit));
                    assert_int_equal(verdict.kind, TRM_VERDICT_LATE);
                    assert_int_equal(verdict.group, group);
                    assert_true(verdict.number > play.views[culprit].lanes[group].entered);
                    assert_int_equal(verdict.operation, TRM_FLIGHT_ALL_REDUCE);
                    assert_int_equal(verdict.step, 118);
                    assert_int_equal(verdict.waiter_count + verdict.other_waiter_count,
                                     play.ranks - 1);
                    assert_int_equal(verdict.waiter_count, play_size(&play, group) - 1);
                }
    assert_int_equal(played, PLACES * (1 + 2 + 3 + 2 + 4 + 6));
}

/* It stands where it was made to stop, and somebody waits where it has not come. */
static bool is_missed(const struct play *play, int rank)
{
    if (play->at[rank] != play->stop[rank] || waits(play, rank))
        return false;
    for (int i = 0; i < play->ranks; i++)
        for (int g = 0; g < TRM_FLIGHT_GROUPS; g++)
            if (play_together(play, i, rank, (enum trm_flight_group)g) &&
                play->views[i].lanes[g].waiting > play->views[rank].lanes[g].entered)
                return true;
    return false;
}

/* (One who stands where only another one who stands would miss it is not named: the others don't
 * wait for it.) */
static void of_two_those_are_named_who_wait_for_nobody_and_are_missed(void **state)
{
    int played = 0;
    (void)state;

    for (int data = 1; data <= 2; data++)
        for (int tensor = 1; tensor <= 3; tensor++)
            for (int pair = 0; pair < MOST_RANKS * MOST_RANKS; pair++)
                for (int places = 0; places < PLACES * PLACES; places++) {
                    int a = pair / MOST_RANKS, b = pair % MOST_RANKS;
                    struct play play;
                    struct trm_verdict verdict;
                    if (a >= b || b >= data * tensor)
                        continue;
                    play_init(&play, data, tensor);
                    play.stop[a] = places / PLACES;
                    play.stop[b] = places % PLACES;
                    play_run(&play);
                    find(play.views, play.ranks, &verdict);
                    played++;
                    if (!waits_anybody(&play)) {
                        assert_int_equal(verdict.kind, TRM_VERDICT_STILL);
                        assert_int_equal(verdict.culprit_count, play.ranks);
                        continue;
                    }
                    assert_int_equal(verdict.kind, TRM_VERDICT_LATE);
                    assert_in_range(verdict.culprit_count, 1, 2);
                    assert_int_equal(names(&verdict, a), is_missed(&play, a));
                    assert_int_equal(names(&verdict, b), is_missed(&play, b));
                }
    assert_int_equal(played, PLACES * PLACES * (0 + 1 + 3 + 1 + 6 + 15));
}

/* A verdict is made while nodes wait for answers: it may not look at every pair of ranks. (If it
 * did, this would be over in minutes.) */
static void a_hundred_thousand_ranks_are_judged_at_once(void **state)
{
    enum { MANY = 100000, TENSOR = 8 };
    struct trm_flight_view *views = calloc(MANY, sizeof *views);
    struct trm_tally *scratch = calloc(TRM_TALLY_PLACES(MANY), sizeof *scratch);
    struct trm_verdict verdict;

    (void)state;
    assert_true(views && scratch);
    for (int i = 0; i < MANY; i++) {
        views[i] = (struct trm_flight_view){.state = TRM_FLIGHT_RUNNING,
                                            .process = 'S',
                                            .rank = i,
                                            .world_size = MANY,
                                            .data_size = MANY / TENSOR,
                                            .tensor_size = TENSOR,
                                            .phase = TRM_PHASE_FORWARD,
                                            .step = 5};
        int group = i / TENSOR % 2 == 0 ? TRM_FLIGHT_TENSOR : TRM_FLIGHT_WORLD;
        views[i].lanes[TRM_FLIGHT_WORLD].entered = views[i].lanes[TRM_FLIGHT_TENSOR].entered = 9;
        views[i].lanes[group].waiting = 9;
    }
    trm_verdict_find(views, MANY, scratch, &verdict);
    assert_int_equal(verdict.kind, TRM_VERDICT_STUCK);
    assert_int_equal(verdict.culprit_count, 0);
    views[MANY - 1].lanes[TRM_FLIGHT_WORLD].entered = 8; /* and waits with its tensor group */
    views[MANY - 1].lanes[TRM_FLIGHT_WORLD].waiting = 0;
    views[MANY - 1].lanes[TRM_FLIGHT_TENSOR].waiting = 9;
    trm_verdict_find(views, MANY, scratch, &verdict);
    assert_int_equal(verdict.kind, TRM_VERDICT_CROSSED);
    for (int i = 0; i < MANY; i += 2) { /* every second one computes, and is missed by nobody */
        views[i].lanes[TRM_FLIGHT_WORLD].entered = 10;
        views[i].lanes[TRM_FLIGHT_WORLD].waiting = views[i].lanes[TRM_FLIGHT_TENSOR].waiting = 0;
    }
    views[MANY - 1].lanes[TRM_FLIGHT_WORLD].entered = 9;
    trm_verdict_find(views, MANY, scratch, &verdict);
    assert_int_equal(verdict.kind, TRM_VERDICT_ABSENT);
    assert_int_equal(verdict.culprit_count, MANY / 2);
    views[4].lanes[TRM_FLIGHT_TENSOR].entered = 8;
    trm_verdict_find(views, MANY, scratch, &verdict);
    assert_int_equal(verdict.kind, TRM_VERDICT_LATE);
    assert_int_equal(verdict.culprit_count, 1);
    assert_int_equal(verdict.culprits[0], 4);
    free(scratch);
    free(views);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named_with_the_place_wherever_it_is),
        cmocka_unit_test(of_two_those_are_named_who_wait_for_nobody_and_are_missed),
        cmocka_unit_test(a_hundred_thousand_ranks_are_judged_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
