/* One attempt: its mpirun, and what its end means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "launch/job/srun.h"
#include "launch/supervisor/parts.h"

/* Time for what an agent has to say of a rank that srun says has ended, and for the last records
 * of ranks behind an mpirun that was killed; in ticks, since words are read between them. */
#define UNSEEN_TICKS TRM_SUPERVISOR_TICKS(3000)
#define KILLED_TICKS TRM_SUPERVISOR_TICKS(400)

static void on_end(int64_t status, int term_signal, void *context)
{
    struct trm_supervisor *s = context;

    s->mpirun_runs = false;
    s->mpirun_ended = true;
    s->mpirun_ended_ns = trm_clock_now_ns();
    s->mpirun_ended_tick = s->ticks;
    s->mpirun_status = status;
    s->mpirun_signal = term_signal;
}

/* mpirun's own words stand between lines of dashes, srun's behind its name; they are kept for the
 * cause and not shown, since the supervisor says what happened. Everything else is the ranks' and
 * is passed on. */
static void on_line(const char *line, void *context)
{
    struct trm_supervisor *s = context;
    struct trm_srun_end end;
    int rank, number;

    if (trm_mpirun_is_rule(line)) {
        s->in_banner = !s->in_banner;
        return;
    }
    if (trm_srun_parse_end(line, &end) && !trm_supervisor_report_of(s, end.rank) &&
        (s->srun_end.rank < 0 || trm_supervisor_report_of(s, s->srun_end.rank))) {
        s->srun_end = end;
        s->srun_end_ns = trm_clock_now_ns();
        s->srun_end_tick = s->ticks;
    }
    if (s->signal_rank < 0 && (trm_mpirun_parse_signal(line, &rank, &number) ||
                               trm_srun_parse_signal(line, &rank, &number))) {
        s->signal_rank = rank;
        s->signal_number = number;
    }
    if (s->in_banner || strncmp(line, "srun: ", 6) == 0) {
        size_t length = strlen(s->banner);
        snprintf(s->banner + length, sizeof s->banner - length, "%s%s", length ? " " : "", line);
        return;
    }
    if (line[0])
        trm_log_pass(&s->log, line);
}

static void spawn(struct trm_supervisor *s)
{
    static const struct trm_job_events events = {on_line, on_end};
    const struct trm_supervisor_settings *settings = s->settings;
    const struct trm_config *config = s->config;
    struct trm_mpirun_settings mpirun = {
        .nodes = &s->nodes,
        .local = settings->local,
        .remote_shell = settings->launcher_shell,
        .runtime = s->runtime,
        .attempt = s->claim.attempt,
        .extra = settings->srun ? config->srun_arguments.items : config->mpirun_arguments.items,
        .extra_count =
            settings->srun ? config->srun_arguments.count : config->mpirun_arguments.count,
        .trainer = settings->trainer,
        .trainer_arguments = settings->trainer_arguments,
        .trainer_argument_count = settings->trainer_argument_count,
    };
    struct trm_words words = {0};
    struct trm_error why;

    trm_words_add(&words, "%s", settings->program);
    trm_words_add(&words, "tether");
    if (settings->srun)
        trm_srun_words(&mpirun, &words);
    else
        trm_mpirun_words(&mpirun, &words);
    trm_job_close(s->job);
    s->job = NULL;
    enum trm_status status =
        trm_job_start(&s->loop, &words, settings->output_fd, &events, s, &s->job, &why);
    trm_words_destroy(&words);
    if (status == TRM_OK) {
        s->mpirun_runs = true;
        s->launched_ns = trm_clock_now_ns();
    } else {
        struct fault fault = trm_supervisor_fault_init(FAULT_LAUNCHER);
        snprintf(fault.cause, sizeof fault.cause, "%s could not be started: %.900s",
                 settings->srun ? "srun" : "mpirun", why.text);
        trm_supervisor_fault(s, &fault);
    }
}

