/* Copies of one rank, whose thread reads the state while everything but the optimizer goes on. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/parallel/partner.h"
#include "checkpoint/restore.h"
#include "checkpoint/slot.h"

#define SLOTS 2

/* What stands in for an agent, and what happened. */
struct node {
    struct trm_slot slots[SLOTS];
    int count;
    int64_t complete;
    int paced;
};

static enum trm_status take(void *context, int64_t bytes, int count, int *fds,
                            struct trm_error *err)
{
    struct node *node = context;
    assert_int_equal(count, 1); /* one rank has no wards */
    assert_true(node->count < SLOTS);
    fds[0] = memfd_create("slot", MFD_CLOEXEC);
    assert_true(fds[0] >= 0 && ftruncate(fds[0], bytes) == 0);
    return trm_slot_map(fds[0], false, &node->slots[node->count++], err);
}

static void on_event(void *context, const struct trm_partner_event *event)
{
    struct node *node = context;
    if (event->kind == TRM_PARTNER_COMPLETE)
        node->complete = event->step;
    node->paced += event->kind == TRM_PARTNER_PACED;
}

/* Whether a slot holds exactly the values of its step. */
static void check_slot(const struct trm_slot *slot, int64_t step)
{
    struct trm_slot_layout layout;
    struct trm_catalog catalog;
    struct trm_error err = {0};
    struct trm_source *source = NULL;
    struct trm_restore *restore = NULL;
    char text[128];
    assert_ok(trm_slot_check(slot, &layout, &err), err);
    assert_ok(trm_slot_catalog(slot, &layout, &catalog, &err), err);
    assert_int_equal(catalog.state.step, step);
    int64_t count = trm_slot_head(slot)->key.slice_count;
    struct trm_slice *slices = calloc((size_t)count, sizeof(*slices));
    const void **data = calloc((size_t)count, sizeof(*data));
    assert_ok(trm_slot_slices(slot, &layout, &catalog, slices, data, &err), err);
    assert_ok(trm_source_memory("a slot", slices, data, count, TRM_F32, &source, &err), err);
    assert_ok(trm_restore_create(catalog.tensors, catalog.tensor_count, &source, 1, NULL, NULL,
                                 &restore, &err),
              err);
    struct fixture_pieces wanted = fixture_pieces_of(1, 1, 0, -1);
    assert_ok(trm_restore_run(restore, wanted.pieces, wanted.count, NULL, &err), err);
    assert_null(fixture_wrong(&wanted, step, text));
    fixture_pieces_free(&wanted);
    trm_restore_destroy(restore);
    trm_source_destroy(source);
    trm_catalog_destroy(&catalog);
    free(slices);
    free(data);
}

/* A run of one rank. */
struct run {
    struct trm_comm *comm;
    struct node node;
    struct fixture_pieces live;
    struct trm_partner *partner;
};

static void open_run(struct run *run, int64_t interval)
{
    struct trm_error err = {0};
    struct trm_ckpt_state state = fixture_state(1);
    *run = (struct run){.node.complete = -1};
    assert_ok(trm_comm_self(&run->comm, &err), err);
    run->live = fixture_pieces_of(1, 1, 0, 1);
    struct trm_partner_settings settings = {
        .world = run->comm,
        .keeper = {.take = take, .context = &run->node},
        .node = "n1",
        .domain = "n1",
        .attempt = 1,
        .interval = interval,
        .state = &state,
        .tensors = fixture_tensors,
        .tensor_count = FIXTURE_TENSORS,
        .pieces = run->live.pieces,
        .piece_count = run->live.count,
        .event = on_event,
        .context = &run->node,
    };
    assert_ok(trm_partner_create(&settings, &run->partner, &err), err);
    assert_ok(trm_partner_start(run->partner, &state, &err), err);
    assert_int_equal(run->node.complete, 1);
    check_slot(&run->node.slots[0], 1);
    assert_ok(trm_partner_double(run->partner, &err), err);
}

static void close_run(struct run *run)
{
    assert_int_equal(trm_partner_wait(run->partner, NULL), TRM_OK);
    trm_partner_destroy(run->partner);
    fixture_pieces_free(&run->live);
    for (int i = 0; i < run->node.count; i++)
        trm_slot_unmap(&run->node.slots[i]);
    trm_comm_destroy(run->comm);
}

