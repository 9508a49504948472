/* Whether the run gets on, who holds it up, when it may grow, and what `trireme status` reads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/supervisor/parts.h"

#define LOOK_NS   INT64_C(50000000)   /* between two looks at all records */
#define STATUS_NS INT64_C(1000000000) /* between two writings of status.json */
#define GAP_NS    INT64_C(2000000000) /* without a look: this process was itself held up */

const struct trm_rank_report *trm_supervisor_report_of(const struct trm_supervisor *s, int rank)
{
    const struct trm_node *node = trm_nodes_of_rank(&s->nodes, rank);

    if (!node)
        return NULL;
    const struct agent *agent = &s->agents[node - s->nodes.items];
    if (agent->begun != s->claim.attempt)
        return NULL;
    for (int i = 0; i < agent->report_count; i++)
        if (agent->reports[i].rank == rank)
            return &agent->reports[i];
    return NULL;
}

static void view_report(const struct trm_rank_report *report, int64_t age_ms,
                        struct trm_flight_view *view)
{
    *view = (struct trm_flight_view){
        .state = report->state,
        .rank = report->rank,
        .world_size = report->world_size,
        .data_size = report->data_size,
        .tensor_size = report->tensor_size,
        .pid = report->pid,
        .process = report->process == TRM_REPORT_NO_PROCESS ? 'X' : report->process,
        .phase = report->phase,
        .phase_age_ms = report->phase_age_ms + age_ms,
        .step = report->step,
        .samples = report->samples,
        .step_ms = (double)report->step_ns / 1e6,
        .compute_ms = (double)report->compute_ns / 1e6,
        .loss = report->loss,
        .memory_step = report->memory_step,
        .disk_step = report->disk_step,
        .exit_status = report->exit_status,
        .exit_code = report->exit_code,
    };
    memcpy(view->exit_text, report->exit_text, sizeof view->exit_text);
    for (int g = 0; g < TRM_FLIGHT_GROUPS; g++)
        view->lanes[g] = (struct trm_flight_lane_view){
            .entered = report->lanes[g].entered,
            .completed = report->lanes[g].completed,
            .waiting = report->lanes[g].waiting,
            .age_ms = report->lanes[g].age_ms + age_ms,
            .operation = report->lanes[g].operation,
        };
}

/* All records of the attempt into s->views; returns how many. */
static int collect(struct trm_supervisor *s, int64_t now_ns)
{
    int count = 0;

    for (int i = 0; i < s->nodes.count; i++) {
        const struct agent *agent = &s->agents[i];
        if (s->nodes.items[i].ranks == 0 || agent->begun != s->claim.attempt)
            continue;
        for (int r = 0; r < agent->report_count && count < s->want.ranks; r++) {
            if (agent->reports[r].state == TRM_FLIGHT_EMPTY)
                continue;
            view_report(&agent->reports[r], (now_ns - agent->beat_ns) / 1000000, &s->views[count]);
            s->view_nodes[count++] = s->nodes.items[i].host.name;
        }
    }
    return count;
}

static void note_progress(struct trm_supervisor *s, const struct trm_message_beat *beat)
{
    for (int i = 0; i < beat->rank_count; i++) {
        const struct trm_rank_report *report = &beat->ranks[i];
        if (report->step > s->best_step)
            s->best_step = report->step;
        if (report->rank != 0 || report->step < 0)
            continue;
        s->last_step = report->step;
        s->last_samples = report->samples;
        s->last_loss = report->loss;
        s->last_step_s = (double)report->step_ns / 1e9;
        if (report->disk_step > s->last_disk_step)
            s->last_disk_step = report->disk_step;
        s->last_memory_step = report->memory_step;
    }
}

static bool has_ranks(const struct agent *agent)
{
    for (int i = 0; i < agent->report_count; i++)
        if (agent->reports[i].state != TRM_FLIGHT_EXITED)
            return true;
    return false;
}

/* The launcher's daemon on a node: without it the ranks run on, until they can't leave. It ends by
 * itself when they have left. */
