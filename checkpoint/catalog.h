/*
 * What a checkpoint holds: ★ trm_catalog, a step's tensors, counters and files.
 *
 * A checkpoint is logical: named global tensors, each with several *kinds* of state (the parameter,
 * Adam's two moments). Ranks hold *pieces*: rectangles stored row by row in host memory. The layout
 * in which pieces were written leaves no trace in the tensors, so any layout can read them.
 *
 * This library sees host memory only; copies from devices belong to the trainer.
 */
#ifndef TRM_CHECKPOINT_CATALOG_H
#define TRM_CHECKPOINT_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/type.h"
#include "checkpoint/rect.h"

#define TRM_CKPT_FORMAT_VERSION 1
#define TRM_CKPT_NAME_BYTES     96
#define TRM_CKPT_RUN_ID_BYTES   40
#define TRM_CKPT_MAX_TENSORS    100000
#define TRM_CKPT_MAX_FILES      65536
#define TRM_CKPT_MAX_SLICES     (1 << 22)          /* of one checkpoint */
#define TRM_CKPT_MAX_SIDE       ((int64_t)1 << 36) /* rows or columns of a tensor */
#define TRM_CKPT_MAX_ELEMENTS   ((int64_t)1 << 44) /* of all tensors together, one kind */
#define TRM_CKPT_SLICE_BYTES    (8 << 20) /* a slice, the unit of checksums, has at most this */
#define TRM_CKPT_MAX_TEXT_BYTES (1 << 20) /* configuration; fingerprint */
#define TRM_CKPT_MAX_SKIPS      65536
#define TRM_CKPT_MAX_LOSSES     256
#define TRM_CKPT_MANIFEST       "manifest.json"
#define TRM_CKPT_VERIFIED       "verified" /* its nonce, once it was read back */

enum trm_ckpt_kind { TRM_KIND_PARAMETER, TRM_KIND_EXP_AVG, TRM_KIND_EXP_AVG_SQ, TRM_KIND_COUNT };

/* "parameter", "exp_avg", "exp_avg_sq": dataset names too; static. */
const char *trm_ckpt_kind_name(enum trm_ckpt_kind kind);

/* A global tensor, unpadded. All tensors of a checkpoint have one type, in every kind. */
struct trm_ckpt_tensor {
    char name[TRM_CKPT_NAME_BYTES]; /* letters, digits, '.', '_', '-' */
    enum trm_type type;
    int dims;              /* 1 or 2 */
    int64_t rows, columns; /* columns = 1 when dims = 1 */
};

/* The whole of a tensor. */
struct trm_rect trm_ckpt_tensor_rect(const struct trm_ckpt_tensor *tensor);

/* A rectangle of tensors[tensor], stored row by row at `data` (borrowed). */
struct trm_ckpt_piece {
    int tensor;
    enum trm_ckpt_kind kind;
    struct trm_rect rect;
    void *data;
};

/* Sample numbers [first, first + count) that were skipped for good. */
struct trm_ckpt_skip {
    int64_t first, count;
};

/* The state that is not tensors, equal on all ranks. Strings are owned by the struct. */
struct trm_ckpt_state {
    char run_id[TRM_CKPT_RUN_ID_BYTES]; /* of the run that began it; kept over resumes; letters,
                                           digits, '.', '_', '-' */
    int64_t lineage;                    /* counts rollbacks past bad samples */
    int64_t attempt;                    /* which start of the run wrote it */
    int64_t step;                       /* optimizer steps done */
    int64_t next_sample;                /* first sample number not consumed */
    uint64_t data_hash;                 /* rolling hash of the samples consumed */
    double last_loss;                   /* training loss of `step`; NaN when none */
    double valid_loss;                  /* newest validation loss; NaN when none */
    struct trm_ckpt_skip *skips;        /* owned, [skip_count], ascending, disjoint */
    int skip_count;
    double recent_losses[TRM_CKPT_MAX_LOSSES]; /* of the newest steps, newest last; finite */
    int recent_loss_count;                     /* 0: none are kept */
    int skips_in_row;  /* steps tried without success since the last one that was done */
    char *config_yaml; /* owned: the resolved configuration; UTF-8 */
    char *fingerprint; /* owned: what decides the bits besides it (instruction set, versions) */
    int data_parallel_size; /* of the writer; for people */
    int tensor_model_parallel_size;
};

/* A deep copy; *out is written on success alone. */
enum trm_status trm_ckpt_state_copy(const struct trm_ckpt_state *state, struct trm_ckpt_state *out,
                                    struct trm_error *err);
void trm_ckpt_state_destroy(struct trm_ckpt_state *state); /* frees what it owns, not the struct */

/* Bytes [offset, offset + bytes) of a file; 0 bytes: not there. */
struct trm_ckpt_range {
    int64_t offset, bytes;
};

/* One shard file, as the manifest lists it: enough to read it without HDF5. */
struct trm_ckpt_file {
    char name[64];         /* plain file name: "shard-00003.h5" */
    int shard;             /* the number in the name, below shard_count */
    int64_t bytes;         /* size of the file */
    int64_t slice_count;   /* rows of its slice table */
    uint64_t table_digest; /* of its slice table, identity and checksums included */
    struct trm_ckpt_range identity, slices, checksums, data[TRM_KIND_COUNT];
};

struct trm_catalog {
    struct trm_ckpt_state state;
    int tensor_count, file_count;
    int shard_count;                 /* writers; those that had nothing to write left no file */
    struct trm_ckpt_tensor *tensors; /* owned */
    struct trm_ckpt_file *files;     /* owned; shards ascending */
    int *by_name;                    /* owned: tensor numbers in the order of their names */
    bool kinds[TRM_KIND_COUNT];      /* what it holds; parameters always */
    uint64_t nonce;                  /* drawn by the committer: tells one save from another */
    char written_at[24];             /* UTC */
};

/* Checks everything that can be checked without the files: names, duplicates, sizes, ranges. Also
 * sorts `by_name`. TRM_ERR_CORRUPT with the offending value. */
enum trm_status trm_catalog_check(struct trm_catalog *catalog, struct trm_error *err);

/* Number of a tensor by name, -1 if there is none. Requires a checked catalog. */
int trm_catalog_find(const struct trm_catalog *catalog, const char *name);

/* Bytes of all tensors in all kinds. */
int64_t trm_catalog_bytes(const struct trm_catalog *catalog);

void trm_catalog_destroy(struct trm_catalog *catalog); /* frees what it owns, not the struct */

#endif
