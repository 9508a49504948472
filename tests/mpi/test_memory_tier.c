/*
 * Copies in memory, and what is left of them when nodes are lost: any layout into any other, the
 * other copy where one is damaged or gone, an older step where both are.
 *
 * Ranks of this machine play several nodes: each node is a socket of its own with a pool of slots
 * behind it (slot_node.h), kept by its first rank over the attempts of a test. Long because every
 * loss starts from the same run.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/parallel/partner.h"
#include "checkpoint/parallel/recall.h"
#include "checkpoint/slot.h"
#include "slot_node.h"

/* The model and its cuts are those of the unit tests. */
#include "tests/unit/checkpoint/fixture.c"

#define LIMIT_BYTES ((int64_t)1 << 30)

/* This rank's place among the nodes of a test. */
struct place {
    struct trm_comm *world;
    int ranks_per_node, node, local_rank, local_size;
    char base[64], prefix[96], name[32];
    int64_t limit_bytes;
    struct slot_node *served; /* by the first rank of a node */
};

static struct place start_nodes(struct trm_comm *world, int ranks_per_node)
{
    struct place place = {
        .world = world, .ranks_per_node = ranks_per_node, .limit_bytes = LIMIT_BYTES};
    if (world->rank == 0) {
        strcpy(place.base, "/tmp/trm-nodes-XXXXXX");
        assert_non_null(mkdtemp(place.base));
    }
    trm_comm_broadcast(world, place.base, sizeof(place.base), 0, NULL, NULL);
    place.node = world->rank / ranks_per_node;
    place.local_rank = world->rank % ranks_per_node;
    int rest = world->size - place.node * ranks_per_node;
    place.local_size = rest < ranks_per_node ? rest : ranks_per_node;
    snprintf(place.name, sizeof(place.name), "n%d", place.node);
    snprintf(place.prefix, sizeof(place.prefix), "%s/%s", place.base, place.name);
    if (place.local_rank == 0)
        place.served = slot_node_start(place.prefix, place.limit_bytes);
    trm_comm_barrier(world, NULL, NULL);
    return place;
}

/* The node is lost with its slots, and another of its name takes its place. */
static void lose_node(struct place *place, int node)
{
    trm_comm_barrier(place->world, NULL, NULL);
    if (place->served != NULL && place->node == node) {
        slot_node_stop(place->served);
        place->served = slot_node_start(place->prefix, place->limit_bytes);
    }
    trm_comm_barrier(place->world, NULL, NULL);
}

static void stop_nodes(struct place *place)
{
    trm_comm_barrier(place->world, NULL, NULL);
    slot_node_stop(place->served);
    trm_comm_barrier(place->world, NULL, NULL);
    if (place->world->rank == 0)
        assert_int_equal(rmdir(place->base), 0); /* every node removed its own directory */
}

struct notes {
    int count;
    char text[8][700];
};

static void note(void *context, const char *path, const char *reason)
{
    struct notes *notes = context;
    if (notes->count < 8)
        snprintf(notes->text[notes->count], sizeof(notes->text[0]), "%s: %s", path, reason);
    notes->count++;
}

static bool told(struct trm_comm *world, const struct notes *notes, const char *a, const char *b)
{
    for (int i = 0; i < notes->count && i < 8; i++)
        if (strstr(notes->text[i], a) != NULL && strstr(notes->text[i], b) != NULL)
            return true;
    return world->rank != 0;
}

/* One start of the run on all ranks. */
struct attempt {
    struct place *place;
    struct trm_attach attach;
    struct trm_slot_keeper keeper;
    struct fixture_pieces mine; /* the live state */
    struct trm_partner *partner;
    int64_t complete; /* by the event */
    struct notes notes;
    struct trm_recall *recall;
};

static void on_event(void *context, const struct trm_partner_event *event)
{
    struct attempt *attempt = context;
    if (event->kind == TRM_PARTNER_COMPLETE)
        attempt->complete = event->step;
}

