/*
 * Updated parameter shards back to all data-parallel ranks, bucket by bucket, waited for when the
 * next forward pass first needs them. The first bucket (the embedding) leaves first. One thread;
 * gathers in place in the flat vector: no memory of its own.
 */
#ifndef TRM_TRAINER_OPTIMIZER_PARAM_GATHER_H
#define TRM_TRAINER_OPTIMIZER_PARAM_GATHER_H

#include "collectives/comm.h"
#include "trainer/plan/layout.h"

struct trm_param_gather;

/* Borrows layout and communicator; parameters are of `type`. *out is returned owned. */
enum trm_status trm_param_gather_create(const struct trm_layout *layout, struct trm_comm *data,
                                        enum trm_type type, struct trm_param_gather **out,
                                        struct trm_error *err);
void trm_param_gather_destroy(struct trm_param_gather *gather);

/* Collective: starts all buckets of `parameters` (layout->elements of them, own shards current). */
enum trm_status trm_param_gather_start(struct trm_param_gather *gather, void *parameters,
                                       struct trm_error *err);

/* Waits for the buckets of tensors [first, first + count): the caller's stream does, over host
 * memory the host. Errors are kept for _finish. */
void trm_param_gather_wait(struct trm_param_gather *gather, int first, int count);

/* The same for all; the first error, if any. */
enum trm_status trm_param_gather_finish(struct trm_param_gather *gather, struct trm_error *err);

#endif
