#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "launch/supervisor/states.h"

static struct trm_transition last;

/* Walks events from a state; returns where it ends. */
static enum trm_run_state walk(enum trm_run_state state, const enum trm_run_event *events,
                               int count)
{
    for (int i = 0; i < count; i++) {
        last = trm_states_next(state, events[i]);
        state = last.next;
    }
    return state;
}

#define WALK(from, ...)                                             \
    walk(TRM_RUN_##from, (const enum trm_run_event[]){__VA_ARGS__}, \
         (int)(sizeof((const enum trm_run_event[]){__VA_ARGS__}) / sizeof(enum trm_run_event)))

static void a_run_without_trouble_goes_from_gathering_to_its_end(void **state)
{
    (void)state;
    assert_int_equal(WALK(GATHERING, TRM_EVENT_ENOUGH, TRM_EVENT_CHECKED, TRM_EVENT_CLAIMED,
                          TRM_EVENT_STEPPED, TRM_EVENT_JOB_DONE, TRM_EVENT_AGENTS_GONE),
                     TRM_RUN_ENDED);
    assert_int_equal(last.action, TRM_ACTION_END);
}

/* Never two jobs: whatever happens, mpirun is started only after fencing and a new claim. */
static void nothing_but_a_claim_launches_and_nothing_but_fencing_leads_back_to_it(void **state)
{
    (void)state;
    for (int s = 0; s < TRM_RUN_STATE_COUNT; s++)
        for (int e = 0; e < TRM_RUN_EVENT_COUNT; e++) {
            struct trm_transition t = trm_states_next((enum trm_run_state)s, (enum trm_run_event)e);
            bool had_job = s == TRM_RUN_LAUNCHING || s == TRM_RUN_RUNNING || s == TRM_RUN_STOPPING;
            if (t.action == TRM_ACTION_LAUNCH || t.next == TRM_RUN_LAUNCHING)
                assert_true((s == TRM_RUN_CLAIMING && e == TRM_EVENT_CLAIMED) ||
                            s == TRM_RUN_LAUNCHING);
            if (t.next == TRM_RUN_CLAIMING && s != TRM_RUN_CLAIMING)
                assert_int_equal(s, TRM_RUN_CHECKING);
            if (had_job && t.next != (enum trm_run_state)s)
                assert_true(t.next == TRM_RUN_FENCING || t.next == TRM_RUN_LEAVING ||
                            t.next == TRM_RUN_RUNNING || t.next == TRM_RUN_STOPPING);
            if (s == TRM_RUN_FENCING && t.next == TRM_RUN_GATHERING)
                assert_int_equal(e, TRM_EVENT_FENCED);
        }
}

static void a_fault_is_fenced_and_tried_again(void **state)
{
    (void)state;
    assert_int_equal(WALK(RUNNING, TRM_EVENT_FAULT, TRM_EVENT_FAULT), TRM_RUN_FENCING);
    assert_int_equal(WALK(RUNNING, TRM_EVENT_FAULT, TRM_EVENT_FENCED), TRM_RUN_GATHERING);
    assert_int_equal(last.action, TRM_ACTION_AGAIN);
    /* A second one, while it comes up again. */
    assert_int_equal(WALK(LAUNCHING, TRM_EVENT_FAULT, TRM_EVENT_FENCED), TRM_RUN_GATHERING);
    /* And one while it saves its last checkpoint: what is in memory is not given up. */
    assert_int_equal(WALK(STOPPING, TRM_EVENT_FAULT, TRM_EVENT_FENCED), TRM_RUN_GATHERING);
}

static void a_person_who_does_not_want_to_wait_ends_it_in_every_state(void **state)
{
    (void)state;
    for (int s = 0; s < TRM_RUN_LEAVING; s++) {
        last = trm_states_next((enum trm_run_state)s, TRM_EVENT_STOP_NOW);
        assert_int_equal(last.next, TRM_RUN_LEAVING);
        assert_int_equal(last.action, TRM_ACTION_LEAVE);
    }
}

static void a_stop_reaches_ranks_that_began_after_it(void **state)
{
    (void)state;
    assert_int_equal(WALK(LAUNCHING, TRM_EVENT_STOP, TRM_EVENT_STOP), TRM_RUN_STOPPING);
    assert_int_equal(last.action, TRM_ACTION_ASK_STOP);
}

static void another_supervisor_ends_this_one_in_every_state_with_a_job(void **state)
{
    static const enum trm_run_state states[] = {
        TRM_RUN_GATHERING, TRM_RUN_CHECKING, TRM_RUN_CLAIMING, TRM_RUN_LAUNCHING,
        TRM_RUN_RUNNING,   TRM_RUN_STOPPING, TRM_RUN_FENCING};

    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        last = trm_states_next(states[i], TRM_EVENT_SUPERSEDED);
        assert_int_equal(last.next, TRM_RUN_LEAVING);
        assert_int_equal(last.action, TRM_ACTION_ABANDON);
    }
}

static void an_end_is_the_end(void **state)
{
    (void)state;
    for (int e = 0; e < TRM_RUN_EVENT_COUNT; e++) {
        last = trm_states_next(TRM_RUN_ENDED, (enum trm_run_event)e);
        assert_int_equal(last.next, TRM_RUN_ENDED);
        assert_int_equal(last.action, TRM_ACTION_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_without_trouble_goes_from_gathering_to_its_end),
        cmocka_unit_test(nothing_but_a_claim_launches_and_nothing_but_fencing_leads_back_to_it),
        cmocka_unit_test(a_fault_is_fenced_and_tried_again),
        cmocka_unit_test(a_person_who_does_not_want_to_wait_ends_it_in_every_state),
        cmocka_unit_test(a_stop_reaches_ranks_that_began_after_it),
        cmocka_unit_test(another_supervisor_ends_this_one_in_every_state_with_a_job),
        cmocka_unit_test(an_end_is_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
