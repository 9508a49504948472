/*
 * A small world for tests of agents: a supervisor that remembers what it is told, an agent in the
 * same loop (or another process, tools/agent.c), and ranks that are processes (fake_rank.c), in a
 * directory of their own.
 */
#ifndef TRM_TESTS_UNIT_LAUNCH_NODE_H
#define TRM_TESTS_UNIT_LAUNCH_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/clock.h"
#include "launch/agent/agent.h"
#include "launch/link/link.h"

#define NODE_PATIENCE_MS 20000

struct node {
    uv_loop_t loop;
    uv_timer_t tick; /* keeps the loop turning, so that conditions are looked at */
    char root[64];   /* holds everything; removed at the end, where it must be empty */
    char directory[TRM_PATH_BYTES]; /* the agent's */
    struct trm_agent_options options;
    struct trm_log log;
    int log_fd;
    struct trm_agent *agent; /* NULL: none, or it has ended */
    char agent_why[256];

    struct trm_link_server *server;
    int port_holder;       /* a socket that keeps the port of a server that is away */
    struct trm_link *link; /* to the agent; NULL: none */
    bool acknowledge;      /* beats; true at first */
    int received[TRM_MESSAGE_TYPES], strangers, closed;
    struct trm_message hello, begun, gone, health;
    char notes[8192];        /* all that was noted, a line each */
    struct trm_message beat; /* the newest, with its ranks */
    int64_t dead;            /* of the newest DEAD */
};

/* A world with a supervisor, and no agent yet. */
void node_start_world(struct node *node);

/* Starts supervisor and agent; leases are 60 s, so that a slow machine lapses none by itself. */
void node_start(struct node *node);
void node_start_supervisor(struct node *node);
/* Cuts the connection and listens no more; at its port nobody else does until a new start. */
void node_lose_supervisor(struct node *node);
void node_start_agent(struct node *node);

/* Ends the agent, and checks that nothing is left: files, descriptors, handles, children. */
void node_finish(struct node *node);

/* Waits until the agent has ended. */
void node_wait_agent(struct node *node);

void node_send(struct node *node, struct trm_message message);
void node_begin(struct node *node, int64_t attempt); /* and waits for the answer, which is yes */
void node_kill(struct node *node, int64_t attempt);  /* and waits for the proof */

/* A rank process; `mode` as in fake_rank.c. */
pid_t node_rank(struct node *node, int64_t attempt, int rank, int local_rank, const char *mode);
/* Waits for its end; as waitpid tells it. */
int node_reap(struct node *node, pid_t pid);

/* Waits until the newest beat shows so many ranks connected. */
void node_wait_connected(struct node *node, int count);
const struct trm_rank_report *node_report(const struct node *node, int rank);
bool node_has_children(void);

/* From now on the agent has leases of `lease_ms`, and what it has ends by then. */
void node_shorten_lease(struct node *node, int64_t lease_ms);

/* The program beside this one. */
void node_program(const char *name, char *path, size_t bytes);

#define NODE_WAIT(node, condition)                                         \
    do {                                                                   \
        int64_t deadline_ns = trm_clock_deadline_ns(NODE_PATIENCE_MS);     \
        bool reached;                                                      \
        while (!(reached = (condition)) && !trm_clock_passed(deadline_ns)) \
            uv_run(&(node)->loop, UV_RUN_ONCE);                            \
        if (!reached)                                                      \
            fail_msg("in vain: %s", #condition);                           \
    } while (0)

#endif
