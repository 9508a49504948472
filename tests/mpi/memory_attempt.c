#include "memory_attempt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct place memory_nodes_start(struct trm_comm *world, int ranks_per_node)
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
void memory_nodes_lose(struct place *place, int node)
{
    trm_comm_barrier(place->world, NULL, NULL);
    if (place->served != NULL && place->node == node) {
        slot_node_stop(place->served);
        place->served = slot_node_start(place->prefix, place->limit_bytes);
    }
    trm_comm_barrier(place->world, NULL, NULL);
}

void memory_nodes_stop(struct place *place)
{
    trm_comm_barrier(place->world, NULL, NULL);
    slot_node_stop(place->served);
    trm_comm_barrier(place->world, NULL, NULL);
    if (place->world->rank == 0)
        assert_int_equal(rmdir(place->base), 0); /* every node removed its own directory */
}

static void note(void *context, const char *path, const char *reason)
{
    struct notes *notes = context;
    if (notes->count < 8)
        snprintf(notes->text[notes->count], sizeof(notes->text[0]), "%s: %s", path, reason);
    notes->count++;
}

bool memory_attempt_told(struct trm_comm *world, const struct notes *notes, const char *a,
                         const char *b)
{
    for (int i = 0; i < notes->count && i < 8; i++)
        if (strstr(notes->text[i], a) != NULL && strstr(notes->text[i], b) != NULL)
            return true;
    return world->rank != 0;
}

static void on_event(void *context, const struct trm_partner_event *event)
{
    struct attempt *attempt = context;
    if (event->kind == TRM_PARTNER_COMPLETE)
        attempt->complete = event->step;
}

bool memory_attempt_begin(struct place *place, int number, struct attempt *attempt)
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

void memory_attempt_end(struct attempt *attempt)
{
    trm_recall_close(attempt->recall);
    trm_partner_destroy(attempt->partner);
    fixture_pieces_free(&attempt->mine);
    trm_comm_barrier(attempt->place->world, NULL, NULL);
    trm_attach_close(&attempt->attach);
}

/* The live state becomes that of `step`. */
void memory_attempt_set(struct attempt *attempt, int64_t step)
{
    struct trm_comm *world = attempt->place->world;
    struct fixture_pieces next = fixture_pieces_of(1, world->size, world->rank, step);
    memcpy(attempt->mine.memory, next.memory, (size_t)next.elements * sizeof(float));
    fixture_pieces_free(&next);
}

/* Copies `step` at once, with both sets of slots ready behind it. */
bool memory_attempt_copy(struct attempt *attempt, int64_t step, int64_t interval)
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
bool memory_attempt_step(struct attempt *attempt, int64_t step)
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
    memory_attempt_set(attempt, step + 1);
    return status == TRM_OK;
}

/* Looks at what earlier attempts left. */
bool memory_attempt_recall(struct attempt *attempt)
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
enum trm_status memory_attempt_load(struct attempt *attempt, const struct trm_recall_step *step,
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

bool memory_attempt_newest_is(const struct attempt *attempt, int64_t step,
                              struct trm_recall_step *out)
{
    return trm_recall_newest(attempt->recall, NULL, INT64_MAX, out) && out->step == step;
}