static void note_launcher(struct agent *agent, enum trm_launcher launcher)
{
    struct trm_supervisor *s = agent->supervisor;
    struct fault fault = trm_supervisor_fault_init(FAULT_DAEMON);
    enum trm_launcher before = agent->launcher;

    agent->launcher = launcher;
    if (launcher == before || s->mpirun_ended || !s->mpirun_runs ||
        (launcher != TRM_LAUNCHER_GONE && launcher != TRM_LAUNCHER_STOPPED))
        return;
    if (launcher == TRM_LAUNCHER_GONE && (s->settings->local || !has_ranks(agent)))
        return; /* local: that is mpirun itself, whose end is told better */
    snprintf(fault.node, sizeof fault.node, "%s", node_of(agent)->host.name);
    snprintf(fault.cause, sizeof fault.cause,
             launcher == TRM_LAUNCHER_GONE ? "lost its launch daemon (%s), which was killed"
                                           : "has a launch daemon (%s) that was stopped",
             s->settings->srun ? "slurmstepd" : "orted");
    fault.blames_node = true;
    trm_supervisor_fault(s, &fault);
}

void trm_supervisor_watch_beat(struct agent *agent, const struct trm_message_beat *beat)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_rank_report *copy;

    if (beat->attempt != s->claim.attempt || agent->begun != s->claim.attempt)
        return;
    copy = realloc(agent->reports, ((size_t)beat->rank_count + 1) * sizeof *copy);
    if (!copy)
        return;
    if (beat->rank_count > 0)
        memcpy(copy, beat->ranks, (size_t)beat->rank_count * sizeof *copy);
    agent->reports = copy;
    agent->report_count = beat->rank_count;
    agent->beat_ns = trm_clock_now_ns();
    note_progress(s, beat);
    note_launcher(agent, beat->launcher);
}

void trm_supervisor_name_culprit(struct trm_supervisor *s, struct fault *fault)
{
    int count = collect(s, trm_clock_now_ns());
    struct trm_verdict verdict;
    char text[900];
    size_t length = strlen(fault->cause);

    trm_verdict_find(s->views, count, s->tallies, &verdict);
    if (verdict.kind == TRM_VERDICT_NONE)
        return;
    trm_verdict_describe(&verdict, s->views, s->view_nodes, text, sizeof text);
    snprintf(fault->cause + length, sizeof fault->cause - length, "%s%s", length ? "; " : "", text);
    if (verdict.culprit_count > 0)
        fault->step = s->views[verdict.culprits[0]].step;
}

static void tell_waiting(struct trm_supervisor *s, const struct trm_verdict *verdict,
                         int64_t now_ns)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_WAITING);
    char text[900];

    if (s->waiting_told_ns > 0)
        return;
    s->waiting_told_ns = now_ns;
    trm_verdict_describe(verdict, s->views, s->view_nodes, text, sizeof text);
    happened.attempt = s->claim.attempt;
    happened.step = s->last_step;
    happened.cause = text;
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s", text);
}

/* The culprit is in the sentence; the fields of the event name the first one. */
static void declare_hang(struct trm_supervisor *s, const struct trm_verdict *verdict,
                         int64_t now_ns)
{
    struct fault fault = trm_supervisor_fault_init(FAULT_HANG);
    struct trm_event happened = trm_event_init(TRM_HAPPENED_HANG);

    fault.sign_ns = now_ns - trm_stall_ms(&s->stall) * 1000000;
    happened.attempt = s->claim.attempt;
    trm_verdict_describe(verdict, s->views, s->view_nodes, fault.cause, sizeof fault.cause);
    if (verdict->culprit_count > 0) {
        const struct trm_flight_view *culprit = &s->views[verdict->culprits[0]];
        happened.rank = culprit->rank;
        happened.node = s->view_nodes[verdict->culprits[0]];
        happened.step = culprit->step + 1;
        happened.phase = trm_phase_name(culprit->phase);
        fault.step = culprit->step;
        fault.phase = culprit->phase;
    }
    happened.cause = trm_verdict_kind_name(verdict->kind);
    happened.detection_s = trm_supervisor_seconds(fault.sign_ns, now_ns);
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "no progress for %.1f s",
                   (double)trm_stall_ms(&s->stall) / 1e3);
    trm_supervisor_fault(s, &fault);
}

