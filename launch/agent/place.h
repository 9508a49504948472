/*
 * An agent's place on its node: the directory "<runtime>-<hostname>" (mode 0700), and in it
 *
 *   agent.lock    flock, exclusive, held by the agent while it lives: one agent per node and run
 *   ranks.lock    flock, shared, held by each rank (collectives/attach.h)
 *   agent.sock    where ranks attach
 *   handover.sock where a newly started agent hands its options to the one that lives, so that the
 *                 memory slots outlive a change of supervisors
 *   agent.log     the log of an agent in the background
 *
 * A dead predecessor's place is taken over as it is. The directory must be this user's alone.
 * These calls block on the (node-local) file system.
 */
#ifndef TRM_LAUNCH_AGENT_PLACE_H
#define TRM_LAUNCH_AGENT_PLACE_H

#include <stdbool.h>

#include "base/file.h"
#include "launch/agent/options.h"

#define TRM_AGENT_LOG "agent.log"

struct trm_agent_place {
    char directory[TRM_PATH_BYTES];
    char hostname[TRM_AGENT_HOST_BYTES];
    int agent_lock, ranks_lock; /* descriptors; ranks_lock is not locked */
    int attach, handover;       /* listening sockets, SOCK_SEQPACKET, not blocking */
    bool is_clear;
};

/* Makes or takes over the place. TRM_ERR_MISMATCH: another agent lives in it. */
enum trm_status trm_agent_place_take(const char *runtime, struct trm_agent_place *place,
                                     struct trm_error *err);

/* Removes everything in it, and then itself; what is open stays so. From then on, another agent may
 * come: this one admits nobody any more. */
void trm_agent_place_clear(struct trm_agent_place *place);

/* Closes it; `clean`: clears it before, if that has not been done. */
void trm_agent_place_leave(struct trm_agent_place *place, bool clean);

/* Whether nobody holds the ranks' lock now. Never waits. */
bool trm_agent_place_is_free_of_ranks(const struct trm_agent_place *place);

/* Gives `line` (launch/agent/options.h) to the agent that lives in the runtime's place and waits
 * for its answer. TRM_ERR_NOT_FOUND: there is none; TRM_ERR_MISMATCH: it refused, with its reason;
 * TRM_ERR_TIMEOUT: it does not answer, and *pid is its process. */
enum trm_status trm_agent_hand_over(const char *runtime, const char *line, int *pid,
                                    struct trm_error *err);

/* The living agent's end: takes one hand-over that waits at the socket (none: TRM_ERR_NOT_FOUND),
 * and answers it: `refusal` NULL means taken. *connection is to be answered once. */
enum trm_status trm_agent_place_receive(const struct trm_agent_place *place, int *connection,
                                        struct trm_agent_options *options, struct trm_error *err);
void trm_agent_place_answer(int connection, const char *refusal);

#endif
