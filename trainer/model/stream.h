/*
 * The residual stream [N, C] on tensor-parallel ranks, and what they send around it.
 *
 * Each rank holds all its rows, and what layers cut by features leave of an output is summed on all
 * of them. Or, with sequence parallelism (Korthikanti et al., "Reducing Activation Recomputation in
 * Large Transformer Models", 2022), each holds its part of the rows, of the stream and of all that
 * norms make of it: an output is summed where its rows belong, and rows are gathered where a layer
 * begins that is cut by features. The bits of the stream and of its gradient are the same.
 */
#ifndef TRM_TRAINER_MODEL_STREAM_H
#define TRM_TRAINER_MODEL_STREAM_H

#include "trainer/model/context.h"

/* Memory for this rank's rows. */
struct trm_tensor trm_stream_alloc(struct trm_model_context *c, struct trm_arena *arena);

/* How many of `rows` a rank holds. */
int64_t trm_stream_rows(const struct trm_model_context *c, int64_t rows);

/* Of memory so allocated, the rows of the pass under way. */
struct trm_tensor trm_stream_now(const struct trm_model_context *c, struct trm_tensor t);

/* This rank's rows of all rows. */
struct trm_tensor trm_stream_mine(const struct trm_model_context *c, struct trm_tensor whole);

/* All rows [N, C], until the next call; collective over the tensor group. */
struct trm_tensor trm_stream_gather(struct trm_model_context *c, struct trm_tensor mine);

/* partial[N, C] becomes its sum over the tensor-parallel ranks in this rank's rows, which are
 * returned; collective, too. */
struct trm_tensor trm_stream_sum(struct trm_model_context *c, struct trm_tensor partial);

#endif
