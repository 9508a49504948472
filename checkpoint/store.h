/*
 * A directory of checkpoints: what is there, and how a new one comes to be.
 *
 * Committed checkpoints are called step-00001200. Everything else that this module makes is hidden
 * and ends in ".tmp": a stage (.step-00001200.a3.tmp, 3 being the attempt), a checkpoint on its way
 * out. Readers never look at those; what a crash leaves behind is removed by the next save of the
 * same or a later attempt. One process (rank 0) makes these calls, one save at a time; the other
 * ranks only create files inside a stage that is there.
 *
 * Whatever fails, a checkpoint that was committed before is still there under its name. A step that
 * is saved anew is exchanged in one system call; where the file system cannot (NFS), the old one
 * lies under a hidden name between two renames, and trm_store_recover brings it back after a crash
 * there.
 */
#ifndef TRM_CHECKPOINT_STORE_H
#define TRM_CHECKPOINT_STORE_H

#include "base/file.h"
#include "checkpoint/catalog.h"

/* "DIRECTORY/step-00001200", and its stage. */
enum trm_status trm_store_step_path(const char *directory, int64_t step, char path[TRM_PATH_BYTES],
                                    struct trm_error *err);
enum trm_status trm_store_stage_path(const char *directory, int64_t step, int64_t attempt,
                                     char path[TRM_PATH_BYTES], struct trm_error *err);

/* Steps of the committed checkpoints, newest first; sound or not. *steps is returned owned, and is
 * not NULL when *count is 0. TRM_ERR_NOT_FOUND when there is no such directory. */
enum trm_status trm_store_list(const char *directory, int64_t **steps, int *count,
                               struct trm_error *err);

/* Brings back a checkpoint that a crash left hidden while it was being replaced. Call it before
 * looking for one to resume from. Does what it can and reports nothing: a directory that cannot be
 * written has nobody replacing anything in it. */
void trm_store_recover(const char *directory);

/* Whether the directory holds the very state that is about to be saved: the same step, run,
 * lineage, data position and configuration, and it opens. TRM_ERR_MISMATCH when it holds that step
 * of another run, or soundly of a later lineage and no earlier attempt, which is not ours to
 * replace. */
enum trm_status trm_store_holds(const char *directory, const struct trm_ckpt_state *state,
                                bool *holds, struct trm_error *err);

/* Makes the directory if need be, durably, recovers (above), removes what attempts up to this one
 * left behind, and makes an empty stage. */
enum trm_status trm_store_stage(const char *directory, int64_t step, int64_t attempt,
                                struct trm_error *err);

/* Turns a stage whose shards are durable into the checkpoint of its step: manifest, fsync, fsync of
 * the stage, rename, fsync of the directory. After an error of rename it looks for the nonce of
 * `catalog` at the destination, as network file systems may fail a rename that was done. */
enum trm_status trm_store_commit(const char *directory, const struct trm_catalog *catalog,
                                 struct trm_error *err);

/* Removes a stage; a missing one is fine. */
enum trm_status trm_store_discard(const char *directory, int64_t step, int64_t attempt,
                                  struct trm_error *err);

/* Removes a committed checkpoint: hidden by a durable rename first, so that no half of it shows. */
enum trm_status trm_store_remove(const char *directory, int64_t step, int64_t attempt,
                                 struct trm_error *err);

#endif