static bool begin_attempt(struct place *place, int number, struct attempt *attempt)
{
    struct trm_error err = {0};
    char text[16];
    *attempt = (struct attempt){.place = place, .complete = -1};
    snprintf(text, sizeof(text), "%d", number);
    setenv("TRIREME_RUNTIME", place->prefix, 1);
    setenv("TRIREME_ATTEMPT", text, 1);
    enum trm_status status =
        trm_attach_open(place->world->rank, place->local_rank, &attempt->attach, &err);
    attempt->keeper = trm_slot_keeper_of_agent(&attempt->attach);
    if (status != TRM_OK)
        fprintf(stderr, "%s\n", err.text);
    return status == TRM_OK;
}

static void end_attempt(struct attempt *attempt)
{
    trm_recall_close(attempt->recall);
    trm_partner_destroy(attempt->partner);
    fixture_pieces_free(&attempt->mine);
    trm_comm_barrier(attempt->place->world, NULL, NULL);
    trm_attach_close(&attempt->attach);
}

/* The live state becomes that of `step`. */
static void set_step(struct attempt *attempt, int64_t step)
{
    struct trm_comm *world = attempt->place->world;
    struct fixture_pieces next = fixture_pieces_of(1, world->size, world->rank, step);
    memcpy(attempt->mine.memory, next.memory, (size_t)next.elements * sizeof(float));
    fixture_pieces_free(&next);
}

/* Copies `step` at once, with both sets of slots ready behind it. */
static bool start_copies(struct attempt *attempt, int64_t step, int64_t interval)
{
    struct trm_comm *world = attempt->place->world;
    struct trm_ckpt_state state = fixture_state(step);
    struct trm_error err = {0};
    attempt->mine = fixture_pieces_of(1, world->size, world->rank, step);
    struct trm_partner_settings settings = {
        .world = world,
        .keeper = attempt->keeper,
        .node = attempt->place->name,
        .domain = attempt->place->name,
        .attempt = attempt->attach.attempt,
        .interval = interval,
        .state = &state,
        .tensors = fixture_tensors,
        .tensor_count = FIXTURE_TENSORS,
        .pieces = attempt->mine.pieces,
        .piece_count = attempt->mine.count,
        .event = on_event,
        .context = attempt,
    };
    enum trm_status status = trm_partner_create(&settings, &attempt->partner, &err);
    if (status == TRM_OK)
        status = trm_partner_start(attempt->partner, &state, &err);
    /* All that was there before is not needed any more. */
    if (status == TRM_OK && attempt->recall != NULL)
        trm_recall_keep_only(attempt->recall, NULL);
    trm_comm_barrier(world, NULL, NULL);
    if (status == TRM_OK)
        status = trm_partner_double(attempt->partner, &err);
    if (status == TRM_OK)
        status = attempt->keeper.settle(attempt->keeper.context, &err);
    if (status != TRM_OK)
        fprintf(stderr, "%s\n", err.text);
    return status == TRM_OK && trm_partner_step(attempt->partner) == step &&
           attempt->complete == step;
}

/* What the trainer does around its step: the state is that of `step` and becomes that of the next,
 * by an optimizer that waits for the copy alone. */
static bool run_step(struct attempt *attempt, int64_t step)
{
    struct trm_ckpt_state state = fixture_state(step);
    int64_t words[TRM_PARTNER_WORDS];
    struct trm_error err = {0};
    enum trm_status status = trm_partner_report(attempt->partner, 1000000, words, &err);
    if (status == TRM_OK)
        status = trm_comm_all_reduce(attempt->place->world, words, TRM_PARTNER_WORDS, TRM_MAX_I64,
                                     NULL, &err);
    if (status == TRM_OK)
        status = trm_partner_advance(attempt->partner, words, &state, &err);
    trm_partner_poll(attempt->partner);
    if (status == TRM_OK)
        status = trm_partner_join(attempt->partner, &err);
    set_step(attempt, step + 1);
    return status == TRM_OK;
}

