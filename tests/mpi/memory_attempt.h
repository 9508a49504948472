/*
 * Attempts of one run whose copies lie in the memory of several nodes, all on this machine: each
 * node is a socket of its own with a pool of slots behind it (slot_node.h), kept by its first rank
 * over the attempts of a test. The model and its cuts are those of the unit tests of checkpoints.
 * Collective over the ranks of `world` unless said otherwise; false: the reason is on standard
 * error.
 */
#ifndef TRM_TESTS_MPI_MEMORY_ATTEMPT_H
#define TRM_TESTS_MPI_MEMORY_ATTEMPT_H

#include "world.h"

#include "checkpoint/parallel/partner.h"
#include "checkpoint/parallel/recall.h"
#include "checkpoint/slot.h"
#include "slot_node.h"
#include "tests/unit/checkpoint/fixture.h"

#define LIMIT_BYTES ((int64_t)1 << 30)

/* This rank's place among the nodes of a test. */
struct place {
    struct trm_comm *world;
    int ranks_per_node, node, local_rank, local_size;
    char base[64], prefix[96], name[32];
    int64_t limit_bytes;
    struct slot_node *served; /* by the first rank of a node */
};

struct notes {
    int count;
    char text[8][700];
};

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

struct place memory_nodes_start(struct trm_comm *world, int ranks_per_node);

/* The node is lost with its slots, and another of its name takes its place. */
void memory_nodes_lose(struct place *place, int node);

void memory_nodes_stop(struct place *place);

bool memory_attempt_told(struct trm_comm *world, const struct notes *notes, const char *a,
                         const char *b);

bool memory_attempt_begin(struct place *place, int number, struct attempt *attempt);

void memory_attempt_end(struct attempt *attempt);

/* The live state becomes that of `step`. */
void memory_attempt_set(struct attempt *attempt, int64_t step);

/* Copies `step` at once, with both sets of slots ready behind it. */
bool memory_attempt_copy(struct attempt *attempt, int64_t step, int64_t interval);

/* What the trainer does around its step: the state is that of `step` and becomes that of the next,
 * by an optimizer that waits for the copy alone. */
bool memory_attempt_step(struct attempt *attempt, int64_t step);

/* Looks at what earlier attempts left. */
bool memory_attempt_recall(struct attempt *attempt);

/* Loads a step into a layout; true when all ranks got exactly its values. */
enum trm_status memory_attempt_load(struct attempt *attempt, const struct trm_recall_step *step,
                                    int tensor_size, int data_size, bool *right);

bool memory_attempt_newest_is(const struct attempt *attempt, int64_t step,
                              struct trm_recall_step *out);

#endif
