/*
 * ★ trm_saver: saving a run's state from all ranks while training goes on.
 *
 * A save begins with a copy of each rank's shard into a snapshot, and that is all that training
 * waits for. Each rank's writer thread does the rest, in phases (save_job.h) that begin when all
 * ranks are done with the one before. The ranks learn that from one number each, which the caller
 * reduces along with something it reduces anyway (once a step, say) and hands back:
 *
 *   int64_t word = trm_saver_report(saver);      all ranks
 *   ... all-reduce it by TRM_MAX_I64 ...
 *   status = trm_saver_advance(saver, word, err);
 *
 * One save is under way at a time; with two snapshots a second one can wait for it. A third makes
 * trm_saver_begin wait until the first is done: that is the back-pressure of a disk that is slower
 * than the interval. Without snapshots begin writes from where the state lies and returns when it
 * is durable.
 *
 * A save that fails is told by an event, with its cause; its stage is removed, and everything that
 * was there before still is. Only a failure of communication is an error of these calls, and ends
 * the saver's use. One thread makes all calls; it starts one thread, which calls neither MPI nor
 * HDF5. Memory: the snapshots, which are the caller's, and tables.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SAVER_H
#define TRM_CHECKPOINT_PARALLEL_SAVER_H

#include <stdbool.h>

#include "checkpoint/catalog.h"
#include "checkpoint/retention.h"
#include "collectives/comm.h"

#define TRM_SAVER_SNAPSHOTS 2

struct trm_saver;

enum trm_save_event_kind {
    TRM_SAVE_DONE,       /* committed: durable, and the newest */
    TRM_SAVE_FAILED,     /* `error` says why; training may go on */
    TRM_SAVE_WAITED,     /* begin had to wait `seconds` for the disk */
    TRM_SAVE_UNVERIFIED, /* it was committed, but reading it back failed: nothing is removed */
    TRM_SAVE_REMOVED,    /* on rank 0: retention let `removed` go */
    TRM_SAVE_KEPT        /* on rank 0: removing old ones failed; `error` says why */
};

struct trm_save_event {
    enum trm_save_event_kind kind;
    int64_t step;
    int64_t next_sample; /* DONE: of the state that was saved */
    int64_t bytes;       /* DONE: of tensors, by this rank */
    bool was_there;      /* DONE: nothing was written, the same checkpoint was there already */
    double seconds;      /* DONE: from begin to durable; WAITED */
    double held_seconds; /* DONE: how long training stood still for it, waits included */
    const struct trm_error *error;
    const int64_t *removed; /* [removed_count] */
    int removed_count;
};

/* Called on every rank, from begin, advance and wait. */
typedef void (*trm_save_event_fn)(void *context, const struct trm_save_event *event);

struct trm_saver_settings {
    struct trm_comm *comm; /* borrowed */
    const char *directory;
    const struct trm_ckpt_tensor *tensors; /* copied; equal on all ranks */
    int tensor_count;
    const struct trm_ckpt_piece *pieces; /* their data is borrowed: the state itself */
    int piece_count;
    void *snapshots[TRM_SAVER_SNAPSHOTS]; /* borrowed, of trm_snapshot_bytes each; NULL: none */
    int copy_threads;
    uint64_t node;        /* tells this rank's machine from others */
    int shard_group_size; /* at most so many neighbouring ranks of a machine write one shard; 0: all
                             of them in a large run, else one (shard_group.h); equal on all ranks */
    struct trm_retention retention; /* keep_latest = 0: nothing is read back, nothing removed */
    int64_t replace_from; /* checkpoints of this step and later ones are saved anew, even when they
                             look the same: one of them may have failed to load */
    trm_save_event_fn event;
    void *context;
};

/* Collective; agreed. What can be found wrong with the pieces is found here: TRM_ERR_INTERNAL when
 * they do not cover every tensor exactly once. *out is returned owned. */
enum trm_status trm_saver_create(const struct trm_saver_settings *settings, struct trm_saver **out,
                                 struct trm_error *err);

/* Not collective. Waits for what its thread is doing, leaves the rest undone. Takes NULL. */
void trm_saver_destroy(struct trm_saver *saver);

/* Would trm_saver_begin wait for the disk? */
bool trm_saver_is_busy(const struct trm_saver *saver);

/* Collective. Begins to save the state as it is now. `state` is equal on all ranks, and copied. */
enum trm_status trm_saver_begin(struct trm_saver *saver, const struct trm_ckpt_state *state,
                                struct trm_error *err);

/* This rank's word; one atomic load. Takes NULL (no saver yet). */
int64_t trm_saver_report(const struct trm_saver *saver);

/* Collective when the maximum of all ranks' words says that a phase is over; else does nothing. */
enum trm_status trm_saver_advance(struct trm_saver *saver, int64_t word, struct trm_error *err);

/* Collective. Until every save that was begun is done or has failed. */
enum trm_status trm_saver_wait(struct trm_saver *saver, struct trm_error *err);

/* The newest step that was committed, -1: none yet. */
int64_t trm_saver_step(const struct trm_saver *saver);

/* Checkpoints of steps after `step` are gone, and so count as verified no more. */
void trm_saver_forget_later(struct trm_saver *saver, int64_t step);

/* A checkpoint of the directory of which every byte was read and checked: it was loaded. */
void trm_saver_note_verified(struct trm_saver *saver, int64_t step);

#endif
