/*
 * Copies in memory, and what is left of them when nodes are lost: any layout into any other, the
 * other copy where one is damaged or gone, an older step where both are.
 */
#include "memory_attempt.h"

#include <string.h>
#include <unistd.h>

static int ranks_per_node_of(const struct trm_comm *world)
{
    return world->size <= 2 ? 1 : 2;
}

static void the_newest_step_is_restored_at_any_layout(void **state)
{
    static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}, {3, 1}, {1, 4}};
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 10, 1);
    /* Steps that take no time: the copy of the first that is due may travel during all of them. */
    for (int64_t s = 10; s < 15; s++)
        ok = memory_attempt_step(&attempt, s) && ok;
    ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
    assert_on_all_ranks(world, ok && attempt.complete >= 11 && attempt.complete <= 14);
    ok = memory_attempt_step(&attempt, 15) && trm_partner_wait(attempt.partner, NULL) == TRM_OK;
    assert_on_all_ranks(world, ok && attempt.complete == 15);
    int64_t newest = trm_partner_step(attempt.partner);
    memory_attempt_end(&attempt);

    ok = memory_attempt_begin(&place, 2, &attempt) && memory_attempt_recall(&attempt);
    assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, newest, &step) &&
                                   step.attempt == 1);
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        enum trm_status status =
            memory_attempt_load(&attempt, &step, layouts[i][0], layouts[i][1], &ok);
        assert_on_all_ranks(world, status == TRM_OK && ok);
    }
    /* With all of the model on one node everything is read there. */
    int64_t own = 0, peers = 0;
    trm_recall_bytes(attempt.recall, &own, &peers);
    assert_on_all_ranks(world, own > 0 && attempt.notes.count == 0);
    /* An older one is still there: for going back behind a bad step. */
    assert_on_all_ranks(world, trm_recall_newest(attempt.recall, "run-a1b2", newest, &step) &&
                                   step.step < newest);
    assert_on_all_ranks(world,
                        memory_attempt_load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    assert_on_all_ranks(world, !trm_recall_newest(attempt.recall, "another", INT64_MAX, &step));
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

static void four_slots_for_each_rank_are_enough_over_attempts(void **state)
{
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    int fds[TRM_ATTACH_MAX_FDS], count = 0, total = 0;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 1, 1);
    /* What one attempt took is all that its node gives from now on. */
    trm_comm_barrier(world, NULL, NULL);
    ok = attempt.keeper.list(attempt.keeper.context, 0, fds, &count, &total, &place.limit_bytes,
                             NULL) == TRM_OK &&
         ok;
    while (count > 0)
        close(fds[--count]);
    int expected = place.served != NULL ? slot_node_slots(place.served) : 0;
    assert_on_all_ranks(world, ok);
    memory_attempt_end(&attempt);
    memory_nodes_lose(&place, place.node);
    for (int number = 1; number <= 4; number++) {
        ok = memory_attempt_begin(&place, number, &attempt) && memory_attempt_recall(&attempt);
        if (number > 1) {
            ok = memory_attempt_newest_is(&attempt, number * 10 - 9, &step) && ok;
            trm_recall_keep_only(attempt.recall, &step);
            trm_comm_barrier(world, NULL, NULL);
        }
        ok = memory_attempt_copy(&attempt, number * 10, 1) &&
             memory_attempt_step(&attempt, number * 10) && ok;
        ok = memory_attempt_step(&attempt, number * 10 + 1) &&
             ok; /* and dies with that one on its way */
        ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
        trm_comm_barrier(world, NULL, NULL);
        if (place.served != NULL)
            ok = slot_node_slots(place.served) == expected && ok;
        if (place.served != NULL && world->size == 4)
            ok = expected == 4 * place.local_size && ok;
        assert_on_all_ranks(world, ok);
        memory_attempt_end(&attempt);
    }
    /* A run without copies gives everything back. */
    ok = memory_attempt_begin(&place, 9, &attempt) &&
         attempt.keeper.settle(attempt.keeper.context, NULL) == TRM_OK;
    trm_comm_barrier(world, NULL, NULL);
    ok = (place.served == NULL || slot_node_slots(place.served) == 0) && ok;
    assert_on_all_ranks(world, ok);
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

static void any_one_node_may_be_lost(void **state)
{
    struct trm_comm *world = *state;
    if (world->size == 1)
        skip(); /* one rank is one node */
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct trm_recall_step step;
    int nodes = (world->size + place.ranks_per_node - 1) / place.ranks_per_node;
    for (int lost = 0; lost < nodes; lost++) {
        struct attempt attempt;
        bool ok = memory_attempt_begin(&place, 2 * lost + 1, &attempt) &&
                  memory_attempt_copy(&attempt, 20, 1);
        assert_on_all_ranks(world, ok);
        memory_attempt_end(&attempt);
        memory_nodes_lose(&place, lost);
        ok =
            memory_attempt_begin(&place, 2 * lost + 2, &attempt) && memory_attempt_recall(&attempt);
        assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, 20, &step));
        assert_on_all_ranks(
            world, memory_attempt_load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
        int64_t own = 0, peers = 0;
        trm_recall_bytes(attempt.recall, &own, &peers);
        assert_on_all_ranks(world, own > 0 && peers > 0);
        memory_attempt_end(&attempt);
    }
    memory_nodes_stop(&place);
}

