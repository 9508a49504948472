/* Each kind of verdict, and its sentence. */
#include "collectives/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "play.h"

enum { MANY = 100 }; /* ranks at most */

static void find(const struct trm_flight_view *views, int count, struct trm_verdict *verdict)
{
    struct trm_tally scratch[TRM_TALLY_PLACES(MANY)];

    trm_verdict_find(views, count, scratch, verdict);
}

/* 2 x 2: rank 3 stops before the first exchange of the data group (place 3), so that rank 1 waits
 * there, and ranks 0 and 2 behind them. */
static void hang(struct play *play)
{
    play_init(play, 2, 2);
    play->stop[3] = 3;
    play_run(play);
    for (int i = 0; i < 4; i++) {
        play->views[i].phase_age_ms = 6200;
        for (int g = 0; g < TRM_FLIGHT_GROUPS; g++)
            play->views[i].lanes[g].age_ms = 6100;
        play->views[i].lanes[TRM_FLIGHT_DATA].operation = TRM_FLIGHT_EXCHANGE;
    }
}

static const char *sentence(const struct play *play, struct trm_verdict *verdict)
{
    static const char *const nodes[] = {"node1", "node1", "node2", "node2", NULL, NULL};
    static char text[1024];

    find(play->views, play->ranks, verdict);
    trm_verdict_describe(verdict, play->views, nodes, text, sizeof text);
    return text;
}

static void the_sentence_says_who_where_and_for_how_long(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    assert_string_equal(sentence(&play, &v),
                        "rank 3 on node2 did not arrive at exchange 1 of the data group (step "
                        "118): in forward for 6.2 s; rank 1 waits for 6.1 s, and 2 more behind it");
    play.views[3].process = 'D';
    assert_string_equal(sentence(&play, &v),
                        "rank 3 on node2 did not arrive at exchange 1 of the data group (step "
                        "118): in forward for 6.2 s, its process waits for storage or a device "
                        "and can't be interrupted; rank 1 waits for 6.1 s, and 2 more behind it");
}

static void a_stopped_process_wins_over_a_late_one(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    play.views[3].process = 'T';
    assert_string_equal(sentence(&play, &v),
                        "rank 3 on node2 did not arrive at exchange 1 of the data group (step "
                        "118): in forward for 6.2 s, stopped by a signal; rank 1 waits for 6.1 s, "
                        "and 2 more behind it");
    assert_int_equal(v.kind, TRM_VERDICT_STOPPED);
    play.views[3].process = 'S';
    play.views[1].process = 't'; /* it has entered the exchange, and stands in it */
    assert_string_equal(sentence(&play, &v),
                        "rank 1 on node1 did not arrive at all-reduce 3 of the tensor group (step "
                        "118): in forward for 6.2 s, stopped by a debugger; rank 0 waits for "
                        "6.1 s, and 1 more behind it");
}

static void a_stopped_process_that_arrived_does_not_complete(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    play.views[2].process = 'T';
    play.views[2].lanes[TRM_FLIGHT_TENSOR].waiting = 3;
    play.views[2].lanes[TRM_FLIGHT_TENSOR].entered = 3;
    play.views[3].lanes[TRM_FLIGHT_TENSOR].entered = 3;
    play.views[3].lanes[TRM_FLIGHT_TENSOR].waiting = 3;
    assert_non_null(strstr(sentence(&play, &v), "rank 2 on node2 does not complete all-reduce 3 of "
                                                "the tensor group (step 118): in forward"));
    assert_int_equal(v.kind, TRM_VERDICT_STOPPED);
    assert_int_equal(v.waiter_count, 1);
    assert_int_equal(v.waiters[0], 3);
}

static void a_gone_process_wins_over_a_stopped_one(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    play.views[0].process = 'T';
    play.views[2].state = TRM_FLIGHT_EXITED;
    play.views[2].exit_code = 78;
    strcpy(play.views[2].exit_text, "lr is \"x\"");
    assert_non_null(strstr(sentence(&play, &v), ": it left with exit code 78, lr is \"x\""));
    assert_int_equal(v.kind, TRM_VERDICT_GONE);
    assert_int_equal(v.culprits[0], 2);
    play.views[1].process = 'X'; /* which rank 2 left for */
    assert_non_null(strstr(sentence(&play, &v), "rank 1 on node1 did not arrive at "));
    assert_non_null(strstr(sentence(&play, &v), ", its process is gone"));
    assert_int_equal(v.culprit_count, 1);
    play.views[1].process = 'S';
    play.views[2].exit_code = 0; /* not to blame while another was stopped */
    find(play.views, 4, &v);
    assert_int_equal(v.kind, TRM_VERDICT_STOPPED);
    play.views[0].process = 'S';
    find(play.views, 4, &v);
    assert_int_equal(v.kind, TRM_VERDICT_GONE);
    for (int i = 0; i < 4; i++)
        play.views[i].state = TRM_FLIGHT_EXITED;
    assert_string_equal(sentence(&play, &v), "no rank is to blame");
    assert_int_equal(v.kind, TRM_VERDICT_NONE);
    find(play.views, 0, &v);
    assert_int_equal(v.kind, TRM_VERDICT_NONE);
}

