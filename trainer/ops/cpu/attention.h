/*
 * What attention's two directions share: queries go in blocks of TRM_CPU_QUERY_BLOCK, each against
 * the keys that any of its queries sees, so scratch grows with the sequence and not with its
 * square. Scores and their gradients come from matrix products; only the row loops between them are
 * here.
 *
 * Letters: B batch, T queries and K keys per sequence, H heads, G key/value heads, D head size.
 */
#ifndef TRM_TRAINER_OPS_CPU_ATTENTION_H
#define TRM_TRAINER_OPS_CPU_ATTENTION_H

#include "trainer/ops/cpu/internal.h"

#define TRM_CPU_QUERY_BLOCK 64

/* A block of queries of one sequence and the keys [key, key + keys) that it needs. */
struct trm_cpu_query_block {
    int64_t query, queries;
    int64_t key, keys;
    int64_t stride; /* of a row of scores: keys, rounded up to whole vectors */
};

int64_t trm_cpu_query_blocks(const struct trm_attention *shape);
struct trm_cpu_query_block trm_cpu_query_block(const struct trm_attention *shape, int64_t index);

/* The keys that query `row` of a block sees, as columns [*first, *last) of its scores. */
void trm_cpu_visible(const struct trm_attention *shape, const struct trm_cpu_query_block *block,
                     int64_t row, int64_t *first, int64_t *last);

/* Floats of a row of scores at most. */
int64_t trm_cpu_score_stride(const struct trm_attention *shape);

/* Bytes of one thread's scratch, both directions. */
size_t trm_cpu_attention_bytes(const struct trm_attention *shape);

/* The failure of a matrix product in some thread. */
void trm_cpu_attention_check(struct trm_device *dev, bool failed);

#endif
