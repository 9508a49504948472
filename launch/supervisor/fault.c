/* What broke, the proof that nothing of it lives, and whether to try again. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "launch/supervisor/first_cause.h"
#include "launch/supervisor/parts.h"

/* mpirun's word on which signal ended a rank is worth waiting so long for; it mostly comes, and
 * mpirun ends, within a tenth of a second. Not where it is not to be expected. */
#define SIGNAL_TICKS   TRM_SUPERVISOR_TICKS(5000)
#define UNLIKELY_TICKS TRM_SUPERVISOR_TICKS(400)

/* After mpirun has ended: what it said, and what other nodes have to say, may be on its way. */
#define WORDS_TICKS 2

struct fault trm_supervisor_fault_init(enum fault_kind kind)
{
    return (struct fault){.kind = kind, .rank = -1, .step = -1, .sign_ns = trm_clock_now_ns()};
}

/* Whether the lease of the fault's node ran out for want of an answer from here: this process stood
 * still, or heard of the node all the time and could not be sure of its claim. */
static void find_starved(const struct trm_supervisor *s, struct fault *fault)
{
    const struct trm_node *node = fault->node[0] ? trm_nodes_find(&s->nodes, fault->node) : NULL;
    const struct agent *agent = node ? &s->agents[node - s->nodes.items] : NULL;
    int64_t least_ns = (s->config->lease_ms - s->config->heartbeat_interval_ms) * 1000000;

    if (!agent)
        return;
    if (s->stood_still_ns >= least_ns &&
        fault->decided_ns - s->went_on_ns < s->config->lease_ms * 1000000) {
        fault->starved_s = (double)s->stood_still_ns / 1e9;
        fault->stood_still = true;
    } else if (agent->heard_ns - agent->acked_ns >= least_ns) {
        fault->starved_s = (double)(agent->heard_ns - s->claim_checked_ns) / 1e9;
    }
}

void trm_supervisor_fault(struct trm_supervisor *s, const struct fault *fault)
{
    switch (s->state) {
    case TRM_RUN_LAUNCHING:
    case TRM_RUN_RUNNING:
    case TRM_RUN_STOPPING:
        break;
    default: /* the first cause counts, and it is known; before a start there is nothing to break */
        return;
    }
    s->fault = *fault;
    s->fault.decided_ns = trm_clock_now_ns();
    find_starved(s, &s->fault);
    if (s->fault.step < 0)
        s->fault.step = s->best_step >= 0 ? s->best_step : -1;
    trm_supervisor_event(s, TRM_EVENT_FAULT);
}

void trm_supervisor_node_lost(struct agent *agent, const char *reason)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_node *node = node_of(agent);
    struct fault fault = trm_supervisor_fault_init(FAULT_NODE);
    bool active = node->ranks > 0 && agent->asked == s->claim.attempt;
    bool known = node->state == TRM_NODE_READY || node->state == TRM_NODE_UNHEALTHY;

    trm_supervisor_check_lost(agent);
    agent->tried_ns = trm_clock_now_ns(); /* if it lives, it comes back by itself */
    if (known) {
        node->state = TRM_NODE_AWAY;
        snprintf(node->reason, sizeof node->reason, "%.250s", reason);
    }
    fault.blames_node = true;
    fault.sign_ns = agent->heard_ns;
    snprintf(fault.node, sizeof fault.node, "%s", node->host.name);
    snprintf(fault.cause, sizeof fault.cause, "was lost: %.900s", reason);
    if (active && (s->state == TRM_RUN_LAUNCHING || s->state == TRM_RUN_RUNNING ||
                   s->state == TRM_RUN_STOPPING)) {
        trm_supervisor_fault(s, &fault);
    } else if (known && s->state != TRM_RUN_LEAVING && s->state != TRM_RUN_ENDED) {
        struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
        happened.node = node->host.name;
        happened.cause = reason;
        trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s is away: %s", node->host.name,
                       reason);
    }
}

/* "rank 3 on node2 was killed (signal 9)", "node2 was lost: ...", "mpirun was killed (signal 9)".
 */
static void describe(const struct fault *fault, char *text, size_t text_bytes)
{
    if (fault->rank >= 0 && fault->node[0])
        snprintf(text, text_bytes, "rank %d on %s %s", fault->rank, fault->node, fault->cause);
    else if (fault->rank >= 0)
        snprintf(text, text_bytes, "rank %d %s", fault->rank, fault->cause);
    else if (fault->node[0])
        snprintf(text, text_bytes, "%s %s", fault->node, fault->cause);
    else
        snprintf(text, text_bytes, "%s", fault->cause);
}