static void a_late_rank_in_an_io_phase_waits_for_storage(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    play.views[3].phase = TRM_PHASE_SAVE;
    assert_string_equal(sentence(&play, &v),
                        "rank 3 on node2 did not arrive at exchange 1 of the data group (step "
                        "118): waiting for storage, in saving for 6.2 s; rank 1 waits for 6.1 s, "
                        "and 2 more behind it");
    assert_int_equal(v.kind, TRM_VERDICT_STORAGE);
    /* Who waits in a collective waits for no storage, whatever its phase. */
    play.views[3].phase = TRM_PHASE_FORWARD;
    for (int i = 0; i < 3; i++)
        play.views[i].phase = TRM_PHASE_DATA;
    find(play.views, 4, &v);
    assert_int_equal(v.kind, TRM_VERDICT_LATE);
    assert_int_equal(v.culprits[0], 3);
}

static void all_that_wait_for_a_save_wait_for_storage(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 2, 1);
    for (int i = 0; i < 2; i++) {
        play.views[i].phase = TRM_PHASE_SAVE;
        play.views[i].phase_age_ms = 7000;
    }
    for (int moment = 0; moment < 3; moment++) { /* none, one, or both in an agreement */
        assert_string_equal(sentence(&play, &v),
                            "rank 0 on node1 does not get on (step 117): waiting for storage, in "
                            "saving for 7.0 s; rank 1 as well");
        assert_int_equal(v.kind, TRM_VERDICT_STORAGE);
        play.views[moment % 2].lanes[TRM_FLIGHT_WORLD].waiting = 9;
        play.views[moment % 2].lanes[TRM_FLIGHT_WORLD].entered = 9;
    }
    play.views[1].process = 'T';
    find(play.views, 2, &v);
    assert_int_equal(v.kind, TRM_VERDICT_STOPPED);
}

static void a_late_rank_that_computes_wins_over_one_that_waits_for_storage(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 2, 2);
    play.stop[0] = play.stop[2] = 3;
    play_run(&play);
    play.views[0].phase = TRM_PHASE_DATA;
    find(play.views, 4, &v);
    assert_int_equal(v.kind, TRM_VERDICT_LATE);
    assert_int_equal(v.culprit_count, 1);
    assert_int_equal(v.culprits[0], 2);
}

static void one_that_started_an_operation_and_went_away_is_named(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 2, 1);
    play.stop[1] = 3;
    play_run(&play);
    play.views[1].lanes[TRM_FLIGHT_DATA].entered = 1;
    assert_non_null(strstr(sentence(&play, &v),
                           "rank 1 on node1 has started and does not complete all-reduce 1 of the "
                           "data group (step 118): in forward for "));
    assert_int_equal(v.kind, TRM_VERDICT_ABSENT);
}

static void without_waiters_those_who_compute_stand_still(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 2, 1);
    play.views[0].phase_age_ms = 60000;
    play.views[1].phase_age_ms = 61000;
    assert_string_equal(sentence(&play, &v), "rank 1 on node1 does not get on (step 118): in "
                                             "forward for 1 min 01 s; rank 0 as well");
    play.views[0].phase = TRM_PHASE_DATA;
    find(play.views, 2, &v);
    assert_int_equal(v.culprit_count, 1);
    assert_int_equal(v.kind, TRM_VERDICT_STILL);
    play.views[1].phase = TRM_PHASE_LOAD;
    find(play.views, 2, &v);
    assert_int_equal(v.kind, TRM_VERDICT_STORAGE);
    assert_int_equal(v.culprit_count, 2);
}

static void who_starts_or_ends_mpi_waits_for_those_who_do_not(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 3, 1);
    for (int i = 0; i < 3; i++) {
        play.views[i].phase = TRM_PHASE_COMM_INIT;
        play.views[i].step = -1;
        play.views[i].phase_age_ms = 30000;
    }
    play.views[1].phase = TRM_PHASE_STARTUP;
    assert_string_equal(sentence(&play, &v),
                        "rank 1 on node1 does not get on: in start-up for 30.0 s");
    play.views[1].phase = TRM_PHASE_COMM_INIT;
    assert_string_equal(sentence(&play, &v), "rank 0 on node1 does not get on: in communicator "
                                             "set-up for 30.0 s; ranks 1 and 2 as well");
}