static void reset_attempt(struct trm_supervisor *s)
{
    s->mpirun_ended = false;
    s->mpirun_status = s->mpirun_signal = 0;
    s->signal_rank = -1;
    s->signal_number = 0;
    s->srun_end.rank = -1;
    s->banner[0] = '\0';
    s->in_banner = false;
    s->launched_ns = s->up_ns = 0;
    s->resumed_step = -1;
    s->best_before = s->best_step;
    s->waiting_told_ns = 0;
    s->pause_wanted = false;
    s->began_ns = trm_clock_now_ns();
    /* How long steps take is known from the attempt before. */
    double step_ms = s->stall.step_ms;
    trm_stall_init(&s->stall, s->began_ns);
    s->stall.step_ms = step_ms;
    for (int i = 0; i < s->nodes.count; i++) {
        s->agents[i].report_count = 0;
        s->agents[i].begun = 0;
        s->agents[i].launcher = TRM_LAUNCHER_NONE;
    }
}

void trm_supervisor_launch(struct trm_supervisor *s)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_ATTEMPT);
    char names[512];
    int ranks = trm_nodes_fit_healthy(&s->nodes, &s->want);

    if (ranks == 0) { /* a node left while the number was claimed */
        struct fault fault = trm_supervisor_fault_init(FAULT_NODE);
        snprintf(fault.cause, sizeof fault.cause, "a node was lost before the start");
        trm_supervisor_fault(s, &fault);
        return;
    }
    trm_nodes_assign(&s->nodes, ranks);
    reset_attempt(s);
    happened.attempt = s->claim.attempt;
    happened.ranks = ranks;
    happened.nodes = trm_nodes_describe(&s->nodes, names, sizeof names);
    trm_events_add(s->events, &happened, TRM_LOG_INFO, "attempt %lld: %d rank%s on %s%s",
                   (long long)s->claim.attempt, ranks, ranks == 1 ? "" : "s", names,
                   ranks < s->want.ranks ? ", fewer than there were" : "");
    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].ranks > 0) {
            s->agents[i].asked = s->claim.attempt;
            trm_supervisor_send_begin(&s->agents[i]);
        }
}

void trm_supervisor_send_begin(struct agent *agent)
{
    struct trm_supervisor *s = agent->supervisor;
    const struct trm_node *node = node_of(agent);
    struct trm_message message = {
        .type = TRM_MESSAGE_BEGIN,
        .begin = {.attempt = s->claim.attempt, .capacity = node->ranks},
    };

    if ((s->state != TRM_RUN_LAUNCHING && s->state != TRM_RUN_STOPPING) || node->ranks == 0 ||
        agent->asked != s->claim.attempt || agent->begun == s->claim.attempt)
        return;
    snprintf(message.begin.domain, sizeof message.begin.domain, "%s", node->host.domain);
    trm_supervisor_send(agent, &message);
}

void trm_supervisor_begun(struct agent *agent, const struct trm_message_begun *begun)
{
    struct trm_supervisor *s = agent->supervisor;

    if (begun->attempt != s->claim.attempt || s->launched_ns > 0 ||
        (s->state != TRM_RUN_LAUNCHING && s->state != TRM_RUN_STOPPING))
        return;
    if (!begun->ok) {
        struct fault fault = trm_supervisor_fault_init(FAULT_NODE);
        snprintf(fault.node, sizeof fault.node, "%s", node_of(agent)->host.name);
        snprintf(fault.cause, sizeof fault.cause, "could not begin: %.900s", begun->reason);
        fault.blames_node = true;
        trm_supervisor_fault(s, &fault);
        return;
    }
    agent->begun = begun->attempt;
    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].ranks > 0 && s->agents[i].begun != s->claim.attempt)
            return;
    spawn(s);
    if (s->stop_wanted) /* asked before: agents that had not begun then did not pass it on */
        trm_supervisor_event(s, TRM_EVENT_STOP);
}