/* Flips a bit in the data of each slot of `writer` and `copy` that this rank's node holds. */
static int damage(struct attempt *attempt, int writer, int copy, int64_t step)
{
    int fds[TRM_ATTACH_MAX_FDS], count = 0, total = 0, damaged = 0;
    int64_t bytes = 0;
    if (attempt->place->local_rank != 0)
        return 0;
    attempt->keeper.list(attempt->keeper.context, 0, fds, &count, &total, &bytes, NULL);
    for (int i = 0; i < count; i++) {
        struct trm_slot slot = {0};
        struct trm_slot_layout layout;
        if (trm_slot_map(fds[i], false, &slot, NULL) == TRM_OK &&
            trm_slot_check(&slot, &layout, NULL) == TRM_OK) {
            struct trm_slot_head *head = trm_slot_head(&slot);
            if (head->key.writer == writer && head->copy == copy && head->key.step == step) {
                slot.memory[layout.data[TRM_KIND_EXP_AVG].offset + 5] ^= 4;
                damaged++;
            }
        }
        trm_slot_unmap(&slot);
        close(fds[i]);
    }
    return damaged;
}

static void a_damaged_copy_is_named_and_the_other_one_used(void **state)
{
    struct trm_comm *world = *state;
    if (world->size == 1)
        skip();
    for (int copy = 0; copy < 2; copy++) {
        struct place place = memory_nodes_start(world, ranks_per_node_of(world));
        struct attempt attempt;
        struct trm_recall_step step;
        bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 20, 1);
        int64_t damaged = damage(&attempt, world->size - 1, copy, 20);
        trm_comm_all_reduce(world, &damaged, 1, TRM_SUM_I64, NULL, NULL);
        assert_on_all_ranks(world, ok && damaged == 1);
        memory_attempt_end(&attempt);
        ok = memory_attempt_begin(&place, 2, &attempt) && memory_attempt_recall(&attempt);
        assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, 20, &step));
        /* Every rank reads everything, from the copy of its own node first. */
        assert_on_all_ranks(world, memory_attempt_load(&attempt, &step, 1, 1, &ok) == TRM_OK && ok);
        char whose[64];
        snprintf(whose, sizeof(whose), "%s of rank %d's shard",
                 copy == TRM_SLOT_OWN ? "own copy" : "partner's copy", world->size - 1);
        assert_on_all_ranks(world, memory_attempt_told(world, &attempt.notes, whose, "exp_avg of"));
        memory_attempt_end(&attempt);
        memory_nodes_stop(&place);
    }
}

