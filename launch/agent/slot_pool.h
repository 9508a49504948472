/*
 * The memory slots of one node: memfds that its agent holds, so that what ranks put into them
 * outlives the ranks (checkpoint/slot.h).
 *
 * The pool answers three of the requests of collectives/attach.h. It makes descriptors of given
 * sizes, within a bound on all together, and hands them out; the ranks allocate and fill them. It
 * never touches more than a slot's first page, so an answer takes microseconds whatever a slot
 * holds. Sizes are sealed: nobody can cut a slot under somebody who has it mapped.
 *
 *   SLOT_LIST  the slots that hold a complete shard, in the order in which they were made, from the
 *              `first` of them on; `bytes`: of all slots together, whatever they hold
 *   SLOT_TAKE  `count` slots of at least `bytes` each: free or half written ones that nobody of
 *              this attempt took, else new ones; all of them or none (REFUSED, with a reason)
 *   SETTLE     this attempt has taken what it needs here: every other slot is given back to the
 *              system, whatever it holds
 *
 * What a slot holds is what its head says, which ranks of the run write; who took it is the pool's
 * own knowledge. One thread.
 */
#ifndef TRM_LAUNCH_AGENT_SLOT_POOL_H
#define TRM_LAUNCH_AGENT_SLOT_POOL_H

#include "collectives/attach.h"

#define TRM_SLOT_POOL_MAX_SLOTS 8192

struct trm_slot_pool;

/* At most `limit_bytes` in all slots together. *out is returned owned. */
enum trm_status trm_slot_pool_create(int64_t limit_bytes, struct trm_slot_pool **out,
                                     struct trm_error *err);

/* Closes all descriptors; memory that no process has mapped is free again. Takes NULL. */
void trm_slot_pool_destroy(struct trm_slot_pool *pool);

/* Whether a request is one for the pool. */
bool trm_slot_pool_serves(enum trm_attach_kind kind);

/* Answers one request, which may say anything: what it asks is bounded, and refused in the reply.
 * fds[TRM_ATTACH_MAX_FDS]: descriptors to send along, which stay the pool's. */
void trm_slot_pool_answer(struct trm_slot_pool *pool, const struct trm_attach_message *request,
                          struct trm_attach_message *reply, int fds[TRM_ATTACH_MAX_FDS],
                          int *fd_count);

/* Gives everything back to the system: of a node that is not used any more. */
void trm_slot_pool_clear(struct trm_slot_pool *pool);

int64_t trm_slot_pool_bytes(const struct trm_slot_pool *pool);
int trm_slot_pool_count(const struct trm_slot_pool *pool);

#endif
