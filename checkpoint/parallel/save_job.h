/*
 * One save on one rank, as its writer thread sees it: the phases as tasks.
 *
 *   phase      whose       what it does                                   then
 *   staging    rank 0      looks at what is there, stage, free space      laying out
 *   laying out each leader its group's shard: skeleton, room, table       writing
 *   writing    each rank   its slices and their checksums, fsync          committing
 *   committing rank 0      view, manifest, rename, fsyncs                 verifying, or done
 *   verifying  each rank   reads its part of the next shard back          pruning
 *   pruning    rank 0      removes what retention lets go                 done
 *   discarding rank 0      removes the stage of a save that failed        done
 *
 * A leader is the first of the ranks that write a shard together (shard_group.h). The tasks call
 * neither MPI nor HDF5. A phase begins when all ranks are done with the one before (saver.h); in
 * between, main threads tell each other what the next one needs (save_gather.h). So the directory
 * has one process changing names at a time, but for leaders making their files. While a task runs,
 * the job belongs to the thread.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVE_JOB_H
#define TRM_CHECKPOINT_PARALLEL_SAVE_JOB_H

#include "checkpoint/parallel/save_plan.h"
#include "checkpoint/retention.h"
#include "checkpoint/skeleton.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/writer.h"

#define TRM_SAVE_REMOVED_MAX 64 /* of one pruning; more go the next time */

enum trm_save_phase {
    TRM_SAVE_STAGING,
    TRM_SAVE_LAYING_OUT,
    TRM_SAVE_WRITING,
    TRM_SAVE_COMMITTING,
    TRM_SAVE_VERIFYING,
    TRM_SAVE_PRUNING,
    TRM_SAVE_DISCARDING,
    TRM_SAVE_PHASE_COUNT
};

struct trm_save_job {
    const struct trm_save_plan *plan;
    struct trm_snapshot snapshot; /* unused where a save waits for the disk */
    struct trm_slice_set *set;    /* borrowed: the snapshot's, or the plan's */
    struct trm_ckpt_state state;  /* owned */
    uint64_t nonce;
    int64_t replace_from; /* a checkpoint of this step or a later one is never left alone */
    int64_t begin_ns;
    double held_seconds; /* how long training stood still for it */

    struct trm_skeleton skeleton; /* on a leader */
    struct trm_ckpt_file file;    /* this rank's shard; bytes = 0: there is nothing to write */
    struct trm_error early;       /* what failed before the thread was asked */
    int64_t there_already;        /* from staging: nothing to do */
    struct trm_ckpt_file *files;  /* owned, [file_count]: all that were written */
    int file_count;
    void *view; /* owned, on rank 0: checkpoint.h5 */
    size_t view_bytes;

    struct trm_retention retention; /* for pruning, and: */
    int64_t verified[2];            /* steps; -1: none */
    int64_t removed[TRM_SAVE_REMOVED_MAX];
    int removed_count;
};

/* Whether this rank has anything to do in a phase. */
bool trm_save_job_has(const struct trm_save_job *job, enum trm_save_phase phase);

/* What a task runs in a phase, with the job as its context. */
enum trm_status trm_save_job_stage(void *context, struct trm_error *err);
enum trm_status trm_save_job_lay_out(void *context, struct trm_error *err);
enum trm_status trm_save_job_write(void *context, struct trm_error *err);
enum trm_status trm_save_job_commit(void *context, struct trm_error *err);
enum trm_status trm_save_job_verify(void *context, struct trm_error *err);
enum trm_status trm_save_job_prune(void *context, struct trm_error *err);
enum trm_status trm_save_job_discard(void *context, struct trm_error *err);

/* Frees what belongs to one save; keeps the snapshot for the next. */
void trm_save_job_reset(struct trm_save_job *job);

#endif
