/*
 * A checkpoint on disk, opened: its catalog and the slice tables of all its shards.
 *
 * Opening reads the manifest, compares each shard's size, and reads and checks each slice table
 * against its digest; tensor data is not read (verify.h does that, and every load checks what it
 * reads). Memory: 56 bytes for each slice, at most TRM_CKPT_MAX_SLICES of them. Nothing is changed
 * after opening, so threads may share one.
 */
#ifndef TRM_CHECKPOINT_STORED_H
#define TRM_CHECKPOINT_STORED_H

#include "base/file.h"
#include "checkpoint/slice.h"

struct trm_stored {
    char path[TRM_PATH_BYTES];
    struct trm_catalog catalog;
    struct trm_slice *slices; /* owned, [slice_count], grouped by file */
    int64_t slice_count;
    int64_t *file_begin; /* owned, [file_count + 1] into slices */
    char *manifest;      /* owned: the text, NUL-terminated */
    size_t manifest_bytes;
};

/* One directory. TRM_ERR_NOT_FOUND when it is not there; TRM_ERR_CORRUPT or TRM_ERR_MISMATCH naming
 * the file that is missing or not sound. *out is returned owned. */
enum trm_status trm_stored_open(const char *path, struct trm_stored **out, struct trm_error *err);

/* The catalog alone: manifest read and checked, shards not looked at. */
enum trm_status trm_stored_read_catalog(const char *path, struct trm_catalog *catalog,
                                        struct trm_error *err);

/* Whether the history that a checkpoint of `directory` belongs to was given up: a sound one of an
 * earlier step, among steps[count], is of the same run and a later lineage, and no later attempt
 * has gone on from the older lineage since. A rollback leaves that behind when it is killed before
 * it could remove what it gave up. *by (may be NULL): the step that it went back to. */
bool trm_stored_is_given_up(const char *directory, const struct trm_catalog *catalog,
                            const int64_t *steps, int count, int64_t *by);

/* Called for each newer checkpoint that was passed over, with the reason. */
typedef void (*trm_passed_over_fn)(void *context, const char *path, const char *reason);

/* `where` is one checkpoint or a directory of them. Of a directory: exactly `step` when it is >= 0,
 * else the newest that opens and was not given up; each other is passed over and named, never
 * silently.
 * TRM_ERR_NOT_FOUND when there is none at all; TRM_ERR_CORRUPT when there are some and none opens.
 * `passed_over` may be NULL. */
enum trm_status trm_stored_open_newest(const char *where, int64_t step,
                                       trm_passed_over_fn passed_over, void *context,
                                       struct trm_stored **out, struct trm_error *err);

/* Rebuilds what trm_stored_open made, elsewhere: from its path, manifest text and raw slices, all
 * of which are copied. For passing one on to other ranks. */
enum trm_status trm_stored_rebuild(const char *path, const char *manifest, size_t manifest_bytes,
                                   const struct trm_slice *slices, int64_t slice_count,
                                   struct trm_stored **out, struct trm_error *err);

void trm_stored_close(struct trm_stored *stored);

#endif
