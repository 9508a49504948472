/* What ranks.c (connections, admission) and cohort.c (processes, records) share. */
#ifndef TRM_LAUNCH_AGENT_RANKS_INTERNAL_H
#define TRM_LAUNCH_AGENT_RANKS_INTERNAL_H

#include "launch/agent/ranks.h"
#include "launch/process.h"

struct visitor;

/* A place for a rank: a record of the segment. */
struct seat {
    struct cohort *cohort;
    bool taken, told_gone;
    int rank, index;
    struct trm_process process;
    int pidfd;
    uv_poll_t death;
    struct visitor *visitor; /* its connection; NULL: closed */
};

/* The ranks of one attempt. It goes when its handles have closed. */
struct cohort {
    struct trm_agent_ranks *ranks;
    int64_t attempt;
    int fd; /* the segment's */
    struct trm_flight_segment *segment;
    size_t bytes;
    struct trm_process launcher;
    int launcher_fd; /* -1: none yet */
    uv_poll_t launcher_death;
    int holds;
    int capacity;
    struct seat seats[];
};

/* A connection. */
struct visitor {
    struct trm_agent_ranks *ranks;
    uv_poll_t poll;
    int socket;
    pid_t pid;
    int64_t since_ns;
    struct seat *seat; /* NULL: has not been admitted */
    struct visitor *next, *previous;
};

struct trm_agent_ranks {
    uv_loop_t *loop;
    struct trm_slot_pool *pool;
    struct trm_agent_ranks_events events;
    void *context;
    uv_poll_t listener;
    int socket;
    struct visitor *visitors;
    int visitor_count;
    struct cohort *cohort;               /* of the attempt at hand; NULL before the first */
    char domain[TRM_MESSAGE_NAME_BYTES]; /* which ranks are told */
    bool admits, closing;
    int holds;
};

enum trm_status trm_cohort_create(struct trm_agent_ranks *ranks, int64_t attempt, int capacity,
                                  struct cohort **out, struct trm_error *err);

/* Closes its handles and descriptors; its memory goes once they have closed. NULL is fine. */
void trm_cohort_retire(struct cohort *cohort);

/* Gives the place `index` to a process. TRM_ERR_MISMATCH with the reason. */
enum trm_status trm_cohort_seat(struct cohort *cohort, int index, int rank, pid_t pid,
                                struct seat **seat, struct trm_error *err);

/* Tells, once, of a rank that went without a record. */
void trm_cohort_check_gone(struct seat *seat);

/* One user of `ranks` less. */
void trm_agent_ranks_release(struct trm_agent_ranks *ranks);

#endif
