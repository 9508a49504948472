/*
 * Who keeps memory slots for ranks: the node's agent, or what stands in for it.
 *
 * Descriptors that are handed out are the caller's to close; the memory stays the keeper's.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_KEEPER_H
#define TRM_CHECKPOINT_PARALLEL_KEEPER_H

#include "collectives/attach.h"

struct trm_slot_keeper {
    /* fds[count]: slots of at least `bytes` for this rank's use. All or none. */
    enum trm_status (*take)(void *context, int64_t bytes, int count, int *fds,
                            struct trm_error *err);
    /* Of the *total slots of this node that hold a shard, as many as there is room for, from the
     * `first` on. *bytes: of all slots there are. */
    enum trm_status (*list)(void *context, int first, int fds[TRM_ATTACH_MAX_FDS], int *count,
                            int *total, int64_t *bytes, struct trm_error *err);
    /* No rank of this node needs a slot that it has not taken. */
    enum trm_status (*settle)(void *context, struct trm_error *err);
    void *context;
};

/* The agent behind an open connection, which is borrowed. */
struct trm_slot_keeper trm_slot_keeper_of_agent(struct trm_attach *attach);

#endif
