/*
 * ★ trm_snapshot: a rank's shard, copied in host memory, so that training can go on while it is
 * written.
 *
 * The memory is the caller's, planned and touched at set-up and used again for each save. It is
 * laid out as the shard will be: what follows each other there follows each other here, and each
 * such stretch lies as in its dataset, modulo 4 KiB; so a writer takes it straight to disk in large
 * pieces. Taking a snapshot copies and computes nothing.
 */
#ifndef TRM_CHECKPOINT_SNAPSHOT_H
#define TRM_CHECKPOINT_SNAPSHOT_H

#include "checkpoint/slice.h"

struct trm_snapshot {
    const struct trm_slice_set *live; /* borrowed: where the state lies that is trained on */
    struct trm_slice_set set;         /* owned: the same slices, in `memory` */
    enum trm_type type;
};

/* Bytes that at most `elements` elements, all kinds together, in at most `stretches` stretches of
 * the shard need. */
size_t trm_snapshot_bytes(int64_t elements, int64_t stretches, enum trm_type type);

/* Borrows `live` and `memory`, which has trm_snapshot_bytes of the live set. To be destroyed by the
 * caller; written on success alone. */
enum trm_status trm_snapshot_create(const struct trm_slice_set *live, enum trm_type type,
                                    void *memory, struct trm_snapshot *out, struct trm_error *err);
void trm_snapshot_destroy(struct trm_snapshot *snapshot); /* what it owns, not the struct */

/* Copies the live state, by `threads` threads (this one and helpers that end with the call; with
 * fewer to be had it takes longer). The caller sees to it that nobody writes the live state or
 * reads the snapshot meanwhile. */
void trm_snapshot_take(struct trm_snapshot *snapshot, int threads);

#endif
