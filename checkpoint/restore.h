/*
 * Wanted pieces x sources -> restore plan -> reads.
 *
 * Sources are given in order of preference (memory before peers before disk) and may hold the same
 * slices. Planning takes each wanted rectangle, walks the slices of its tensor and kind in that
 * order, and assigns to each slice the part that none before it had; what is left over at the end
 * is missing. So any layout reads any other, overlaps are harmless and gaps are found before a byte
 * is read. Running reads each slice once, in the order of the files, checks its checksum before a
 * byte of it counts, and copies it to all pieces that want it. A slice that fails is struck off and
 * its parts are planned anew over the other sources.
 *
 * Over-read: whole slices are read, so less than one slice (8 MiB) per edge of a piece and source
 * slice row. Memory: 16 bytes per slice of all sources, 48 per copy, and one slice. One thread.
 */
#ifndef TRM_CHECKPOINT_RESTORE_H
#define TRM_CHECKPOINT_RESTORE_H

#include "checkpoint/source.h"

struct trm_restore;

/* Borrows tensors and sources until destroyed. `passed_over` (may be NULL) is told of each slice
 * that was struck off: its source and why. *out is returned owned. */
enum trm_status trm_restore_create(const struct trm_ckpt_tensor *tensors, int tensor_count,
                                   struct trm_source *const *sources, int source_count,
                                   trm_passed_over_fn passed_over, void *context,
                                   struct trm_restore **out, struct trm_error *err);
void trm_restore_destroy(struct trm_restore *restore);

/* A part of a wanted piece: `rect` lies inside pieces[piece].rect. */
struct trm_restore_want {
    int piece;
    struct trm_rect rect;
};

/* The part `rect` of pieces[piece] comes out of slice `number` of source `source`. */
struct trm_restore_copy {
    int source, piece;
    int64_t number;
    struct trm_rect rect;
};

/* Pure. Covers each want exactly once; copies are sorted by source and slice. TRM_ERR_CORRUPT
 * naming the tensor when no source holds a part. *copies is returned owned. */
enum trm_status trm_restore_plan(const struct trm_restore *restore,
                                 const struct trm_ckpt_piece *pieces,
                                 const struct trm_restore_want *wants, int64_t want_count,
                                 struct trm_restore_copy **copies, int64_t *copy_count,
                                 struct trm_error *err);

/* For those that read slices themselves, over a network. Pieces must lie inside their tensors
 * (TRM_ERR_INTERNAL); a slice that failed is never planned again; `data` is the slice of `copy`,
 * checked, and its part goes into the piece. */
enum trm_status trm_restore_check_pieces(const struct trm_restore *restore,
                                         const struct trm_ckpt_piece *pieces, int piece_count,
                                         struct trm_error *err);
void trm_restore_strike(struct trm_restore *restore, const struct trm_restore_copy *copy);
void trm_restore_place(const struct trm_restore *restore, const struct trm_ckpt_piece *pieces,
                       const struct trm_restore_copy *copy, const void *data);

/* Fills the pieces. When a slice fails everywhere, the error is that of its first failure; the
 * memory then holds nothing to rely on. `bytes_read` (may be NULL) is added to. */
enum trm_status trm_restore_run(struct trm_restore *restore, const struct trm_ckpt_piece *pieces,
                                int piece_count, int64_t *bytes_read, struct trm_error *err);

/* Reads slice `number` of a source into `data` and checks it: TRM_ERR_CORRUPT naming source, tensor
 * and rows. */
enum trm_status trm_restore_read_slice(struct trm_source *source, int64_t number,
                                       const struct trm_ckpt_tensor *tensors, void *data,
                                       struct trm_error *err);

#endif
