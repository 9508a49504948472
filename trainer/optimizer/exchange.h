/*
 * ★ trm_exchange: from every rank's partial sums of a bucket to the sum of the shard this rank
 * owns.
 *
 * Data-parallel ranks are in groups of neighbours (those of a node). First, inside a group: shard s
 * of every partial sum goes to the group's rank of the same place as the owner of s, and what the
 * group can add of the tree is added there. Then between groups, from equal places to the owners.
 * So between nodes travels one sum per subtree that a node completes. With one group there is only
 * the first stage.
 *
 * Where the communicator's buffers are a device's, all of it runs there, in the communicator's
 * order, and the host waits for none of it (comm.h).
 *
 * Two buckets are under way at once: starting one moves the one before to its second stage and
 * finishes the one before that; all ranks start buckets in the same order. One thread.
 */
#ifndef TRM_TRAINER_OPTIMIZER_EXCHANGE_H
#define TRM_TRAINER_OPTIMIZER_EXCHANGE_H

#include "base/arena.h"
#include "collectives/comm.h"
#include "collectives/lanes.h"
#include "trainer/plan/layout.h"

struct trm_exchange;

/* Borrows layout, lanes and communicator. `group_size` divides the communicator's size. *out is
 * returned owned. */
enum trm_status trm_exchange_create(const struct trm_layout *layout, const struct trm_lanes *lanes,
                                    struct trm_comm *data, int group_size,
                                    struct trm_exchange **out, struct trm_error *err);
void trm_exchange_destroy(struct trm_exchange *exchange);

/* Takes the staging memory; runs twice, as arenas do. */
void trm_exchange_place(struct trm_exchange *exchange, struct trm_arena *arena);

/* Starts a bucket: partial sum i of this rank lies in buffers[i] (flat vectors), and is
 * overwritten. The sum of the owned shard goes to owned + bucket->owned_offset. The first error is
 * kept for trm_exchange_finish, and nothing more is sent after it. */
void trm_exchange_start(struct trm_exchange *exchange, int bucket, float *const *buffers,
                        float *owned);

/* Collective: finishes what is under way, for the caller's stream; the first error since the last
 * finish. */
enum trm_status trm_exchange_finish(struct trm_exchange *exchange, struct trm_error *err);

#endif
