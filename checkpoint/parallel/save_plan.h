/*
 * What all saves of a run have in common: tensors, this rank's slices, the shard that they go into,
 * and how large it all is.
 *
 * Made once, collectively; everything that can be found wrong before a byte is written is found
 * here. Rank 0 also holds the slice tables of all shards, for the view (64 bytes per slice).
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVE_PLAN_H
#define TRM_CHECKPOINT_PARALLEL_SAVE_PLAN_H

#include "base/file.h"
#include "checkpoint/parallel/shard_group.h"
#include "collectives/comm.h"

struct trm_save_plan {
    char directory[TRM_PATH_BYTES];
    int rank, size;
    int tensor_count;
    struct trm_ckpt_tensor *tensors; /* owned */
    struct trm_shard_group group;    /* owned */
    struct trm_slice_set live;    /* owned, as the shard has it; data lies in the caller's pieces */
    int64_t my_bytes;             /* of this rank's slices */
    int64_t total_bytes;          /* of all ranks' slices and tables */
    struct trm_slice *all_slices; /* owned, on rank 0: all shards' tables; without checksums */
};

/* What a plan is made from; all borrowed. */
struct trm_save_plan_settings {
    const char *directory;
    const struct trm_ckpt_tensor *tensors; /* equal on all ranks */
    int tensor_count;
    const struct trm_ckpt_piece *pieces;
    int piece_count;
    uint64_t node;        /* of this rank: tells machines apart */
    int shard_group_size; /* equal on all ranks */
};

/* Collective; agreed. Copies the tensors; borrows the pieces' data. The pieces of all ranks cover
 * every tensor in every kind exactly once, else TRM_ERR_INTERNAL naming the tensor. To be destroyed
 * by the caller; written on success alone. */
enum trm_status trm_save_plan_create(struct trm_comm *comm,
                                     const struct trm_save_plan_settings *settings,
                                     struct trm_save_plan *out, struct trm_error *err);
void trm_save_plan_destroy(struct trm_save_plan *plan); /* what it owns, not the struct */

/* The catalog of one save, borrowing everything from its arguments: not to be destroyed but for
 * by_name (free). */
struct trm_catalog trm_save_plan_catalog(const struct trm_save_plan *plan,
                                         const struct trm_ckpt_state *state, uint64_t nonce,
                                         struct trm_ckpt_file *files, int file_count);

#endif
