/*
 * The ranks of a node as its agent sees them: the socket where they attach (collectives/attach.h),
 * the flight segment of the attempt at hand, their processes, and their launcher (the parent of the
 * first that was admitted).
 *
 * A rank is admitted when its attempt is the one at hand, its place is free, and its process is
 * this user's and in this PID namespace. Its connection and its pidfd are watched; both stay with
 * its place until the next attempt begins. Descriptors: two per rank, one for the segment, one for
 * the launcher; connections that have not said hello are bounded in number and time.
 *
 * One thread, the loop's. Callbacks come from the loop alone.
 */
#ifndef TRM_LAUNCH_AGENT_RANKS_H
#define TRM_LAUNCH_AGENT_RANKS_H

#include <uv.h>

#include "launch/agent/slot_pool.h"
#include "launch/link/message.h"

struct trm_agent_ranks;

struct trm_agent_ranks_events {
    /* A rank or the launcher came, ended or left a record: worth a beat now. */
    void (*on_change)(void *context);
    /* A rank's connection closed, or its process ended, without an exit record. */
    void (*on_gone)(const struct trm_message_gone *gone, void *context);
    /* Something unusual, in words. */
    void (*on_odd)(const char *what, void *context);
    /* After trm_agent_ranks_close, when nothing is left. */
    void (*on_closed)(void *context);
};

/* Listens on `socket`, which stays the caller's; `pool` answers requests for slots. */
enum trm_status trm_agent_ranks_create(uv_loop_t *loop, int socket, struct trm_slot_pool *pool,
                                       const struct trm_agent_ranks_events *events, void *context,
                                       struct trm_agent_ranks **out, struct trm_error *err);
void trm_agent_ranks_close(struct trm_agent_ranks *ranks);

/* A new segment; ranks of the attempt are admitted from now on, and told its failure domain.
 * Requires that none lives. */
enum trm_status trm_agent_ranks_begin(struct trm_agent_ranks *ranks,
                                      const struct trm_message_begin *begin, int64_t lease_until_ns,
                                      struct trm_error *err);

/* Nobody is admitted any more, until the next begin. */
void trm_agent_ranks_refuse(struct trm_agent_ranks *ranks);
bool trm_agent_ranks_admits(const struct trm_agent_ranks *ranks);

void trm_agent_ranks_set_lease(struct trm_agent_ranks *ranks, int64_t until_ns);
void trm_agent_ranks_ask_stop(struct trm_agent_ranks *ranks);

/* SIGKILL to every rank that was admitted, and to the launcher if it is an orted. */
void trm_agent_ranks_kill(struct trm_agent_ranks *ranks);

/* Processes of admitted ranks that have not ended. */
int trm_agent_ranks_living(const struct trm_agent_ranks *ranks);

/* Reports of all admitted ranks; returns how many, `capacity` at most. */
int trm_agent_ranks_report(struct trm_agent_ranks *ranks, struct trm_rank_report *out,
                           int capacity);
enum trm_launcher trm_agent_ranks_launcher(const struct trm_agent_ranks *ranks);

/* Drops connections that have been silent for too long; now and then. */
void trm_agent_ranks_tick(struct trm_agent_ranks *ranks);

#endif
