/*
 * ★ trm_grad_sync: from the gradients of this rank's lanes to the sum over all lanes of the shards
 * that this rank owns.
 *
 * Lanes run one after the other, each into a gradient buffer; a finished lane is merged with its
 * sibling in the summing tree (collectives/lanes.h), bucket by bucket as backward completes them.
 * In the last lane a complete bucket leaves at once (exchange.h), so that it travels while backward
 * goes on. In `fastest` mode the vendor's reduce-scatter takes the place of the exchange.
 *
 * One thread. All memory comes from the arena: gradient buffers, staging, and the owned
 * gradient.
 */
#ifndef TRM_TRAINER_OPTIMIZER_GRAD_SYNC_H
#define TRM_TRAINER_OPTIMIZER_GRAD_SYNC_H

#include "base/arena.h"
#include "collectives/comm.h"
#include "collectives/lanes.h"
#include "trainer/plan/layout.h"

struct trm_grad_sync;

/* Borrows layout, lanes and the data-parallel communicator, whose ranks sum first in groups of
 * `group_size` neighbours (which divides its size). *out is returned owned. */
enum trm_status trm_grad_sync_create(const struct trm_layout *layout, const struct trm_lanes *lanes,
                                     struct trm_comm *data, int group_size, bool fastest,
                                     struct trm_grad_sync **out, struct trm_error *err);
void trm_grad_sync_destroy(struct trm_grad_sync *sync);

/* Runs twice, as arenas do. */
void trm_grad_sync_place(struct trm_grad_sync *sync, struct trm_arena *arena);

/* A flat buffer of gradients (layout->elements floats), for those that nobody wants. */
float *trm_grad_sync_scratch(struct trm_grad_sync *sync);

/* Begins this rank's next lane: the flat buffer (layout->elements floats) for its gradients. */
float *trm_grad_sync_begin_lane(struct trm_grad_sync *sync);

/* In the last micro-batch of the lane: gradients of tensors [first, first + count) are complete.
 * Every tensor is reported once; buckets complete from the last to the first. A communication error
 * is kept for trm_grad_sync_finish. */
void trm_grad_sync_ready(struct trm_grad_sync *sync, int first, int count);

/* After all lanes. Collective over the data communicator: the caller's stream waits until the owned
 * shards are summed; over host memory, the host does.
 * *owned is borrowed until the next step: layout->owned_elements floats. */
enum trm_status trm_grad_sync_finish(struct trm_grad_sync *sync, float **owned,
                                     struct trm_error *err);

#endif
