/*
 * Finding and reading a checkpoint from all ranks, in any layout.
 *
 * Rank 0 looks through the directory, reads manifest and slice tables and checks them; the others
 * get them by broadcast, so a file system sees one reader of metadata and not thousands. Every rank
 * holds all tables: 56 bytes per slice, of 8 MiB at most (about 7 MB per TB of checkpoint, more
 * where tensors are small). Tensor data is read by each rank for itself, without HDF5: only slices
 * that intersect its pieces, one shard open at a time.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_LOAD_H
#define TRM_CHECKPOINT_PARALLEL_LOAD_H

#include "checkpoint/stored.h"
#include "collectives/comm.h"

struct trm_checkpoint; /* an open checkpoint: catalog and slice tables */

/* Collective. `where` is one checkpoint (holds manifest.json) or a directory of them, of which the
 * newest sound one is taken, or exactly step `step` when it is >= 0. Rank 0 looks, all agree;
 * `passed_over` (may be NULL) is called there for each newer checkpoint that was passed over.
 * TRM_ERR_NOT_FOUND when there is none; TRM_ERR_CORRUPT when there are some and none is sound. Only
 * manifest, file sizes and tables are read and checked here. *out is returned owned. */
enum trm_status trm_checkpoint_open(struct trm_comm *comm, const char *where, int64_t step,
                                    trm_passed_over_fn passed_over, void *context,
                                    struct trm_checkpoint **out, struct trm_error *err);

/* The same of a directory, among the checkpoints of steps below `below` (0 or more): for going on
 * when one that opened turns out to be damaged. TRM_ERR_NOT_FOUND when none of them opens. */
enum trm_status trm_checkpoint_open_older(struct trm_comm *comm, const char *where, int64_t below,
                                          trm_passed_over_fn passed_over, void *context,
                                          struct trm_checkpoint **out, struct trm_error *err);

/* Borrowed until close. */
const struct trm_catalog *trm_checkpoint_catalog(const struct trm_checkpoint *checkpoint);
const char *trm_checkpoint_path(const struct trm_checkpoint *checkpoint);

/* Index of a tensor by name, -1 if there is none. */
int trm_checkpoint_find(const struct trm_checkpoint *checkpoint, const char *name);

/* Collective; agreed. Fills this rank's pieces (`tensor` counts in the checkpoint's catalog),
 * reading only slices that intersect them, each checked against its checksum before a byte is used.
 * Over-read: less than one slice (8 MiB) per edge of a piece. `bytes_read` (may be NULL): by this
 * rank. On error the memory holds nothing to rely on. */
enum trm_status trm_checkpoint_load(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_read, struct trm_error *err);

/* Not collective. NULL-safe. */
void trm_checkpoint_close(struct trm_checkpoint *checkpoint);

#endif