/* Looks at what earlier attempts left. */
static bool open_recall(struct attempt *attempt)
{
    struct trm_error err = {0};
    struct place *place = attempt->place;
    struct trm_recall_settings settings = {
        .comm = place->world,
        .keeper = attempt->keeper,
        .node = place->name,
        .node_id = (uint64_t)place->node,
        .passed_over = note,
        .context = &attempt->notes,
    };
    enum trm_status status = trm_recall_open(&settings, &attempt->recall, &err);
    if (status != TRM_OK)
        fprintf(stderr, "%s\n", err.text);
    return status == TRM_OK;
}

/* Loads a step into a layout; true when all ranks got exactly its values. */
static enum trm_status load(struct attempt *attempt, const struct trm_recall_step *step,
                            int tensor_size, int data_size, bool *right)
{
    struct trm_comm *world = attempt->place->world;
    struct trm_error err = {0};
    char text[128];
    struct trm_checkpoint *checkpoint = NULL;
    struct fixture_pieces wanted =
        fixture_pieces_of(tensor_size, data_size, world->rank % (tensor_size * data_size), -1);
    enum trm_status status = trm_recall_step_open(attempt->recall, step, &checkpoint, &err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(world, checkpoint, wanted.pieces, wanted.count, NULL, &err);
    *right = status == TRM_OK && fixture_wrong(&wanted, step->step, text) == NULL &&
             trm_checkpoint_catalog(checkpoint)->state.step == step->step &&
             trm_checkpoint_catalog(checkpoint)->state.next_sample == step->step * 8;
    trm_checkpoint_close(checkpoint);
    fixture_pieces_free(&wanted);
    return status;
}

static bool is_newest(const struct attempt *attempt, int64_t step, struct trm_recall_step *out)
{
    return trm_recall_newest(attempt->recall, NULL, INT64_MAX, out) && out->step == step;
}

static int ranks_per_node_of(const struct trm_comm *world)
{
    return world->size <= 2 ? 1 : 2;
}

static void the_newest_step_is_restored_at_any_layout(void **state)
{
    static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}, {3, 1}, {1, 4}};
    struct trm_comm *world = *state;
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 10, 1);
    for (int64_t s = 10; s < 15; s++)
        ok = run_step(&attempt, s) && ok;
    ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
    assert_on_all_ranks(world, ok && attempt.complete >= 12);
    int64_t newest = trm_partner_step(attempt.partner);
    end_attempt(&attempt);

    ok = begin_attempt(&place, 2, &attempt) && open_recall(&attempt);
    assert_on_all_ranks(world, ok && is_newest(&attempt, newest, &step) && step.attempt == 1);
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        enum trm_status status = load(&attempt, &step, layouts[i][0], layouts[i][1], &ok);
        assert_on_all_ranks(world, status == TRM_OK && ok);
    }
    /* With all of the model on one node everything is read there. */
    int64_t own = 0, peers = 0;
    trm_recall_bytes(attempt.recall, &own, &peers);
    assert_on_all_ranks(world, own > 0 && attempt.notes.count == 0);
    /* An older one is still there: for going back behind a bad step. */
    assert_on_all_ranks(world, trm_recall_newest(attempt.recall, "run-a1b2", newest, &step) &&
                                   step.step < newest);
    assert_on_all_ranks(world, load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    assert_on_all_ranks(world, !trm_recall_newest(attempt.recall, "another", INT64_MAX, &step));
    end_attempt(&attempt);
    stop_nodes(&place);
}

