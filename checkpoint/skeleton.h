/*
 * A shard before its data: the file that HDF5 lays out, held in memory.
 *
 * HDF5 works on a file in memory (memfd), on the main thread and without a disk; a writer thread
 * then makes the real file from it with plain I/O. It takes a few KiB: what HDF5 does not write
 * stays a hole.
 */
#ifndef TRM_CHECKPOINT_SKELETON_H
#define TRM_CHECKPOINT_SKELETON_H

#include "checkpoint/shard.h"

struct trm_skeleton {
    int fd; /* owned; -1: none */
};

/* Calls HDF5. Fills `file` but for its digest; its name is the caller's. To be destroyed. */
enum trm_status trm_skeleton_make(const struct trm_shard_identity *identity, enum trm_type type,
                                  const struct trm_slice_set *set, struct trm_ckpt_file *file,
                                  struct trm_skeleton *out, struct trm_error *err);
void trm_skeleton_destroy(struct trm_skeleton *skeleton);

/* Makes `path`, which must not be there, and reserves its `bytes` on disk: a disk that is too full
 * says so here. Not durable yet: trm_shard_write syncs. No HDF5. */
enum trm_status trm_skeleton_write(const struct trm_skeleton *skeleton, const char *path,
                                   int64_t bytes, struct trm_error *err);

#endif