static void with_both_copies_damaged_the_step_before_is_used(void **state)
{
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 20, 1);
    memory_attempt_set(&attempt, 21);
    ok = memory_attempt_step(&attempt, 21) && ok;
    ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
    int64_t damaged = damage(&attempt, 0, TRM_SLOT_OWN, 21) +
                      (world->size > 1 ? damage(&attempt, 0, TRM_SLOT_PARTNER, 21) : 0);
    trm_comm_all_reduce(world, &damaged, 1, TRM_SUM_I64, NULL, NULL);
    assert_on_all_ranks(world, ok && damaged == (world->size > 1 ? 2 : 1));
    memory_attempt_end(&attempt);
    ok = memory_attempt_begin(&place, 2, &attempt) && memory_attempt_recall(&attempt);
    assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, 21, &step));
    assert_on_all_ranks(
        world, memory_attempt_load(&attempt, &step, 1, world->size, &ok) == TRM_ERR_CORRUPT && !ok);
    assert_on_all_ranks(world,
                        memory_attempt_told(world, &attempt.notes, "rank 0's shard", "exp_avg of"));
    assert_on_all_ranks(world,
                        trm_recall_newest(attempt.recall, NULL, 21, &step) && step.step == 20);
    assert_on_all_ranks(world,
                        memory_attempt_load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

static void a_node_and_its_partner_lost_together_are_named(void **state)
{
    struct trm_comm *world = *state;
    if (world->size < 3)
        skip(); /* nothing would be left to name them */
    struct place place = memory_nodes_start(world, 1);
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 20, 1);
    assert_on_all_ranks(world, ok);
    memory_attempt_end(&attempt);
    memory_nodes_lose(&place, 1);
    memory_nodes_lose(&place, 2);
    ok = memory_attempt_begin(&place, 2, &attempt) && memory_attempt_recall(&attempt);
    assert_on_all_ranks(world, ok && !memory_attempt_newest_is(&attempt, 20, &step));
    assert_on_all_ranks(world, memory_attempt_told(world, &attempt.notes,
                                                   "step 20 in memory: the shards of 1 of",
                                                   "rank 1, which was on n1, and its copy on n2"));
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

/* A second failure while the first is being recovered from: the first copies of attempt 2 are
 * half done. */
static void a_failure_during_recovery_leaves_what_was_there(void **state)
{
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 20, 1);
    memory_attempt_end(&attempt);
    ok = memory_attempt_begin(&place, 2, &attempt) && memory_attempt_recall(&attempt) && ok;
    assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, 20, &step));
    trm_recall_keep_only(attempt.recall, &step);
    /* All but the last rank copy step 20 anew, in another division of the ranks. */
    int fd = -1;
    struct trm_slot_form form = {0};
    struct trm_slice_set live = {0};
    struct trm_slot slot = {0};
    struct trm_ckpt_state now = fixture_state(20);
    struct trm_catalog catalog = {.state = now,
                                  .tensor_count = FIXTURE_TENSORS,
                                  .tensors = (struct trm_ckpt_tensor *)fixture_tensors,
                                  .shard_count = world->size + 1,
                                  .kinds = {true, true, true}};
    attempt.mine = fixture_pieces_of(1, world->size + 1, world->rank, -1);
    ok = trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, attempt.mine.pieces,
                           attempt.mine.count, &live, NULL) == TRM_OK &&
         trm_slot_form_create(&catalog, &live, "", 0, world->rank, world->size + 1, 2, &form,
                              NULL) == TRM_OK &&
         attempt.keeper.take(attempt.keeper.context, form.layout.image_bytes, 1, &fd, NULL) ==
             TRM_OK &&
         trm_slot_map(fd, true, &slot, NULL) == TRM_OK;
    if (ok) {
        trm_slot_begin(&slot, &form, &now);
        trm_slot_fill(&slot, &form);
        close(fd);
    }
    trm_slot_unmap(&slot);
    trm_slot_form_destroy(&form);
    trm_slice_set_destroy(&live);
    assert_on_all_ranks(world, ok);
    memory_attempt_end(&attempt);

    ok = memory_attempt_begin(&place, 3, &attempt) && memory_attempt_recall(&attempt);
    assert_on_all_ranks(world,
                        ok && memory_attempt_newest_is(&attempt, 20, &step) && step.attempt == 1);
    assert_on_all_ranks(world,
                        memory_attempt_load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

/* As it is wherever copies are taken more seldom than at each step: both of the last attempt's are
 * whole, the older one's slots are used again at once, and the first copies are in those. */
static void the_first_copies_of_an_attempt_are_there_for_the_next(void **state)
{
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = memory_attempt_begin(&place, 1, &attempt) && memory_attempt_copy(&attempt, 20, 1);
    memory_attempt_set(&attempt, 21);
    ok = memory_attempt_step(&attempt, 21) && ok;
    ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
    assert_on_all_ranks(world, ok && trm_partner_step(attempt.partner) == 21);
    memory_attempt_end(&attempt);
    for (int number = 2; number <= 4; number++) {
        ok = memory_attempt_begin(&place, number, &attempt) && memory_attempt_recall(&attempt);
        assert_on_all_ranks(world, ok && memory_attempt_newest_is(&attempt, 21, &step) &&
                                       step.attempt == number - 1);
        trm_recall_keep_only(attempt.recall, &step);
        trm_comm_barrier(world, NULL, NULL);
        ok = memory_attempt_copy(&attempt, 21, 1);
        assert_on_all_ranks(world, ok);
        memory_attempt_end(&attempt);
    }
    memory_nodes_stop(&place);
}

static void without_room_at_a_node_all_ranks_hear_of_it(void **state)
{
    struct trm_comm *world = *state;
    struct place place = memory_nodes_start(world, ranks_per_node_of(world));
    struct attempt attempt;
    bool ok = memory_attempt_begin(&place, 1, &attempt);
    struct trm_ckpt_state now = fixture_state(1);
    struct trm_error err = {0};
    int fds[1];
    if (ok && world->rank == 0) {
        ok =
            attempt.keeper.take(attempt.keeper.context, LIMIT_BYTES - 4096, 1, fds, &err) == TRM_OK;
        close(fds[0]);
    }
    trm_comm_barrier(world, NULL, NULL);
    attempt.mine = fixture_pieces_of(1, world->size, world->rank, 1);
    struct trm_partner_settings settings = {
        .world = world,
        .keeper = attempt.keeper,
        .node = place.name,
        .domain = place.name,
        .attempt = 1,
        .interval = 1,
        .state = &now,
        .tensors = fixture_tensors,
        .tensor_count = FIXTURE_TENSORS,
        .pieces = attempt.mine.pieces,
        .piece_count = attempt.mine.count,
    };
    enum trm_status status = trm_partner_create(&settings, &attempt.partner, &err);
    assert_on_all_ranks(world, ok && status == TRM_ERR_UNSUPPORTED &&
                                   strstr(err.text, "this node's limit is 1 GiB") != NULL);
    memory_attempt_end(&attempt);
    memory_nodes_stop(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_step_is_restored_at_any_layout),
        cmocka_unit_test(four_slots_for_each_rank_are_enough_over_attempts),
        cmocka_unit_test(any_one_node_may_be_lost),
        cmocka_unit_test(a_damaged_copy_is_named_and_the_other_one_used),
        cmocka_unit_test(with_both_copies_damaged_the_step_before_is_used),
        cmocka_unit_test(a_node_and_its_partner_lost_together_are_named),
        cmocka_unit_test(a_failure_during_recovery_leaves_what_was_there),
        cmocka_unit_test(the_first_copies_of_an_attempt_are_there_for_the_next),
        cmocka_unit_test(without_room_at_a_node_all_ranks_hear_of_it),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
