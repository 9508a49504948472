/*
 * A checkpoint written by one process, as any number of shards: for `trireme ckpt reshard` and
 * `import`. Stage, shards, manifest and rename are those of checkpoint/; only the cutting is here.
 * Every shard gets an equal run of all elements, in every kind. Memory: the largest shard, and 8
 * MiB.
 */
#ifndef TRM_TOOLS_CKPT_WRITE_H
#define TRM_TOOLS_CKPT_WRITE_H

#include "base/file.h"
#include "checkpoint/catalog.h"

/* What goes in. Borrowed. */
struct trm_ckpt_content {
    const struct trm_ckpt_state *state;
    const struct trm_ckpt_tensor *tensors;
    int tensor_count;
    bool kinds[TRM_KIND_COUNT];
    /* Fills the memory of the pieces. */
    enum trm_status (*fill)(void *context, const struct trm_ckpt_piece *pieces, int piece_count,
                            struct trm_error *err);
    void (*progress)(void *context, int64_t bytes); /* filled so far; may be NULL */
    void *context;
};

/* Writes `directory`/step-NNNNNNNN durably, and its path into `path`. A step that is there already
 * is TRM_ERR_CONFIG, as nothing is replaced; TRM_ERR_MEMORY says how many shards would fit. On
 * failure nothing is left behind. */
enum trm_status trm_ckpt_write(const char *directory, const struct trm_ckpt_content *content,
                               int shard_count, char path[TRM_PATH_BYTES], struct trm_error *err);

#endif
