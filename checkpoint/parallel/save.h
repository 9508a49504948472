/*
 * Writing one checkpoint from all ranks and waiting for it: saver.h, once, from where the state
 * lies. Each rank writes one shard, unless it has nothing to write, or neighbours write one
 * together (shard_group_size as in saver.h); rank 0 stages and commits. Memory: 8 MiB and the slice
 * table of the rank; no copy of the tensors.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVE_H
#define TRM_CHECKPOINT_PARALLEL_SAVE_H

#include "checkpoint/catalog.h"
#include "collectives/comm.h"

/* Collective over `comm`; returns the same status on all ranks. Saves the pieces of all ranks,
 * which together cover every tensor in every kind exactly once (else TRM_ERR_INTERNAL naming the
 * tensor), as `directory`/step-NNNNNNNN. `state` and `tensors` must be equal on all ranks; rank 0's
 * go into the manifest. Blocks until durable.
 *
 * A step that is there already, opens, and is of the same run, lineage, data position and
 * configuration is left alone (0 bytes written); of the same run but otherwise different, or not
 * sound, it is replaced once the new one is complete; of another run it is TRM_ERR_MISMATCH. On
 * failure nothing that was there before is lost and the stage is removed.
 *
 * `bytes_written` (may be NULL): of tensors, by this rank. */
enum trm_status trm_checkpoint_save(struct trm_comm *comm, const char *directory,
                                    int shard_group_size, const struct trm_ckpt_state *state,
                                    const struct trm_ckpt_tensor *tensors, int tensor_count,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_written, struct trm_error *err);

#endif
