/*
 * Slices of several ranks, as one shard holds them. Pure arithmetic.
 *
 * In a shard the parts that its ranks hold of a tensor lie one after the other, in the order of
 * their place in the tensor: kind by kind, in it tensor by tensor, and in that by rows; where
 * columns are cut too (tensor parallelism), one band of columns after the other. So where ranks
 * hold flat ranges of a tensor that follow each other, the shard holds one range, which a view maps
 * once; and what one rank holds of several tensors in a row is one stretch of the file.
 */
#ifndef TRM_CHECKPOINT_PLACEMENT_H
#define TRM_CHECKPOINT_PLACEMENT_H

#include "checkpoint/slice.h"

/* Sorts the slices of `ranks` ranks, counts[r] of rank r, one rank after the other in `slices`, and
 * sets their offsets. origins[row]: where the slice of a row of the result was before. `elements`:
 * of each dataset. On TRM_ERR_MEMORY nothing was changed. */
enum trm_status trm_placement_make(struct trm_slice *slices, const int64_t *counts, int ranks,
                                   int64_t *origins, int64_t elements[TRM_KIND_COUNT],
                                   struct trm_error *err);

#endif
