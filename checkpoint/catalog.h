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

#include <stdint.h>

#include "base/status.h"
#include "base/type.h"
#include "checkpoint/rect.h"

#define TRM_CKPT_NAME_BYTES 96
#define TRM_CKPT_RUN_ID_BYTES 40
#define TRM_CKPT_MAX_TENSORS 1000000
#define TRM_CKPT_SLICE_BYTES (8 << 20) /* a slice, the unit of checksums, has at most this */

enum trm_ckpt_kind { TRM_KIND_PARAMETER, TRM_KIND_EXP_AVG, TRM_KIND_EXP_AVG_SQ, TRM_KIND_COUNT };

/* "parameter", "exp_avg", "exp_avg_sq": dataset names too; static. */
const char *trm_ckpt_kind_name(enum trm_ckpt_kind kind);

/* A global tensor, unpadded. */
struct trm_ckpt_tensor {
    char name[TRM_CKPT_NAME_BYTES];
    enum trm_type type;
    int dims;              /* 1 or 2 */
    int64_t rows, columns; /* columns = 1 when dims = 1 */
};

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
    char run_id[TRM_CKPT_RUN_ID_BYTES]; /* of the run that began it; kept over resumes */
    int64_t lineage;                    /* counts rollbacks past bad samples */
    int64_t attempt;                    /* which start of the run wrote it */
    int64_t step;                       /* optimizer steps done */
    int64_t next_sample;                /* first sample number not consumed */
    uint64_t data_hash;                 /* rolling hash of the samples consumed */
    double last_loss;                   /* training loss of `step`; NaN when none */
    double valid_loss;                  /* newest validation loss; NaN when none */
    struct trm_ckpt_skip *skips;        /* owned, [skip_count] */
    int skip_count;
    char *config_yaml;      /* owned: the resolved configuration */
    char *fingerprint;      /* owned: what decides the bits besides it (instruction set, versions) */
    int data_parallel_size; /* of the writer; for people */
    int tensor_model_parallel_size;
};

void trm_ckpt_state_destroy(struct trm_ckpt_state *state); /* frees what it owns, not the struct */

/* One shard file, as the manifest lists it. */
struct trm_ckpt_file {
    char name[64];         /* plain file name: "shard-00003.h5" */
    int64_t bytes;         /* size of the file */
    uint64_t table_digest; /* of its slice table, identity included */
};

struct trm_catalog {
    struct trm_ckpt_state state;
    int tensor_count, file_count;
    struct trm_ckpt_tensor *tensors; /* owned */
    struct trm_ckpt_file *files;     /* owned */
};

void trm_catalog_destroy(struct trm_catalog *catalog); /* frees what it owns, not the struct */

#endif