void trm_supervisor_send_stop(struct agent *agent)
{
    const struct trm_supervisor *s = agent->supervisor;
    struct trm_message message = {.type = TRM_MESSAGE_STOP, .attempt = s->claim.attempt};

    if (s->state == TRM_RUN_STOPPING && node_of(agent)->ranks > 0)
        trm_supervisor_send(agent, &message);
}

void trm_supervisor_ask_stop(struct trm_supervisor *s)
{
    if (s->launched_ns == 0 && !s->recovering) { /* nothing has begun */
        trm_supervisor_end_with(s, TRM_EXIT_REQUEUE, "stopped on request, before the first step");
        trm_supervisor_event(s, TRM_EVENT_JOB_STOPPED);
        return;
    }
    for (int i = 0; i < s->nodes.count; i++)
        trm_supervisor_send_stop(&s->agents[i]);
}

void trm_supervisor_kill_mpirun(struct trm_supervisor *s)
{
    if (s->mpirun_runs)
        trm_job_kill(s->job);
}

/* Exit codes that another attempt would meet again. */
static bool is_final(int exit_code)
{
    switch (exit_code) {
    case TRM_EXIT_UNAVAILABLE:
    case TRM_EXIT_IO:
    case TRM_EXIT_DIVERGED: /* a node spoilt its copy; the newest checkpoint is from before */
        return false;
    default:
        return true;
    }
}

/* Of several words the one that says most: a rank whose peers have left can't go on either, and has
 * nothing else to tell. */
static int weight(int exit_code)
{
    return is_final(exit_code) ? 2 : exit_code != TRM_EXIT_UNAVAILABLE;
}

static int total_ranks(const struct trm_supervisor *s)
{
    int ranks = 0;

    for (int i = 0; i < s->nodes.count; i++)
        ranks += s->nodes.items[i].ranks;
    return ranks;
}

/* Every rank left by itself, and said how. */
static void judge_end(struct trm_supervisor *s, const struct trm_rank_report *worst, bool all_done)
{
    if (worst) {
        struct fault fault = trm_supervisor_fault_init(FAULT_RANK_LEFT);
        const struct trm_node *blamed = trm_nodes_of_rank(&s->nodes, worst->blamed_rank);
        const struct trm_node *node = blamed ? blamed : trm_nodes_of_rank(&s->nodes, worst->rank);
        if (is_final(worst->exit_code)) {
            trm_supervisor_end_with(s, worst->exit_code, "%s", worst->exit_text);
            trm_supervisor_event(s, TRM_EVENT_JOB_REFUSED);
            return;
        }
        /* All ranks say the same of the one whose node is at fault. */
        fault.rank = blamed ? worst->blamed_rank : worst->rank;
        fault.blames_node = blamed != NULL;
        fault.step = worst->step;
        fault.phase = worst->phase;
        snprintf(fault.node, sizeof fault.node, "%s", node ? node->host.name : "");
        snprintf(fault.cause, sizeof fault.cause, "left with code %d: %s", worst->exit_code,
                 worst->exit_text);
        trm_supervisor_fault(s, &fault);
    } else if (all_done) {
        trm_supervisor_end_with(s, TRM_EXIT_OK, "done: step %lld of %lld", (long long)s->best_step,
                                (long long)s->config->train_iters);
        trm_supervisor_event(s, TRM_EVENT_JOB_DONE);
    } else if (s->pause_wanted && !s->stop_wanted) {
        trm_supervisor_event(s, TRM_EVENT_JOB_PAUSED);
    } else {
        trm_supervisor_end_with(s, TRM_EXIT_REQUEUE,
                                "stopped on request after step %lld of %lld, with a checkpoint; "
                                "start again to go on",
                                (long long)s->last_step, (long long)s->config->train_iters);
        trm_supervisor_event(s, TRM_EVENT_JOB_STOPPED);
    }
}