/* A step that took `step_ns`: the state of `state` becomes the next one's. */
static void run_step(struct run *run, const struct trm_ckpt_state *state, int64_t step_ns)
{
    struct trm_error err = {0};
    int64_t words[TRM_PARTNER_WORDS];
    assert_ok(trm_partner_report(run->partner, step_ns, words, &err), err);
    assert_ok(trm_partner_advance(run->partner, words, state, &err), err);
    trm_partner_poll(run->partner);
    assert_ok(trm_partner_join(run->partner, &err), err);
    struct fixture_pieces next = fixture_pieces_of(1, 1, 0, state->step + 1);
    memcpy(run->live.memory, next.memory, (size_t)next.elements * sizeof(float));
    fixture_pieces_free(&next);
}

static void a_copy_is_the_state_before_the_optimizer_went_on(void **unused)
{
    (void)unused;
    struct run run;
    open_run(&run, 1);
    for (int64_t step = 2; step < 30; step++) {
        struct trm_ckpt_state state = fixture_state(step);
        struct fixture_pieces now = fixture_pieces_of(1, 1, 0, step);
        memcpy(run.live.memory, now.memory, (size_t)now.elements * sizeof(float));
        fixture_pieces_free(&now);
        run_step(&run, &state, 1000);
        /* A copy for each step, and never over the newest complete one. */
        assert_int_equal(run.node.complete, step - 1);
        check_slot(&run.node.slots[step % SLOTS], step - 1);
    }
    close_run(&run);
    assert_int_equal(run.node.complete, 29);
}

static void copies_are_as_far_apart_as_asked(void **unused)
{
    (void)unused;
    struct run run;
    int copies = 0;
    open_run(&run, 4);
    for (int64_t step = 2; step <= 17; step++) {
        struct trm_ckpt_state state = fixture_state(step);
        int64_t before = run.node.complete;
        run_step(&run, &state, 1000);
        copies += run.node.complete != before;
    }
    assert_int_equal(copies, 3); /* of 5, 9 and 13 */
    close_run(&run);
    assert_int_equal(run.node.complete, 17);
}

static void an_interval_is_chosen_from_what_was_measured(void **unused)
{
    (void)unused;
    struct run run;
    open_run(&run, TRM_PACE_AUTO);
    for (int64_t step = 2; step < 9; step++) {
        struct trm_ckpt_state state = fixture_state(step);
        run_step(&run, &state, 1); /* no copy is under 1 % of a nanosecond */
    }
    assert_int_equal(run.node.paced, 1);
    int64_t newest = run.node.complete;
    for (int64_t step = 9; step < 900; step++) {
        struct trm_ckpt_state state = fixture_state(step);
        run_step(&run, &state, 1);
    }
    assert_in_range(run.node.complete, newest, 9);
    close_run(&run);
}

static void a_rollback_is_copied_at_once_though_its_step_is_older(void **unused)
{
    (void)unused;
    struct run run;
    open_run(&run, 100);
    struct trm_ckpt_state state = fixture_state(3);
    run_step(&run, &state, 1000);
    assert_int_equal(run.node.complete, 1); /* not due */
    state = fixture_state(2);
    state.lineage++;
    run_step(&run, &state, 1000);
    assert_int_equal(trm_partner_wait(run.partner, NULL), TRM_OK);
    assert_int_equal(run.node.complete, 2);
    close_run(&run);
}

static void skips_without_room_leave_out_a_copy_and_nothing_else(void **unused)
{
    (void)unused;
    struct run run;
    struct trm_ckpt_skip *skips = calloc(3000, sizeof(*skips));
    open_run(&run, 1);
    struct trm_ckpt_state state = fixture_state(2);
    for (int i = 0; i < 3000; i++)
        skips[i] = (struct trm_ckpt_skip){2 * i, 1};
    state.skips = skips;
    state.skip_count = 3000;
    run_step(&run, &state, 1000);
    assert_int_equal(trm_partner_wait(run.partner, NULL), TRM_OK);
    assert_int_equal(run.node.complete, 1);
    state = fixture_state(3);
    run_step(&run, &state, 1000);
    assert_int_equal(trm_partner_wait(run.partner, NULL), TRM_OK);
    assert_int_equal(run.node.complete, 3);
    close_run(&run);
    free(skips);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_is_the_state_before_the_optimizer_went_on),
        cmocka_unit_test(copies_are_as_far_apart_as_asked),
        cmocka_unit_test(an_interval_is_chosen_from_what_was_measured),
        cmocka_unit_test(a_rollback_is_copied_at_once_though_its_step_is_older),
        cmocka_unit_test(skips_without_room_leave_out_a_copy_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
