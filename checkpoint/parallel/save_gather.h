/*
 * What the ranks tell each other between the phases of a save (save_job.h). Main threads alone call
 * these; no task is under way meanwhile.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVE_GATHER_H
#define TRM_CHECKPOINT_PARALLEL_SAVE_GATHER_H

#include "checkpoint/parallel/save_job.h"

/* Not collective. What a save needs before its tasks can run: nonce, a copy of the state, and on a
 * leader the shard's skeleton. A failure is kept in job->early, for the laying out. */
void trm_save_prepare(struct trm_save_job *job, const struct trm_ckpt_state *state);

/* Collective; agreed. Before writing: where the shard's datasets lie, to all who write into it. */
enum trm_status trm_save_tell_files(struct trm_comm *comm, struct trm_save_job *job,
                                    struct trm_error *err);

/* Collective; agreed. After writing: the shards' digests, everybody's file record to everybody, and
 * on rank 0 the view. */
enum trm_status trm_save_gather_files(struct trm_comm *comm, struct trm_save_plan *plan,
                                      struct trm_save_job *job, struct trm_error *err);

#endif
