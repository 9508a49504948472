/*
 * Slices: the unit of checksums, of reading and of placement in a shard.
 *
 * A slice is a rectangle of one tensor in one kind, of at most TRM_CKPT_SLICE_BYTES, stored row by
 * row without gaps, in a shard and in memory alike. Pieces are cut into slices along rows; a row
 * that is too long by itself is cut into runs. A shard's slices are numbered by kind, then as they
 * lie in its dataset, so that one pass over them walks the file forwards.
 */
#ifndef TRM_CHECKPOINT_SLICE_H
#define TRM_CHECKPOINT_SLICE_H

#include "checkpoint/catalog.h"

struct trm_slice {
    int32_t tensor, kind;
    struct trm_rect rect;
    int64_t offset;    /* elements, in the shard's dataset of this kind */
    uint64_t checksum; /* XXH3-64 of its bytes */
};

/* What one rank has to write, or what one shard holds, and where that lies in memory. */
struct trm_slice_set {
    int64_t count;
    struct trm_slice *slices; /* owned */
    const void **data;        /* owned array; data[i] borrowed from the pieces; NULL: none */
    int64_t elements[TRM_KIND_COUNT]; /* of all slices of each kind */
};

/* Cuts pieces, as a shard of this set alone holds them: by kind, then in their order (placement.h
 * has that of several sets). Checksums are left 0. TRM_ERR_INTERNAL when a piece lies outside its
 * tensor. The set is to be destroyed by the caller, and is written on success alone. */
enum trm_status trm_slice_set_cut(const struct trm_ckpt_tensor *tensors, int tensor_count,
                                  const struct trm_ckpt_piece *pieces, int piece_count,
                                  struct trm_slice_set *set, struct trm_error *err);
void trm_slice_set_destroy(struct trm_slice_set *set); /* frees what it owns, not the struct */

#define TRM_SLICE_ROW_WORDS 7
#define TRM_SLICE_ROW_BYTES (TRM_SLICE_ROW_WORDS * 8)

/* rows[count][7] as stored in "slices": tensor, kind, row, column, rows, columns, offset; and
 * checksums[count] as stored in "checksums". */
void trm_slices_encode(const struct trm_slice *slices, int64_t count, int64_t *rows,
                       uint64_t *checksums);

/* The reverse, with every number checked against the catalog and the file's ranges: TRM_ERR_CORRUPT
 * naming the slice. Files' names are for the caller to put in front. */
enum trm_status trm_slices_decode(const struct trm_catalog *catalog,
                                  const struct trm_ckpt_file *file, const int64_t *rows,
                                  const uint64_t *checksums, struct trm_slice *slices,
                                  struct trm_error *err);

/* Bytes of a slice. */
int64_t trm_slice_bytes(const struct trm_slice *slice, enum trm_type type);

/* "rows 0..511, columns 0..767 of exp_avg of \"tok_embed\"": for messages. Returns text. */
char *trm_slice_describe(char *text, size_t text_bytes, const struct trm_ckpt_tensor *tensors,
                         const struct trm_slice *slice);

#endif
