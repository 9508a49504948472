/* Writing a checkpoint from all ranks. The commit protocol is docs/checkpoint-format.md's: stage,
 * write, fsync, agree, manifest, rename. */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVE_H
#define TRM_CHECKPOINT_PARALLEL_SAVE_H

#include "checkpoint/catalog.h"
#include "collectives/comm.h"

/* Collective over `comm`; returns the same status on all ranks. Saves the pieces of all ranks, which
 * together cover every tensor and kind exactly once, as `directory`/step-NNNNNNNN. Each rank writes
 * one shard; rank 0 commits. A step that is there already is left alone when it is sound. On failure
 * nothing that was there before is lost and the stage is removed. `state` and `tensors` must be equal
 * on all ranks. Blocks until durable. `bytes_written` (may be NULL): this rank's. */
enum trm_status trm_checkpoint_save(struct trm_comm *comm, const char *directory,
                                    const struct trm_ckpt_state *state,
                                    const struct trm_ckpt_tensor *tensors, int tensor_count,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_written, struct trm_error *err);

#endif