static void operations_that_all_have_entered_blame_the_network(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    for (int i = 0; i < 4; i++) {
        memset(play.views[i].lanes, 0, sizeof play.views[i].lanes);
        play.views[i].lanes[TRM_FLIGHT_WORLD] = (struct trm_flight_lane_view){
            .entered = 9, .waiting = 9, .operation = TRM_FLIGHT_BARRIER, .age_ms = 1000 + i};
    }
    assert_string_equal(sentence(&play, &v),
                        "barrier 9 of the world (step 118) does not complete, though every rank "
                        "has arrived: look at the network between them; ranks 0, 1, 2 and 3 wait "
                        "for 1.0 s");
    assert_int_equal(v.kind, TRM_VERDICT_STUCK);
    assert_int_equal(v.culprit_count, 0);
    /* A node that sees two of the four does not know. */
    play.ranks = 2;
    assert_non_null(
        strstr(sentence(&play, &v), "all ranks here wait for ranks of other nodes at barrier 9"));
    assert_int_equal(v.kind, TRM_VERDICT_ELSEWHERE);
}

static void a_node_that_sees_the_culprit_names_it_without_the_others(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    hang(&play);
    find(play.views + 2, 2, &v); /* ranks 2 and 3 */
    assert_int_equal(v.kind, TRM_VERDICT_LATE);
    assert_int_equal(v.culprits[0], 1);
    find(play.views, 2, &v);
    assert_int_equal(v.kind, TRM_VERDICT_ELSEWHERE);
}

static void ranks_that_wait_for_each_other_are_a_bug(void **state)
{
    struct trm_verdict v;
    struct play play;
    (void)state;

    play_init(&play, 2, 2);
    for (int i = 0; i < 4; i++) {
        int g = i % 2 ? TRM_FLIGHT_DATA : TRM_FLIGHT_TENSOR;
        play.views[i].lanes[g].waiting = play.views[i].lanes[g].entered = 5;
        play.views[i].lanes[g].operation = TRM_FLIGHT_ALL_GATHER;
    }
    assert_non_null(strstr(sentence(&play, &v), "wait for each other at different collectives"));
    assert_int_equal(v.kind, TRM_VERDICT_CROSSED);
}

static void lists_are_bounded_and_texts_cut(void **state)
{
    static struct trm_flight_view views[MANY];
    struct trm_verdict v;
    char text[64];
    (void)state;

    for (int i = 0; i < MANY; i++) {
        views[i] = (struct trm_flight_view){
            .state = TRM_FLIGHT_RUNNING, .rank = i, .world_size = MANY, .process = 'S'};
        views[i].lanes[0].entered = views[i].lanes[0].waiting = i < 50;
    }
    find(views, MANY, &v);
    assert_int_equal(v.kind, TRM_VERDICT_LATE);
    assert_int_equal(v.culprit_count, 50);
    assert_int_equal(v.waiter_count, 50);
    for (size_t bytes = 1; bytes <= sizeof text; bytes++) {
        memset(text, 'x', sizeof text);
        trm_verdict_describe(&v, views, NULL, text, bytes);
        assert_int_equal(strlen(text), bytes - 1);
    }
    char whole[1024];
    trm_verdict_describe(&v, views, NULL, whole, sizeof whole);
    assert_non_null(strstr(whole, " 65 and 34 more as well"));
    assert_non_null(strstr(whole, " 15 and 34 more wait for "));
    for (int i = 0; i < TRM_VERDICT_KIND_COUNT; i++)
        assert_string_not_equal(trm_verdict_kind_name((enum trm_verdict_kind)i), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sentence_says_who_where_and_for_how_long),
        cmocka_unit_test(a_stopped_process_wins_over_a_late_one),
        cmocka_unit_test(a_stopped_process_that_arrived_does_not_complete),
        cmocka_unit_test(a_gone_process_wins_over_a_stopped_one),
        cmocka_unit_test(a_late_rank_in_an_io_phase_waits_for_storage),
        cmocka_unit_test(all_that_wait_for_a_save_wait_for_storage),
        cmocka_unit_test(a_late_rank_that_computes_wins_over_one_that_waits_for_storage),
        cmocka_unit_test(one_that_started_an_operation_and_went_away_is_named),
        cmocka_unit_test(without_waiters_those_who_compute_stand_still),
        cmocka_unit_test(who_starts_or_ends_mpi_waits_for_those_who_do_not),
        cmocka_unit_test(operations_that_all_have_entered_blame_the_network),
        cmocka_unit_test(a_node_that_sees_the_culprit_names_it_without_the_others),
        cmocka_unit_test(ranks_that_wait_for_each_other_are_a_bug),
        cmocka_unit_test(lists_are_bounded_and_texts_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
