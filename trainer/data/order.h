/*
 * Which sample has number i: arithmetic alone, no files.
 *
 * Samples come from one or more streams. A single stream is walked epoch by epoch, each a
 * permutation of its samples of its own. Several streams share blocks of 65,536 numbers: stream s
 * owns quota[s] slots of each block, dealt by a permutation keyed by the block, so how many of its
 * samples come before a block is a product, and any number is reached in O(1). Not changed after it
 * is made: threads may share it.
 */
#ifndef TRM_TRAINER_DATA_ORDER_H
#define TRM_TRAINER_DATA_ORDER_H

#include <stdint.h>

#define TRM_ORDER_BLOCK 65536 /* samples; part of what a run fixes for life */

struct trm_order {
    uint64_t seed;
    const char *purpose; /* keys orders of one seed apart, e.g. "data train"; borrowed */
    int stream_count;
    const int64_t *samples; /* [stream_count], each > 0; borrowed */
    const int32_t
        *slot_begin; /* [stream_count + 1], sums of the quotas; borrowed; unused for one */
};

struct trm_order_place {
    int stream;
    int64_t epoch;
    int64_t index; /* within the stream, below its samples */
};

/* Slots of a block by largest remainder: the ideal shares rounded down, and what is left goes to
 * the largest fractions, the first of equal ones. Requires weights that are finite and above 0, and
 * whose sum is finite. A share may be 0. */
void trm_order_quotas(const double *weights, int count, int32_t *quotas);

/* Requires number >= 0. */
struct trm_order_place trm_order_place(const struct trm_order *order, int64_t number);

#endif