static void four_slots_for_each_rank_are_enough_over_attempts(void **state)
{
    struct trm_comm *world = *state;
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    int fds[TRM_ATTACH_MAX_FDS], count = 0, total = 0;
    bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 1, 1);
    /* What one attempt took is all that its node gives from now on. */
    trm_comm_barrier(world, NULL, NULL);
    ok = attempt.keeper.list(attempt.keeper.context, 0, fds, &count, &total, &place.limit_bytes,
                             NULL) == TRM_OK &&
         ok;
    while (count > 0)
        close(fds[--count]);
    int expected = place.served != NULL ? slot_node_slots(place.served) : 0;
    assert_on_all_ranks(world, ok);
    end_attempt(&attempt);
    lose_node(&place, place.node);
    for (int number = 1; number <= 4; number++) {
        ok = begin_attempt(&place, number, &attempt) && open_recall(&attempt);
        if (number > 1) {
            ok = is_newest(&attempt, number * 10 - 9, &step) && ok;
            trm_recall_keep_only(attempt.recall, &step);
            trm_comm_barrier(world, NULL, NULL);
        }
        ok = start_copies(&attempt, number * 10, 1) && run_step(&attempt, number * 10) && ok;
        ok = run_step(&attempt, number * 10 + 1) && ok; /* and dies with that one on its way */
        ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
        trm_comm_barrier(world, NULL, NULL);
        if (place.served != NULL)
            ok = slot_node_slots(place.served) == expected && ok;
        if (place.served != NULL && world->size == 4)
            ok = expected == 4 * place.local_size && ok;
        assert_on_all_ranks(world, ok);
        end_attempt(&attempt);
    }
    /* A run without copies gives everything back. */
    ok = begin_attempt(&place, 9, &attempt) &&
         attempt.keeper.settle(attempt.keeper.context, NULL) == TRM_OK;
    trm_comm_barrier(world, NULL, NULL);
    ok = (place.served == NULL || slot_node_slots(place.served) == 0) && ok;
    assert_on_all_ranks(world, ok);
    end_attempt(&attempt);
    stop_nodes(&place);
}

static void any_one_node_may_be_lost(void **state)
{
    struct trm_comm *world = *state;
    if (world->size == 1)
        skip(); /* one rank is one node */
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct trm_recall_step step;
    int nodes = (world->size + place.ranks_per_node - 1) / place.ranks_per_node;
    for (int lost = 0; lost < nodes; lost++) {
        struct attempt attempt;
        bool ok = begin_attempt(&place, 2 * lost + 1, &attempt) && start_copies(&attempt, 20, 1);
        assert_on_all_ranks(world, ok);
        end_attempt(&attempt);
        lose_node(&place, lost);
        ok = begin_attempt(&place, 2 * lost + 2, &attempt) && open_recall(&attempt);
        assert_on_all_ranks(world, ok && is_newest(&attempt, 20, &step));
        assert_on_all_ranks(world, load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
        int64_t own = 0, peers = 0;
        trm_recall_bytes(attempt.recall, &own, &peers);
        assert_on_all_ranks(world, own > 0 && peers > 0);
        end_attempt(&attempt);
    }
    stop_nodes(&place);
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
        struct place place = start_nodes(world, ranks_per_node_of(world));
        struct attempt attempt;
        struct trm_recall_step step;
        bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 20, 1);
        int64_t damaged = damage(&attempt, world->size - 1, copy, 20);
        trm_comm_all_reduce(world, &damaged, 1, TRM_SUM_I64, NULL, NULL);
        assert_on_all_ranks(world, ok && damaged == 1);
        end_attempt(&attempt);
        ok = begin_attempt(&place, 2, &attempt) && open_recall(&attempt);
        assert_on_all_ranks(world, ok && is_newest(&attempt, 20, &step));
        /* Every rank reads everything, from the copy of its own node first. */
        assert_on_all_ranks(world, load(&attempt, &step, 1, 1, &ok) == TRM_OK && ok);
        char whose[64];
        snprintf(whose, sizeof(whose), "%s of rank %d's shard",
                 copy == TRM_SLOT_OWN ? "own copy" : "partner's copy", world->size - 1);
        assert_on_all_ranks(world, told(world, &attempt.notes, whose, "exp_avg of"));
        end_attempt(&attempt);
        stop_nodes(&place);
    }
}

