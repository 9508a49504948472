/* What the sources of the supervisor call of each other; internal.h says what is where.
 */
#ifndef TRM_LAUNCH_SUPERVISOR_PARTS_H
#define TRM_LAUNCH_SUPERVISOR_PARTS_H

#include "launch/supervisor/internal.h"

/* Ticks come at most once for each time around the loop: between two, what had arrived is read. So
 * waits for words that are under way are counted in these, and are as long after a standstill. */
#define TRM_SUPERVISOR_TICK_MS   20
#define TRM_SUPERVISOR_TICKS(ms) ((ms) / TRM_SUPERVISOR_TICK_MS)

static inline struct trm_node *node_of(const struct agent *agent)
{
    return &agent->supervisor->nodes.items[agent->number];
}

double trm_supervisor_seconds(int64_t from_ns, int64_t to_ns);

/* supervisor.c */
void trm_supervisor_event(struct trm_supervisor *s, enum trm_run_event event);
/* A signal, here or at a node, asks the run to save and leave. */
void trm_supervisor_asked(struct trm_supervisor *s, int signal_number, const char *node);
/* Sets why and with what code the run ends, if that was not set before. */
void trm_supervisor_end_with(struct trm_supervisor *s, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* To be called before anything is made of what nodes said, or of their silence. */
void trm_supervisor_note_standstill(struct trm_supervisor *s, int64_t now_ns);
/* Runs `work` on another thread and `done` on this one; false when the last one is not over. */
bool trm_supervisor_work(struct trm_supervisor *s, struct file_work *work, uv_work_cb run,
                         uv_after_work_cb done);

/* agents.c */
enum trm_status trm_supervisor_listen(struct trm_supervisor *s, struct trm_error *err);
void trm_supervisor_agents_tick(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_send(struct agent *agent, const struct trm_message *message);
void trm_supervisor_agents_quit(struct trm_supervisor *s);
bool trm_supervisor_agents_left(const struct trm_supervisor *s);
int64_t trm_supervisor_lease_end_ns(const struct trm_supervisor *s, const struct agent *agent);

/* start.c */
void trm_supervisor_start_agent(struct agent *agent);
/* The wait before the next try. */
int64_t trm_supervisor_retry_ns(const struct agent *agent);
/* The loop has ended, and goes on until what started agents is gone, by itself or soon killed. */
void trm_supervisor_agents_reap(struct trm_supervisor *s);

/* check.c */
void trm_supervisor_check(struct trm_supervisor *s);
/* Begins the checks of the next attempt while the ranks of the last are killed. */
void trm_supervisor_check_ahead(struct trm_supervisor *s);
/* A node answers, perhaps again, while others are checked. */
void trm_supervisor_check_joined(struct agent *agent);

/* While nodes are gathered: those whose last check failed long enough ago may be asked once more.
 * Whether there are any, then or later. */
bool trm_supervisor_check_again(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_check_answer(struct agent *agent, const struct trm_message_health *health);
void trm_supervisor_check_tick(struct trm_supervisor *s, int64_t now_ns);
/* A node that is being checked went away. */
void trm_supervisor_check_lost(struct agent *agent);

/* claim.c */
void trm_supervisor_claim(struct trm_supervisor *s);
/* Whether the claim was looked at lately enough to act upon it. */
bool trm_supervisor_owns(const struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_claim_check_tick(struct trm_supervisor *s, int64_t now_ns);

/* ranks.c */
void trm_supervisor_launch(struct trm_supervisor *s);
/* To an agent of the attempt that has not begun; to one that came back, again. */
void trm_supervisor_send_begin(struct agent *agent);
void trm_supervisor_begun(struct agent *agent, const struct trm_message_begun *begun);
void trm_supervisor_job_tick(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_ask_stop(struct trm_supervisor *s);
void trm_supervisor_send_stop(struct agent *agent); /* where one is asked for */
void trm_supervisor_kill_mpirun(struct trm_supervisor *s);

/* fault.c */
/* Describes what broke, once per attempt, and moves on. */
void trm_supervisor_fault(struct trm_supervisor *s, const struct fault *fault);
void trm_supervisor_fence(struct trm_supervisor *s);
/* To an agent that has not proved yet that it is free of ranks; to one that came back, again. */
void trm_supervisor_send_kill(struct agent *agent);
void trm_supervisor_fence_tick(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_again(struct trm_supervisor *s);
void trm_supervisor_node_lost(struct agent *agent, const char *reason);
struct fault trm_supervisor_fault_init(enum fault_kind kind);
/* Every rank has made a step: tells how long the recovery took. */
void trm_supervisor_stepping(struct trm_supervisor *s, int64_t now_ns);

/* watch.c */
void trm_supervisor_watch_beat(struct agent *agent, const struct trm_message_beat *beat);
void trm_supervisor_watch_tick(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_status_tick(struct trm_supervisor *s, int64_t now_ns);
void trm_supervisor_status_last(struct trm_supervisor *s); /* blocks */
/* Fills in who holds up the others, as the records have it. */
void trm_supervisor_name_culprit(struct trm_supervisor *s, struct fault *fault);
/* The newest report of a rank of the attempt at hand, or NULL. */
const struct trm_rank_report *trm_supervisor_report_of(const struct trm_supervisor *s, int rank);

#endif
