/*
 * Finding what attempts before this one left in the memory of nodes, and restoring from it.
 *
 * Each rank looks through the slots of its node (keeper.h) and speaks for its share of them; all
 * learn what there is. A step can be restored when a sound slot of every rank that wrote it is
 * there, its own copy or its partner's, on whichever nodes. Steps are tried newest first, of the
 * newest lineage first; what is passed over is named.
 *
 * A step is opened as a checkpoint (load.h), for any layout. Loading takes each slice from this
 * node's slots, or else asks a rank of a node that has it; checksums are taken where the slice is
 * read and again where it arrives. A slice that fails is struck off, named, and taken from the
 * other copy; when none is left the load fails (TRM_ERR_CORRUPT), for all ranks, and the caller
 * tries an older step, or the disk. (Slices of a disk's checkpoint are not mixed with those of a
 * memory's: a disk's is whole by itself, and of the same step just as good.)
 *
 * Slots stay as they are until the caller says which to keep: first those of the step that was
 * restored, and once that is copied anew, none. Memory: tables of 80 bytes for each slice of the
 * step that is opened, and 32 MiB while loading. One thread.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_RECALL_H
#define TRM_CHECKPOINT_PARALLEL_RECALL_H

#include "checkpoint/parallel/keeper.h"
#include "checkpoint/parallel/load.h"

struct trm_recall;

struct trm_recall_settings {
    struct trm_comm *comm; /* borrowed */
    struct trm_slot_keeper keeper;
    const char *node;               /* the name of this one, for messages */
    uint64_t node_id;               /* equal for ranks with the same keeper, and for no others */
    trm_passed_over_fn passed_over; /* called on rank 0; `path` says which memory */
    void *context;
};

/* Collective; agreed. Looks at heads and tables; the data is not read. *out is returned owned. */
enum trm_status trm_recall_open(const struct trm_recall_settings *settings, struct trm_recall **out,
                                struct trm_error *err);

struct trm_recall_step {
    char run_id[TRM_CKPT_RUN_ID_BYTES];
    int64_t lineage, step;
    int64_t attempt; /* that copied it: its ranks may have been others than those of the next */
};

/* Not collective, but the same on all ranks. The newest step that can be restored: of run `run_id`
 * (NULL: of the one that was tried last), before step `below` (INT64_MAX: any). Newer ones that are
 * incomplete are told on rank 0. False when there is none. */
bool trm_recall_newest(const struct trm_recall *recall, const char *run_id, int64_t below,
                       struct trm_recall_step *out);

/* Slots that were found to hold something, sound or not, on all nodes. */
int64_t trm_recall_slot_count(const struct trm_recall *recall);

/* Not collective, but made by all ranks alike. What could not be loaded is not named again. */
void trm_recall_pass_over(struct trm_recall *recall, const struct trm_recall_step *step);

/* Bytes of all slots that this node's keeper holds, whatever is in them. */
int64_t trm_recall_held_bytes(const struct trm_recall *recall);

/* Collective; agreed. Opens a step that trm_recall_newest named; to be closed before `recall` is.
 * *out is returned owned. */
enum trm_status trm_recall_step_open(struct trm_recall *recall, const struct trm_recall_step *step,
                                     struct trm_checkpoint **out, struct trm_error *err);

/* Bytes that the loads of such a checkpoint took so far, from nodes' own slots and over the
 * network; of all ranks together. */
void trm_recall_bytes(const struct trm_recall *recall, int64_t *own_node, int64_t *peers);

/* Not collective. Of this rank's share of the slots that were found, all that do not hold `step`
 * (NULL: all) are free from now on: whoever takes one of them may keep it, whatever comes next. */
void trm_recall_keep_only(struct trm_recall *recall, const struct trm_recall_step *step);

/* Not collective. Takes NULL. */
void trm_recall_close(struct trm_recall *recall);

#endif
