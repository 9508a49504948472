/* Inside of this library: what an open checkpoint is, whether it lies on disk (load.c) or in the
 * memory of nodes (recall.h). */
#ifndef TRM_CHECKPOINT_PARALLEL_OPENED_H
#define TRM_CHECKPOINT_PARALLEL_OPENED_H

#include "checkpoint/parallel/load.h"

struct trm_checkpoint_operations {
    enum trm_status (*load)(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                            const struct trm_ckpt_piece *pieces, int piece_count,
                            int64_t *bytes_read, struct trm_error *err);
    void (*close)(struct trm_checkpoint *checkpoint);
};

/* The head of what either makes. */
struct trm_checkpoint {
    const struct trm_checkpoint_operations *operations;
    const struct trm_catalog *catalog;
    const char *path;
};

#endif