/* Returns true when the attempt's ranks have all left, and judged. */
static bool look_for_end(struct trm_supervisor *s)
{
    const struct trm_rank_report *worst = NULL;
    int left = 0, done = 0;

    for (int i = 0; i < s->nodes.count; i++)
        for (int r = 0; r < s->agents[i].report_count; r++) {
            const struct trm_rank_report *report = &s->agents[i].reports[r];
            if (report->state != TRM_FLIGHT_EXITED)
                continue;
            left++;
            done += report->exit_code == TRM_EXIT_OK;
            if (report->exit_code != TRM_EXIT_OK && report->exit_code != TRM_EXIT_REQUEUE &&
                (!worst || weight(report->exit_code) > weight(worst->exit_code)))
                worst = report;
        }
    bool final = worst && is_final(worst->exit_code);
    if (left < total_ranks(s) && !final)
        return false;
    judge_end(s, worst, done == left);
    return true;
}

/* Agents were asked to begin, and some do not answer that. */
static void begin_tick(struct trm_supervisor *s, int64_t now_ns)
{
    struct fault fault;

    if (now_ns - s->began_ns < s->config->start_timeout_ms * 1000000)
        return;
    fault = trm_supervisor_fault_init(FAULT_NODE);
    fault.sign_ns = s->began_ns;
    fault.blames_node = true;
    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].ranks > 0 && s->agents[i].begun != s->claim.attempt) {
            snprintf(fault.node, sizeof fault.node, "%s", s->nodes.items[i].host.name);
            break;
        }
    snprintf(fault.cause, sizeof fault.cause, "did not begin in %.1f s, though its agent answers",
             (double)(now_ns - s->began_ns) / 1e9);
    trm_supervisor_fault(s, &fault);
}

static bool is_starting(const struct trm_supervisor *s)
{
    return s->state == TRM_RUN_LAUNCHING || (s->state == TRM_RUN_STOPPING && !s->up_ns);
}

/* Ranks, by how far they have come. */
struct start {
    int up, stepped, loading;
};

/* Tells when all ranks make steps; or did, and have left since the last look. */
static struct start note_start(struct trm_supervisor *s, int64_t now_ns)
{
    struct start start = {0};

    for (int i = 0; i < s->nodes.count; i++)
        for (int r = 0; r < s->agents[i].report_count; r++) {
            const struct trm_rank_report *report = &s->agents[i].reports[r];
            if (report->state == TRM_FLIGHT_EMPTY)
                continue;
            start.loading += report->phase == TRM_PHASE_LOAD;
            start.up += report->resumed_step >= 0;
            start.stepped += report->resumed_step >= 0 && report->step > report->resumed_step;
            if (report->resumed_step >= 0)
                s->resumed_step = report->resumed_step;
        }
    if (start.up == total_ranks(s) && s->up_ns == 0)
        s->up_ns = now_ns;
    if (start.stepped == total_ranks(s))
        trm_supervisor_stepping(s, now_ns);
    return start;
}

static void start_tick(struct trm_supervisor *s, const struct start *start, int64_t now_ns)
{
    int64_t limit_ms = s->config->start_timeout_ms, io_ms = s->config->io_timeout_ms;
    struct fault fault;

    if (s->launched_ns == 0) {
        begin_tick(s, now_ns);
        return;
    }
    if (start->loading > 0) /* for storage, there is more patience */
        limit_ms = io_ms == 0 ? INT64_MAX / 1000000 : limit_ms + io_ms;
    if (now_ns - s->launched_ns < limit_ms * 1000000)
        return;
    fault = trm_supervisor_fault_init(FAULT_START);
    fault.sign_ns = s->launched_ns;
    snprintf(fault.cause, sizeof fault.cause,
             "%d of %d ranks came up, and %d made a step, in %.1f s", start->up, total_ranks(s),
             start->stepped, (double)(now_ns - s->launched_ns) / 1e9);
    trm_supervisor_name_culprit(s, &fault);
    trm_supervisor_fault(s, &fault);
}