static void watch_progress(struct trm_supervisor *s, int count, int64_t now_ns)
{
    struct trm_stall_limits limits = {
        .factor = s->config->progress_timeout_factor,
        .floor_ms = s->config->progress_timeout_floor_ms,
        .ceiling_ms = s->config->progress_timeout_ceiling_ms,
        .io_ms = s->config->io_timeout_ms,
    };
    struct trm_verdict verdict;

    trm_stall_observe(&s->stall, s->views, count, now_ns, GAP_NS);
    int64_t still_ms = trm_stall_ms(&s->stall);
    if (still_ms < limits.floor_ms) {
        s->waiting_told_ns = 0;
        return;
    }
    trm_verdict_find(s->views, count, s->tallies, &verdict);
    if (still_ms >= trm_stall_limit_ms(&s->stall, &limits, verdict.kind))
        declare_hang(s, &verdict, now_ns);
    else if (verdict.kind == TRM_VERDICT_STORAGE)
        tell_waiting(s, &verdict, now_ns);
}

static void watch_stragglers(struct trm_supervisor *s, int count)
{
    struct trm_straggler found[4];
    char text[512];

    if (!s->stragglers)
        return;
    int news = trm_straggler_observe(s->stragglers, s->views, count, found, 4);
    for (int i = 0; i < news && i < 4; i++) {
        const struct trm_node *node = trm_nodes_of_rank(&s->nodes, found[i].rank);
        struct trm_event happened = trm_event_init(TRM_HAPPENED_STRAGGLER);
        happened.attempt = s->claim.attempt;
        happened.rank = found[i].rank;
        happened.step = found[i].step;
        happened.node = node ? node->host.name : NULL;
        trm_straggler_describe(&found[i], happened.node, text, sizeof text);
        trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s", text);
    }
}

/* An active node that the operator excluded, or room for more ranks: the ranks save and leave at
 * the next checkpoint (at once where there are none), and are started again. */
static void watch_growth(struct trm_supervisor *s)
{
    int ranks = 0;
    bool excluded = false;
    struct trm_event happened = trm_event_init(TRM_HAPPENED_STOP);

    if (s->state != TRM_RUN_RUNNING || s->pause_wanted)
        return;
    for (int i = 0; i < s->nodes.count; i++) {
        ranks += s->nodes.items[i].ranks;
        excluded = excluded ||
                   (s->nodes.items[i].ranks > 0 && s->nodes.items[i].state == TRM_NODE_EXCLUDED);
    }
    int fit = trm_nodes_fit(&s->nodes, &s->want);
    if (fit > ranks) {
        if (s->growing_since_disk_step == INT64_MIN)
            s->growing_since_disk_step = s->last_disk_step;
    } else {
        s->growing_since_disk_step = INT64_MIN;
    }
    bool grow = fit > ranks &&
                (s->config->save_interval == 0 || s->last_disk_step > s->growing_since_disk_step);
    if (!grow && !(excluded && fit > 0))
        return;
    s->pause_wanted = true;
    happened.attempt = s->claim.attempt;
    happened.step = s->last_step;
    happened.ranks = fit;
    trm_events_add(s->events, &happened, TRM_LOG_INFO,
                   excluded ? "a node of the run was excluded: saving, to go on without it"
                            : "there is room for %d ranks again: saving, to go on with them",
                   fit);
    trm_supervisor_event(s, TRM_EVENT_STOP);
}

void trm_supervisor_watch_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (now_ns - s->looked_ns < LOOK_NS)
        return;
    s->looked_ns = now_ns;
    int count = collect(s, now_ns);
    if (s->up_ns > 0) /* before that, start_timeout_ms counts */
        watch_progress(s, count, now_ns);
    if (s->state == TRM_RUN_RUNNING)
        watch_stragglers(s, count);
    watch_growth(s);
}

void trm_supervisor_stepping(struct trm_supervisor *s, int64_t now_ns)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_STEPPING);
    const struct fault *fault = &s->fault;
    double restore_s = 0;
    enum trm_resumed source = TRM_RESUMED_NOTHING;

    for (int rank = 0; rank < s->want.ranks; rank++) {
        const struct trm_rank_report *report = trm_supervisor_report_of(s, rank);
        if (!report)
            continue;
        if ((double)report->restore_ns / 1e9 > restore_s)
            restore_s = (double)report->restore_ns / 1e9;
        source = report->resumed_from;
    }
    happened.attempt = s->claim.attempt;
    happened.step = s->resumed_step;
    happened.source = trm_resumed_name(source);
    happened.restore_s = restore_s;
    happened.start_s = trm_supervisor_seconds(s->launched_ns, s->up_ns);
    if (s->recovering) {
        int64_t lost = s->best_before - s->resumed_step;
        happened.steps_lost = lost > 0 ? lost : 0;
        happened.fence_s = trm_supervisor_seconds(fault->decided_ns, fault->fenced_ns);
        happened.check_s = trm_supervisor_seconds(fault->fenced_ns, s->launched_ns);
        happened.recovery_s = trm_supervisor_seconds(fault->decided_ns, now_ns);
        trm_events_add(s->events, &happened, TRM_LOG_INFO,
                       "resumed at step %lld from %s after %.1f s, %lld step%s lost",
                       (long long)s->resumed_step, trm_resumed_name(source), happened.recovery_s,
                       (long long)happened.steps_lost, happened.steps_lost == 1 ? "" : "s");
    } else {
        trm_events_add(s->events, &happened, TRM_LOG_DEBUG, "all ranks make steps");
    }
    s->recovering = false;
    s->fault = (struct fault){.rank = -1, .step = -1};
    trm_supervisor_event(s, TRM_EVENT_STEPPED);
}

