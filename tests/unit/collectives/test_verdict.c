/* Every mesh up to 2 x 3, every culprit and every pair, every place where it may stop. */
#include "collectives/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "play.h"

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
                    trm_verdict_find(play.views, play.ranks, &verdict);
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
                    trm_verdict_find(play.views, play.ranks, &verdict);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named_with_the_place_wherever_it_is),
        cmocka_unit_test(of_two_those_are_named_who_wait_for_nobody_and_are_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