/* srun goes on when a rank has ended (mpirun does not), and its agent tells nothing of one that did
 * so before it was admitted: the others would wait for it. */
static bool look_for_unseen_end(struct trm_supervisor *s)
{
    const struct trm_srun_end *end = &s->srun_end;
    const struct trm_node *node = trm_nodes_of_rank(&s->nodes, end->rank);
    struct fault fault;

    if (!node || !s->mpirun_runs || s->ticks - s->srun_end_tick < UNSEEN_TICKS ||
        trm_supervisor_report_of(s, end->rank))
        return false;
    fault = trm_supervisor_fault_init(end->signal ? FAULT_RANK_GONE : FAULT_RANK_LEFT);
    fault.sign_ns = s->srun_end_ns;
    fault.rank = end->rank;
    fault.signal = end->signal;
    fault.phase = TRM_PHASE_STARTUP;
    snprintf(fault.node, sizeof fault.node, "%s", node->host.name);
    if (end->signal)
        snprintf(fault.cause, sizeof fault.cause, "ended before it came up (signal %d, %s)",
                 end->signal, strsignal(end->signal));
    else
        snprintf(fault.cause, sizeof fault.cause, "left with code %d before it came up",
                 end->exit_code);
    trm_supervisor_fault(s, &fault);
    return true;
}

/* mpirun's end may overtake the words that explain it. One that ended by itself did so because a
 * rank, or a node, did: the agent there says so, or that node is lost within its lease. */
static int64_t records_limit_ticks(const struct trm_supervisor *s)
{
    int64_t lease_ticks = TRM_SUPERVISOR_TICKS(s->config->lease_ms);

    return s->mpirun_signal == 0 && lease_ticks > KILLED_TICKS ? lease_ticks : KILLED_TICKS;
}

/* Nothing but mpirun's end is known, and what it said. */
static void judge_launcher(struct trm_supervisor *s)
{
    const struct trm_rank_report *report = trm_supervisor_report_of(s, s->signal_rank);
    const struct trm_node *home = trm_nodes_of_rank(&s->nodes, s->signal_rank);
    struct fault fault = trm_supervisor_fault_init(FAULT_LAUNCHER);
    char text[256];

    fault.sign_ns = s->mpirun_ended_ns;
    fault.signal = s->mpirun_signal;
    if (home && s->mpirun_signal == 0) { /* it named a rank */
        fault.kind = FAULT_RANK_GONE;
        fault.rank = s->signal_rank;
        fault.phase = report ? report->phase : TRM_PHASE_STARTUP;
        fault.step = report ? report->step : -1;
        snprintf(fault.node, sizeof fault.node, "%s", home->host.name);
        snprintf(fault.cause, sizeof fault.cause, "died without a word");
        trm_supervisor_fault(s, &fault);
        return;
    }
    if (s->settings->srun)
        trm_srun_describe(s->mpirun_status, s->mpirun_signal, text, sizeof text);
    else
        trm_mpirun_describe(s->mpirun_status, s->mpirun_signal, text, sizeof text);
    snprintf(fault.cause, sizeof fault.cause, "%s%s%.700s", text, s->banner[0] ? ": " : "",
             s->banner);
    trm_supervisor_fault(s, &fault);
}

void trm_supervisor_job_tick(struct trm_supervisor *s, int64_t now_ns)
{
    struct start start = {0};

    if (s->launched_ns > 0 && is_starting(s))
        start = note_start(s, now_ns);
    if (s->launched_ns > 0 && (look_for_end(s) || look_for_unseen_end(s)))
        return;
    if (s->mpirun_ended && s->ticks - s->mpirun_ended_tick > records_limit_ticks(s)) {
        judge_launcher(s);
        return;
    }
    if (is_starting(s))
        start_tick(s, &start, now_ns);
    if (s->state == TRM_RUN_RUNNING || s->state == TRM_RUN_STOPPING ||
        s->state == TRM_RUN_LAUNCHING)
        trm_supervisor_watch_tick(s, now_ns);
}
