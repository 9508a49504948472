/* Inside of the restore library: all slices of all sources by tensor and kind. */
#ifndef TRM_CHECKPOINT_RESTORE_INDEX_H
#define TRM_CHECKPOINT_RESTORE_INDEX_H

#include "checkpoint/restore.h"

struct trm_restore_ref {
    int source;
    bool bad; /* failed when read: never planned again */
    int64_t number;
};

struct trm_restore {
    const struct trm_ckpt_tensor *tensors;
    int tensor_count, source_count;
    struct trm_source *const *sources;
    struct trm_restore_ref *refs; /* owned; grouped by tensor and kind, then as sources are given */
    int64_t *group_begin;         /* owned, [tensor_count * TRM_KIND_COUNT + 1] into refs */
    trm_passed_over_fn passed_over;
    void *context;
};

#endif
