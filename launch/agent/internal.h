/*
 * What the parts of an agent share: agent.c (its life), link.c (supervisor, beats, lease),
 * fence.c (attempts, killing, proof of death), orphan.c (no
 * supervisor any more).
 */
#ifndef TRM_LAUNCH_AGENT_INTERNAL_H
#define TRM_LAUNCH_AGENT_INTERNAL_H

#include "launch/agent/agent.h"
#include "launch/agent/check.h"
#include "launch/agent/place.h"
#include "launch/agent/ranks.h"
#include "launch/link/link.h"

#define TRM_AGENT_BEATS 256 /* whose time of sending is kept */

enum trm_agent_phase { TRM_AGENT_SERVES, TRM_AGENT_LEAVES, TRM_AGENT_CLOSES };

struct trm_agent {
    uv_loop_t *loop;
    struct trm_agent_options options;
    const struct trm_log *log;
    trm_agent_end_fn *on_end;
    void *context;
    char version[64], boot_id[64];
    struct trm_agent_place place;
    struct trm_slot_pool *pool;
    struct trm_agent_ranks *ranks;
    struct trm_agent_check *check;  /* NULL: none under way */
    struct trm_agent_check *orphan; /* the orphan command; NULL: it does not run */
    int64_t orphan_next_ns;         /* not before; CLOCK_BOOTTIME */
    enum trm_agent_phase phase;
    char why[TRM_MESSAGE_TEXT_BYTES]; /* it leaves */
    int holds;                        /* handles, and the ranks */
    uv_timer_t beat_timer, retry_timer, lease_timer, fence_timer;
    uv_poll_t handover;

    /* The supervisor (link.c). Times are CLOCK_BOOTTIME, which a suspension does not stop. */
    struct trm_link *link; /* NULL: none, not even on its way */
    bool is_open;
    struct trm_link
        *next; /* on its way, to take the place of an open one that is silent; or NULL */
    int next_address, failures; /* of connecting, one after the other */
    int64_t number;             /* of the newest beat */
    int64_t base;               /* the hello's, of this connection */
    int64_t opened_ns;          /* when that was sent */
    int64_t acknowledged;
    int64_t sent_ns[TRM_AGENT_BEATS]; /* [number % TRM_AGENT_BEATS] */
    int64_t word_ns;                  /* of the supervisor: the newest acknowledgement */
    int64_t lease_until_ns;           /* 0: never had one */
    struct trm_rank_report *reports;  /* [TRM_FLIGHT_MAX_RANKS], scratch */

    /* Attempts (fence.c). */
    int64_t attempt, dead;
    int64_t fence_up_to; /* with `fencing` */
    bool fencing, told_slow, is_pending;
    int64_t fence_begin_ns, fence_kill_ns;
    struct trm_message_begin pending; /* waits until the way is free; with is_pending */

    /* Cleaning up, on a thread, which reads `runtime` and `more_to_come` and writes the error. */
    uv_work_t sweep;
    bool sweeping, sweep_again, more_to_come;
    char runtime[TRM_PATH_BYTES];
    struct trm_error sweep_error;
};

/* Something unusual: into the log, and to the supervisor. */
void trm_agent_note(struct trm_agent *agent, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* To the supervisor, if it is there. */
void trm_agent_send(struct trm_agent *agent, const struct trm_message *message);

/* link.c */
void trm_agent_connect(struct trm_agent *agent);
void trm_agent_disconnect(struct trm_agent *agent, bool flush);
void trm_agent_beat(struct trm_agent *agent); /* out of turn, if there is a connection */
void trm_agent_on_beat_timer(uv_timer_t *timer);
void trm_agent_on_retry_timer(uv_timer_t *timer);
void trm_agent_on_lease_timer(uv_timer_t *timer);
bool trm_agent_has_lease(const struct trm_agent *agent);

/* orphan.c: has the orphan command run while the supervisor is lost. */
void trm_agent_orphan_tick(struct trm_agent *agent, int64_t now_ns);
void trm_agent_orphan_cancel(struct trm_agent *agent);

/* fence.c */
void trm_agent_fence(struct trm_agent *agent, int64_t up_to);
void trm_agent_refuse_pending(struct trm_agent *agent, const char *why);
void trm_agent_begin(struct trm_agent *agent, const struct trm_message_begin *begin);
void trm_agent_try_proof(struct trm_agent *agent); /* something ended */
void trm_agent_on_fence_timer(uv_timer_t *timer);

/* agent.c: the node is free, or cannot be freed in time: the end of leaving. */
void trm_agent_finish(struct trm_agent *agent);

#endif
