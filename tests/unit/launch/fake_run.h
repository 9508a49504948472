/*
 * A run without ranks: a real supervisor in a process of its own, over nodes that are fake agents
 * in this one. The remote shell is a script that leaves the agent's line where this process finds
 * it; what would be mpirun is a script that waits to be killed.
 *
 * Nodes are called node0, node1, ...; ranks are theirs in order, `slots` each. Times are long
 * enough that a busy machine lapses nothing by itself.
 */
#ifndef TRM_TESTS_UNIT_LAUNCH_FAKE_RUN_H
#define TRM_TESTS_UNIT_LAUNCH_FAKE_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "fake_agent.h"
#include "launch/attempt.h"
#include "launch/supervisor/states.h"

#define FAKE_RUN_PATIENCE_MS 60000
#define FAKE_RUN_LAUNCHER    "exec sleep 600"

struct fake_run {
    char root[64]; /* holds everything; removed at the end */
    uv_loop_t loop;
    uv_timer_t tick; /* keeps the loop turning */
    int nodes, slots, beat_ms;
    struct fake_agent *agents; /* [nodes] */
    bool *started;             /* [nodes] */
    struct trm_rank_report *reports;
    struct trm_wire_token token;
    int port;
    int output;          /* the supervisor's standard error; 0: a file */
    int64_t farewell_ms; /* for the launcher, behind its ranks; 0: the usual */
    pid_t supervisor;    /* 0: it has ended, with `status` */
    int status;          /* as of waitpid */
    struct rusage usage;
};

/* `launcher`: what the shell does in mpirun's place. `flags`: of the configuration, NULL at the
 * end. */
void fake_run_create(struct fake_run *run, int nodes, int slots, int beat_ms);
void fake_run_supervise(struct fake_run *run, int ranks, const char *launcher,
                        const char *const *flags);
void fake_run_destroy(struct fake_run *run);

/* Starts the agents of nodes [from, to), which the supervisor has asked its remote shell for. */
void fake_run_join(struct fake_run *run, int from, int to);

/* All ranks of the nodes with an attempt at hand report that step from now on. */
void fake_run_step(struct fake_run *run, int64_t step);
/* The same for the first step of the first attempt; waits until it has begun, and for the
 * supervisor to have heard of it. */
void fake_run_first_step(struct fake_run *run);
void fake_run_exit(struct fake_run *run, int code);
void fake_run_blame(struct fake_run *run, int rank); /* in what ranks report from now on */
/* A rank dies, of a signal that its node tells (0: does not); and the same of SIGSEGV, so that
 * nobody waits for mpirun's word on it. */
void fake_run_died(struct fake_run *run, int node, int rank, int64_t step, int signal_number);
void fake_run_gone(struct fake_run *run, int node, int rank, int64_t step);

/* The text of events.jsonl, owned; "" when it is not there yet. */
char *fake_run_events(const struct fake_run *run);
bool fake_run_tells(const struct fake_run *run, const char *text);
int fake_run_count(const struct fake_run *run, const char *text);
/* Whether status.json, which may be a second old, has such a line (`"attempt": 1`), and the state.
 */
bool fake_run_is(const struct fake_run *run, enum trm_run_state state, const char *line);
int fake_run_received(const struct fake_run *run, enum trm_message_type type);

/* How often the launcher was started. */
int fake_run_launches(const struct fake_run *run);

/* The supervisor stands still, and hears all that was said meanwhile at once when it goes on. */
void fake_run_stop(struct fake_run *run);
void fake_run_go_on(struct fake_run *run);

/* Waits for the supervisor's end, and returns its exit code. */
int fake_run_end(struct fake_run *run);
bool fake_run_has_ended(struct fake_run *run);

#define FAKE_RUN_WAIT(run, condition)                                      \
    do {                                                                   \
        int64_t deadline_ns = trm_clock_deadline_ns(FAKE_RUN_PATIENCE_MS); \
        bool reached;                                                      \
        while (!(reached = (condition)) && !trm_clock_passed(deadline_ns)) \
            uv_run(&(run)->loop, UV_RUN_ONCE);                             \
        if (!reached)                                                      \
            fail_msg("in vain: %s\n%s", #condition, fake_run_events(run)); \
    } while (0)

#endif