static void find_first_cause(struct trm_supervisor *s)
{
    struct fault *fault = &s->fault;
    const struct trm_node *node = fault->node[0] ? trm_nodes_find(&s->nodes, fault->node) : NULL;
    const struct trm_node *home = trm_nodes_of_rank(&s->nodes, s->signal_rank);
    const struct trm_rank_report *report = trm_supervisor_report_of(s, s->signal_rank);
    const struct trm_rank_report *own = trm_supervisor_report_of(s, fault->rank);
    struct trm_clues clues = {
        .mpirun_ended = s->mpirun_ended,
        .mpirun_status = s->mpirun_status,
        .mpirun_signal = s->mpirun_signal,
        .signal_rank = s->signal_rank,
        .signal_number = s->signal_number,
        .signal_node = home ? home->host.name : NULL,
        .signal_phase = report ? report->phase : TRM_PHASE_STARTUP,
        .died_of = own ? own->signal : 0,
        .proved_itself = node && s->agents[node - s->nodes.items].dead >= s->claim.attempt,
    };

    for (int i = 0; i < s->nodes.count && !clues.lost_node; i++)
        if (s->nodes.items[i].ranks > 0 && s->agents[i].asked == s->claim.attempt &&
            s->nodes.items[i].state == TRM_NODE_AWAY && !s->agents[i].link) {
            clues.lost_node = s->nodes.items[i].host.name;
            clues.lost_reason = s->nodes.items[i].reason;
            clues.lost_heard_ns = s->agents[i].heard_ns;
        }
    trm_first_cause(fault, &clues);
}

static void tell(struct trm_supervisor *s)
{
    struct fault *fault = &s->fault;
    struct trm_event happened = trm_event_init(TRM_HAPPENED_FAULT);
    char who[1300], where[128] = "";

    find_first_cause(s);
    describe(fault, who, sizeof who);
    if (fault->rank >= 0)
        snprintf(where, sizeof where, " at step %lld, in %s", (long long)fault->step + 1,
                 trm_phase_name(fault->phase));
    else if (fault->step >= 0 && fault->kind != FAULT_HANG && fault->kind != FAULT_START)
        snprintf(where, sizeof where, " at step %lld", (long long)fault->step + 1);
    happened.attempt = s->claim.attempt;
    happened.node = fault->node[0] ? fault->node : NULL;
    happened.rank = fault->rank;
    happened.signal = fault->signal;
    happened.step = fault->step + 1;
    happened.phase = fault->rank >= 0 ? trm_phase_name(fault->phase) : NULL;
    happened.cause = fault->cause;
    happened.detection_s = trm_supervisor_seconds(fault->sign_ns, fault->decided_ns);
    snprintf(s->last_fault, sizeof s->last_fault, "%.900s%.100s", who, where);
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s%s", who, where);
    s->fault_told = true;
}

/* How long mpirun's words are waited for. A daemon that was stopped tells it nothing, and srun,
 * which goes on when a rank has ended, may have said all that it will. */
static int64_t words_ticks(const struct trm_supervisor *s)
{
    const struct trm_node *node = trm_nodes_find(&s->nodes, s->fault.node);
    const struct agent *agent = node ? &s->agents[node - s->nodes.items] : NULL;

    if ((s->fault.kind != FAULT_RANK_GONE && s->fault.kind != FAULT_DAEMON) || !s->mpirun_runs)
        return 0;
    if ((agent && agent->launcher == TRM_LAUNCHER_STOPPED) || s->settings->srun)
        return UNLIKELY_TICKS;
    return SIGNAL_TICKS;
}

/* Nobody else has caused it: mpirun ends ranks by SIGTERM and SIGKILL alone. */
static bool is_crash(const struct trm_supervisor *s)
{
    const struct trm_rank_report *report = trm_supervisor_report_of(s, s->fault.rank);

    return s->fault.kind == FAULT_RANK_GONE && report && report->signal != 0 &&
           report->signal != SIGKILL && report->signal != SIGTERM;
}

void trm_supervisor_fence(struct trm_supervisor *s)
{
    bool paused = s->fault.kind == FAULT_NONE;

    s->fault_told = paused;
    s->fence_sent = false;
    s->fence_at_tick = s->ticks + words_ticks(s);
    trm_supervisor_fence_tick(s, trm_clock_now_ns());
}

void trm_supervisor_send_kill(struct agent *agent)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_message message = {.type = TRM_MESSAGE_KILL, .kill = {.attempt = s->claim.attempt}};

    if (s->state != TRM_RUN_FENCING || !s->fence_sent || agent->asked != s->claim.attempt ||
        agent->dead >= s->claim.attempt)
        return;
    snprintf(message.kill.reason, sizeof message.kill.reason, "%.1000s", s->last_fault);
    agent->kill_ns = trm_clock_now_ns();
    trm_supervisor_send(agent, &message);
}

static void send_kills(struct trm_supervisor *s)
{
    s->fence_sent = true;
    for (int i = 0; i < s->nodes.count; i++)
        trm_supervisor_send_kill(&s->agents[i]);
    trm_supervisor_kill_mpirun(s);
    trm_supervisor_check_ahead(s);
}

/* No rank of the attempt can be alive on this node: it proved that, or its lease is over. An agent
 * that is new there is given the time to prove it, too. */