static void with_both_copies_damaged_the_step_before_is_used(void **state)
{
    struct trm_comm *world = *state;
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 20, 1);
    set_step(&attempt, 21);
    ok = run_step(&attempt, 21) && ok;
    ok = trm_partner_wait(attempt.partner, NULL) == TRM_OK && ok;
    int64_t damaged = damage(&attempt, 0, TRM_SLOT_OWN, 21) +
                      (world->size > 1 ? damage(&attempt, 0, TRM_SLOT_PARTNER, 21) : 0);
    trm_comm_all_reduce(world, &damaged, 1, TRM_SUM_I64, NULL, NULL);
    assert_on_all_ranks(world, ok && damaged == (world->size > 1 ? 2 : 1));
    end_attempt(&attempt);
    ok = begin_attempt(&place, 2, &attempt) && open_recall(&attempt);
    assert_on_all_ranks(world, ok && is_newest(&attempt, 21, &step));
    assert_on_all_ranks(world,
                        load(&attempt, &step, 1, world->size, &ok) == TRM_ERR_CORRUPT && !ok);
    assert_on_all_ranks(world, told(world, &attempt.notes, "rank 0's shard", "exp_avg of"));
    assert_on_all_ranks(world,
                        trm_recall_newest(attempt.recall, NULL, 21, &step) && step.step == 20);
    assert_on_all_ranks(world, load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    end_attempt(&attempt);
    stop_nodes(&place);
}

static void a_node_and_its_partner_lost_together_are_named(void **state)
{
    struct trm_comm *world = *state;
    if (world->size < 3)
        skip(); /* nothing would be left to name them */
    struct place place = start_nodes(world, 1);
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 20, 1);
    assert_on_all_ranks(world, ok);
    end_attempt(&attempt);
    lose_node(&place, 1);
    lose_node(&place, 2);
    ok = begin_attempt(&place, 2, &attempt) && open_recall(&attempt);
    assert_on_all_ranks(world, ok && !is_newest(&attempt, 20, &step));
    assert_on_all_ranks(world, told(world, &attempt.notes, "step 20 in memory: the shards of 1 of",
                                    "rank 1, which was on n1, and its copy on n2"));
    end_attempt(&attempt);
    stop_nodes(&place);
}

/* A second failure while the first is being recovered from: the first copies of attempt 2 are
 * half done. */
static void a_failure_during_recovery_leaves_what_was_there(void **state)
{
    struct trm_comm *world = *state;
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct attempt attempt;
    struct trm_recall_step step;
    bool ok = begin_attempt(&place, 1, &attempt) && start_copies(&attempt, 20, 1);
    end_attempt(&attempt);
    ok = begin_attempt(&place, 2, &attempt) && open_recall(&attempt) && ok;
    assert_on_all_ranks(world, ok && is_newest(&attempt, 20, &step));
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
    end_attempt(&attempt);

    ok = begin_attempt(&place, 3, &attempt) && open_recall(&attempt);
    assert_on_all_ranks(world, ok && is_newest(&attempt, 20, &step) && step.attempt == 1);
    assert_on_all_ranks(world, load(&attempt, &step, 1, world->size, &ok) == TRM_OK && ok);
    end_attempt(&attempt);
    stop_nodes(&place);
}

static void without_room_at_a_node_all_ranks_hear_of_it(void **state)
{
    struct trm_comm *world = *state;
    struct place place = start_nodes(world, ranks_per_node_of(world));
    struct attempt attempt;
    bool ok = begin_attempt(&place, 1, &attempt);
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
    end_attempt(&attempt);
    stop_nodes(&place);
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
        cmocka_unit_test(without_room_at_a_node_all_ranks_hear_of_it),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