static json_t *status_nodes(const struct trm_supervisor *s)
{
    json_t *list = json_array();

    for (int i = 0; i < s->nodes.count; i++) {
        const struct trm_node *node = &s->nodes.items[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:i, s:s}", "name", node->host.name, "state",
                            node->state == TRM_NODE_READY && node->ranks == 0
                                ? "spare"
                                : trm_node_state_name(node->state),
                            "slots", node->host.slots, "ranks", node->ranks, "reason",
                            node->state == TRM_NODE_READY ? "" : node->reason));
    }
    return list;
}

static char *format_status(const struct trm_supervisor *s)
{
    char now[32];
    json_t *object = json_object();
    char *text;

    trm_clock_utc(now, sizeof now);
    json_object_set_new(object, "time", json_string(now));
    json_object_set_new(object, "state", json_string(trm_run_state_name(s->state)));
    json_object_set_new(object, "host", json_string(s->claim.host));
    json_object_set_new(object, "pid", json_integer(s->claim.pid));
    json_object_set_new(object, "attempt", json_integer(s->claim.attempt));
    json_object_set_new(object, "step", json_integer(s->last_step));
    json_object_set_new(object, "train_iters", json_integer(s->config->train_iters));
    json_object_set_new(object, "samples", json_integer(s->last_samples));
    json_object_set_new(object, "loss",
                        isfinite(s->last_loss) ? json_real(s->last_loss) : json_null());
    json_object_set_new(object, "step_seconds", json_real(s->last_step_s));
    json_object_set_new(object, "disk_step", json_integer(s->last_disk_step));
    json_object_set_new(object, "memory_step", json_integer(s->last_memory_step));
    json_object_set_new(object, "last_fault", json_string(s->last_fault));
    json_object_set_new(object, "exit_code",
                        s->exit_code >= 0 ? json_integer(s->exit_code) : json_null());
    json_object_set_new(object, "reason", json_string(s->exit_code >= 0 ? s->reason : ""));
    json_object_set_new(object, "nodes", status_nodes(s));
    text = json_dumps(object, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    json_decref(object);
    return text;
}

/* Not durable: a status that is a second old is of no use after a crash. */
static enum trm_status replace_status(const char *directory, const char *text)
{
    char path[TRM_PATH_BYTES], temporary[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(path, NULL, "%s/status.json", directory);

    if (status == TRM_OK)
        status = trm_file_path(temporary, NULL, "%s/.status.tmp", directory);
    if (status == TRM_OK)
        status = trm_file_write_all(temporary, text, strlen(text), false, NULL);
    if (status == TRM_OK && rename(temporary, path) != 0)
        status = TRM_ERR_IO;
    return status;
}

static void run_status(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->status_work.status = replace_status(s->attempts.directory, s->status_work.text);
}

static void on_status(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;

    (void)status;
    s->status_work.busy = false;
    free(s->status_work.text);
    s->status_work.text = NULL;
}

void trm_supervisor_status_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (now_ns - s->status_ns < STATUS_NS || s->status_work.busy)
        return;
    s->status_ns = now_ns;
    s->status_work.text = format_status(s);
    if (s->status_work.text && !trm_supervisor_work(s, &s->status_work, run_status, on_status)) {
        free(s->status_work.text);
        s->status_work.text = NULL;
    }
}

void trm_supervisor_status_last(struct trm_supervisor *s)
{
    char *text = format_status(s);

    if (text)
        (void)replace_status(s->attempts.directory, text);
    free(text);
}