static bool is_fenced(struct trm_supervisor *s, struct agent *agent, int64_t now_ns)
{
    struct trm_node *node = node_of(agent);

    if (agent->asked != s->claim.attempt || agent->dead >= s->claim.attempt)
        return true;
    if (now_ns < trm_supervisor_lease_end_ns(s, agent) ||
        (agent->link && now_ns - agent->kill_ns < s->config->lease_ms * 1000000))
        return false;
    if (agent->link && node->state == TRM_NODE_READY) {
        node->state = TRM_NODE_QUARANTINED;
        snprintf(node->reason, sizeof node->reason, "it cannot prove that its ranks are dead");
        struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
        happened.node = node->host.name;
        happened.cause = node->reason;
        trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s is quarantined: %s",
                       node->host.name, node->reason);
    }
    return true;
}

void trm_supervisor_fence_tick(struct trm_supervisor *s, int64_t now_ns)
{
    bool heard_mpirun = s->mpirun_ended && s->ticks - s->mpirun_ended_tick >= WORDS_TICKS;
    bool heard_srun = s->settings->srun && s->signal_rank >= 0 && s->signal_rank == s->fault.rank;

    if (!s->fence_sent && s->ticks < s->fence_at_tick && !heard_mpirun && !heard_srun &&
        !is_crash(s))
        return;
    if (!s->fault_told)
        tell(s);
    if (!s->fence_sent)
        send_kills(s);
    if (s->mpirun_runs)
        return;
    bool all = true;
    for (int i = 0; i < s->nodes.count; i++)
        all = is_fenced(s, &s->agents[i], now_ns) && all;
    if (!all)
        return;
    s->fault.fenced_ns = now_ns;
    trm_supervisor_event(s, TRM_EVENT_FENCED);
}

/* A rank that an operator or a lost node ended says nothing about the program. */
static bool is_own_doing(const struct fault *fault)
{
    switch (fault->kind) {
    case FAULT_RANK_GONE:
        return fault->signal != SIGKILL && fault->signal != SIGTERM;
    case FAULT_RANK_LEFT:
    case FAULT_HANG:
    case FAULT_START:
        return true;
    default:
        return false;
    }
}

/* Counts what repeats; true when trying again has no use. */
static bool is_hopeless(struct trm_supervisor *s)
{
    const struct fault *fault = &s->fault;
    const struct trm_config *config = s->config;
    char who[1300];

    describe(fault, who, sizeof who);
    s->fruitless = s->best_step > s->best_before ? 0 : s->fruitless + 1;
    if (is_own_doing(fault) && fault->kind == s->same_kind && fault->step == s->same_step &&
        fault->signal == s->same_signal)
        s->same_failures++;
    else
        s->same_failures = 1;
    s->same_kind = fault->kind;
    s->same_step = fault->step;
    s->same_signal = fault->signal;
    if (is_own_doing(fault) && s->same_failures >= config->max_same_failures) {
        trm_supervisor_end_with(s, TRM_EXIT_GAVE_UP,
                                "gave up: step %lld failed %d times in a row with the same cause: "
                                "%s",
                                (long long)fault->step + 1, s->same_failures, who);
        return true;
    }
    if (s->fruitless >= config->max_attempts_without_progress) {
        trm_supervisor_end_with(s, TRM_EXIT_GAVE_UP,
                                "gave up: %d attempts made no progress beyond step %lld; the last "
                                "failure: %s",
                                s->fruitless, (long long)(s->best_step > 0 ? s->best_step : 0),
                                who);
        return true;
    }
    return false;
}

void trm_supervisor_again(struct trm_supervisor *s)
{
    struct fault *fault = &s->fault;
    struct trm_node *node = fault->node[0] ? trm_nodes_find(&s->nodes, fault->node) : NULL;

    if (fault->kind == FAULT_NONE) { /* paused in order to grow */
        if (s->stop_wanted)          /* all is on disk */
            trm_supervisor_event(s, TRM_EVENT_STOP);
        return;
    }
    s->recovering = true;
    if (fault->blames_node && node && node->state != TRM_NODE_EXCLUDED &&
        node->state != TRM_NODE_QUARANTINED) {
        struct agent *agent = &s->agents[node - s->nodes.items];
        trm_nodes_blame(node, &s->want, trm_clock_now_ns(), fault->cause);
        if (node->state == TRM_NODE_QUARANTINED) {
            struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
            happened.node = node->host.name;
            happened.cause = node->reason;
            trm_events_add(s->events, &happened, TRM_LOG_WARNING,
                           "%s is quarantined: it failed %d times", node->host.name,
                           node->failures);
        } else if (agent->link) { /* it answers, and so may be used again */
            node->state = TRM_NODE_READY;
        }
    }
    if (is_hopeless(s)) {
        trm_supervisor_event(s, TRM_EVENT_HOPELESS);
    } else if (s->stop_wanted && s->last_disk_step >= s->best_step) {
        trm_supervisor_end_with(s, TRM_EXIT_REQUEUE, "stopped on request; step %lld is on disk",
                                (long long)s->last_disk_step);
        trm_supervisor_event(s, TRM_EVENT_STOP);
    }
}
