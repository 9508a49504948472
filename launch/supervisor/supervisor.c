/* Set-up, the loop, and what the table of states asks for. */
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "collectives/flight.h"
#include "launch/supervisor/log_relay.h"
#include "launch/supervisor/parts.h"
#include "launch/sweep.h"

#define STANDSTILL_NS  INT64_C(200000000)  /* no shorter one is told from a busy machine */
#define LEAVE_LIMIT_NS INT64_C(5000000000) /* for agents to clean up and go */
#define LAST_WORDS_MS  1000                /* for an output that nobody reads */
#define FAREWELL_MS    2000                /* for mpirun, behind its ranks */

double trm_supervisor_seconds(int64_t from_ns, int64_t to_ns)
{
    return from_ns == 0 || to_ns < from_ns ? NAN : (double)(to_ns - from_ns) / 1e9;
}

void trm_supervisor_end_with(struct trm_supervisor *s, int exit_code, const char *format, ...)
{
    va_list arguments;

    if (s->exit_code >= 0)
        return;
    s->exit_code = exit_code;
    va_start(arguments, format);
    vsnprintf(s->reason, sizeof s->reason, format, arguments);
    va_end(arguments);
}

bool trm_supervisor_work(struct trm_supervisor *s, struct file_work *work, uv_work_cb run,
                         uv_after_work_cb done)
{
    if (work->busy)
        return false;
    work->busy = true;
    work->request.data = s;
    if (uv_queue_work(&s->loop, &work->request, run, done) != 0) {
        work->busy = false;
        return false;
    }
    return true;
}

/* Not enough nodes, and no more to come. */
static void say_too_few(struct trm_supervisor *s)
{
    char words[512] = "";
    size_t length = 0;
    int slots = 0;

    for (int i = 0; i < s->nodes.count && length < sizeof words - 1; i++) {
        const struct trm_node *node = &s->nodes.items[i];
        if (node->state == TRM_NODE_READY)
            slots += node->host.slots;
        else
            length +=
                (size_t)snprintf(words + length, sizeof words - length, "; %s is %s: %s",
                                 node->host.name, trm_node_state_name(node->state), node->reason);
    }
    trm_supervisor_end_with(s, s->stop_wanted ? TRM_EXIT_REQUEUE : TRM_EXIT_UNAVAILABLE,
                            "%d ranks are needed, and the nodes that are left have %d slots%s; "
                            "start again when nodes are back, or allow fewer ranks with "
                            "elastic.min_data_parallel_size",
                            s->want.ranks, slots, words);
}

static void quit(struct trm_supervisor *s)
{
    s->quit_ns = 0;
    s->entered_ns = trm_clock_now_ns();
    trm_supervisor_kill_mpirun(s);
    trm_supervisor_agents_quit(s);
}

/* Behind ranks that left by themselves, mpirun still passes on what they said last. */
static void leave(struct trm_supervisor *s, enum trm_run_event event)
{
    bool well = event == TRM_EVENT_JOB_DONE || event == TRM_EVENT_JOB_STOPPED;
    int64_t farewell_ms = s->settings->farewell_ms > 0 ? s->settings->farewell_ms : FAREWELL_MS;

    if (well && s->mpirun_runs)
        s->quit_ns = trm_clock_deadline_ns(farewell_ms);
    else
        quit(s);
}

static void leave_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (s->quit_ns > 0 && (!s->mpirun_runs || now_ns > s->quit_ns))
        quit(s);
    if (s->quit_ns == 0 &&
        ((!trm_supervisor_agents_left(s) && !s->mpirun_runs && !s->claiming.busy) ||
         now_ns - s->entered_ns > LEAVE_LIMIT_NS))
        trm_supervisor_event(s, TRM_EVENT_AGENTS_GONE);
}

static void on_ended(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;

    (void)status;
    s->ending.busy = false;
    uv_stop(&s->loop);
}

static void run_end(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    struct trm_claim newest;
    bool alone = !s->superseded || (trm_attempts_newest(&s->attempts, &newest, NULL) == TRM_OK &&
                                    strcmp(newest.host, s->claim.host) != 0);

    /* What a killed mpirun left on this machine, which need not be one with an agent. */
    if (alone)
        (void)trm_agent_sweep(s->runtime, s->claim.host, false, NULL);
    if (s->ended_clean)
        (void)trm_attempts_end(&s->attempts, &s->claim, NULL);
}

/* Every agent that left cleanly took its ranks with it; else the next supervisor waits a lease. */
static void end(struct trm_supervisor *s)
{
    int64_t now_ns = trm_clock_now_ns();
    bool clean =
        !trm_supervisor_agents_left(s) && s->claim.attempt > 0 && now_ns >= s->inherited_until_ns;

    for (int i = 0; i < s->nodes.count; i++)
        if (s->agents[i].begun > 0 && s->agents[i].dead < s->agents[i].begun &&
            now_ns < trm_supervisor_lease_end_ns(s, &s->agents[i]))
            clean = false;
    s->ended_clean = clean;
    if (!trm_supervisor_work(s, &s->ending, run_end, on_ended))
        uv_stop(&s->loop);
}

static void act(struct trm_supervisor *s, enum trm_run_action action, enum trm_run_event event)
{
    switch (action) {
    case TRM_ACTION_NONE:
        break;
    case TRM_ACTION_CHECK:
        trm_supervisor_check(s);
        break;
    case TRM_ACTION_CLAIM:
        trm_supervisor_claim(s);
        break;
    case TRM_ACTION_LAUNCH:
        trm_supervisor_launch(s);
        break;
    case TRM_ACTION_NOTE_STEP:
        break;
    case TRM_ACTION_ASK_STOP:
        trm_supervisor_ask_stop(s);
        break;
    case TRM_ACTION_FENCE:
        trm_supervisor_fence(s);
        break;
    case TRM_ACTION_AGAIN:
        trm_supervisor_again(s);
        break;
    case TRM_ACTION_LEAVE:
        if (event == TRM_EVENT_TOO_FEW)
            say_too_few(s);
        else if (event == TRM_EVENT_STOP)
            trm_supervisor_end_with(s, TRM_EXIT_REQUEUE, "stopped on request");
        leave(s, event);
        break;
    case TRM_ACTION_ABANDON:
        s->superseded = true;
        leave(s, event);
        break;
    case TRM_ACTION_END:
        end(s);
        break;
    }
}

void trm_supervisor_event(struct trm_supervisor *s, enum trm_run_event event)
{
    struct trm_transition transition = trm_states_next(s->state, event);

    if (transition.next != s->state) {
        bool gathers_on = s->state == TRM_RUN_CHECKING;
        s->state = transition.next;
        s->entered_ns = trm_clock_now_ns();
        if (s->state == TRM_RUN_GATHERING && !gathers_on)
            s->gather_ns = s->entered_ns;
    }
    act(s, transition.action, event);
}

/* Whether the nodes that answer will do, or might with time. A run that has begun waits for nodes
 * that are ill, too; before, somebody looks on who had better know at once. */
static void gather_tick(struct trm_supervisor *s, int64_t now_ns)
{
    bool first = s->claim.attempt == 0;
    int64_t limit_ms = first ? s->config->start_timeout_ms : s->config->node_wait_ms;
    bool late = now_ns - s->gather_ns > limit_ms * 1000000;
    bool hope = !first && !late && trm_supervisor_check_again(s, now_ns);

    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].state == TRM_NODE_AWAY)
            hope = true;
    int fit = trm_nodes_fit(&s->nodes, &s->want);
    if (fit == s->want.ranks || (fit > 0 && (late || !hope || !first)))
        trm_supervisor_event(s, TRM_EVENT_ENOUGH);
    else if (late || !hope)
        trm_supervisor_event(s, TRM_EVENT_TOO_FEW);
}

/* The gap does not count in what has passed since then. */
static void skip_time(int64_t *since_ns, int64_t gap_ns, int64_t now_ns)
{
    *since_ns = *since_ns + gap_ns < now_ns ? *since_ns + gap_ns : now_ns;
}

/* While this process was stopped, or its machine was, words of nodes could not be heard. */
void trm_supervisor_note_standstill(struct trm_supervisor *s, int64_t now_ns)
{
    int64_t boot_ns = trm_flight_boot_ns(), half_ns = s->config->lease_ms * 1000000 / 2;
    int64_t gap_ns = s->ticked_ns > 0 ? boot_ns - s->ticked_ns : 0;

    s->ticked_ns = boot_ns;
    if (gap_ns < half_ns || gap_ns < STANDSTILL_NS)
        return;
    s->stood_still_ns = gap_ns;
    s->went_on_ns = now_ns;
    for (int i = 0; i < s->nodes.count; i++) {
        struct agent *agent = &s->agents[i];
        if (!agent->link)
            continue;
        skip_time(&agent->heard_ns, gap_ns, now_ns);
        skip_time(&agent->kill_ns, gap_ns, now_ns);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct trm_supervisor *s = timer->data;
    int64_t now_ns = trm_clock_now_ns();

    s->ticks++;
    trm_supervisor_note_standstill(s, now_ns);
    trm_supervisor_agents_tick(s, now_ns);
    trm_supervisor_claim_check_tick(s, now_ns);
    trm_supervisor_status_tick(s, now_ns);
    switch (s->state) {
    case TRM_RUN_GATHERING:
        gather_tick(s, now_ns);
        break;
    case TRM_RUN_CHECKING:
        trm_supervisor_check_tick(s, now_ns);
        break;
    case TRM_RUN_LAUNCHING:
    case TRM_RUN_RUNNING:
    case TRM_RUN_STOPPING:
        trm_supervisor_job_tick(s, now_ns);
        break;
    case TRM_RUN_FENCING:
        trm_supervisor_fence_tick(s, now_ns);
        break;
    case TRM_RUN_LEAVING:
        leave_tick(s, now_ns);
        break;
    default:
        break;
    }
}

/* Between a fault and the next attempt, ranks cannot save; those of that attempt are asked to. */
static bool starts_anew(const struct trm_supervisor *s)
{
    return s->recovering && (s->state == TRM_RUN_GATHERING || s->state == TRM_RUN_CHECKING ||
                             s->state == TRM_RUN_CLAIMING);
}

void trm_supervisor_asked(struct trm_supervisor *s, int signal_number, const char *node)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_STOP);

    if (s->stop_wanted) /* every node of a job step may say so */
        return;
    happened.attempt = s->claim.attempt;
    happened.signal = s->stop_signal = signal_number;
    happened.step = s->last_step;
    happened.node = node;
    bool first = starts_anew(s) && s->best_step > s->last_disk_step;
    s->stop_wanted = true;
    s->pause_wanted = false;
    trm_events_add(s->events, &happened, TRM_LOG_INFO, "asked to stop (%s%s%s): %s",
                   strsignal(signal_number), node ? " at " : "", node ? node : "",
                   first ? "starting once more, to save what is in memory alone"
                         : "saving a checkpoint, then leaving");
    if (!first)
        trm_supervisor_event(s, TRM_EVENT_STOP);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct trm_supervisor *s = handle->data;

    if (s->stop_wanted && number == SIGINT) { /* asked twice: a person does not want to wait */
        trm_supervisor_end_with(s, TRM_EXIT_REQUEUE,
                                "stopped at once, without a checkpoint of the last steps");
        trm_supervisor_event(s, TRM_EVENT_STOP_NOW);
        return;
    }
    trm_supervisor_asked(s, number, NULL);
}

static void start_handles(struct trm_supervisor *s)
{
    static const int numbers[3] = {SIGTERM, SIGUSR1, SIGINT};

    s->started = true;
    uv_timer_init(&s->loop, &s->tick);
    s->tick.data = s;
    uv_timer_start(&s->tick, on_tick, 0, TRM_SUPERVISOR_TICK_MS);
    uv_timer_init(&s->loop, &s->wait);
    s->wait.data = s;
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
}

static enum trm_status create_agents(struct trm_supervisor *s, struct trm_error *err)
{
    const struct trm_supervisor_settings *settings = s->settings;
    enum trm_status status =
        trm_nodes_create(settings->hosts, settings->host_count, &s->nodes, err);

    if (status != TRM_OK)
        return status;
    s->agents = calloc((size_t)s->nodes.count, sizeof *s->agents);
    s->views = calloc((size_t)settings->ranks, sizeof *s->views);
    s->view_nodes = calloc((size_t)settings->ranks, sizeof *s->view_nodes);
    s->tallies = calloc(TRM_TALLY_PLACES(settings->ranks), sizeof *s->tallies);
    if (!s->agents || !s->views || !s->view_nodes || !s->tallies)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d agents", s->nodes.count);
    for (int i = 0; i < s->nodes.count; i++) {
        s->agents[i].supervisor = s;
        s->agents[i].number = i;
    }
    return TRM_OK;
}

static enum trm_status set_up(struct trm_supervisor *s, struct trm_error *err)
{
    const struct trm_config *config = s->config;
    char host[sizeof s->claim.host] = "";
    struct trm_claim previous = {0};
    enum trm_status status = trm_attempts_open(config->run_dir, &s->attempts, err);

    if (status == TRM_OK)
        status = trm_attempts_newest(&s->attempts, &previous, err);
    if (status == TRM_OK)
        status = trm_file_path(s->runtime, err, "%s/trireme-%s", s->settings->temporary,
                               s->attempts.key);
    if (status == TRM_OK)
        status = trm_wire_token_random(&s->token, err);
    if (status == TRM_OK)
        status = create_agents(s, err);
    if (status == TRM_OK)
        status = trm_events_open(&s->loop, &s->log, s->settings->log.fd, config->run_dir,
                                 config->on_event, &s->events, err);
    if (status == TRM_OK)
        status = trm_supervisor_listen(s, err);
    if (status != TRM_OK)
        return status;
    gethostname(host, sizeof host - 1);
    memcpy(s->claim.host, host, sizeof host);
    s->claim.pid = getpid();
    s->claim.lease_ms = config->lease_ms;
    s->claim.preempted = s->settings->preempted;
    s->best_step = s->best_before = previous.step;
    return TRM_OK;
}

/* Links, the server and hooks close their own. */
static void close_own_handles(struct trm_supervisor *s)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&s->tick, (uv_handle_t *)&s->wait,
                              (uv_handle_t *)&s->signals[0], (uv_handle_t *)&s->signals[1],
                              (uv_handle_t *)&s->signals[2]};

    for (size_t i = 0; i < sizeof handles / sizeof *handles && s->started; i++)
        uv_close(handles[i], NULL);
}

static void tear_down(struct trm_supervisor *s)
{
    for (int i = 0; i < s->nodes.count && s->agents; i++)
        trm_link_close(s->agents[i].link, true);
    trm_job_close(s->job);
    trm_link_server_close(s->server);
    close_own_handles(s);
    trm_supervisor_agents_reap(s);
    uv_run(&s->loop, UV_RUN_DEFAULT); /* lets closed handles and file work end */
    trm_events_close(s->events);
    uv_loop_close(&s->loop);
    for (int i = 0; i < s->nodes.count && s->agents; i++)
        free(s->agents[i].reports);
    free(s->agents);
    free(s->views);
    free(s->tallies);
    free(s->view_nodes);
    trm_straggler_destroy(s->stragglers);
    trm_nodes_destroy(&s->nodes);
    trm_wire_token_forget(&s->token);
}

static void tell_begin(struct trm_supervisor *s)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_BEGIN);
    const struct trm_supervisor_settings *settings = s->settings;

    happened.ranks = settings->ranks;
    if (settings->local)
        trm_events_add(s->events, &happened, TRM_LOG_INFO, "%d ranks on this machine; run \"%s\"",
                       settings->ranks, s->config->run_dir);
    else
        trm_events_add(s->events, &happened, TRM_LOG_INFO, "%d ranks on %d nodes; run \"%s\"",
                       settings->ranks, s->nodes.count, s->config->run_dir);
}

static void tell_end(struct trm_supervisor *s)
{
    struct trm_event happened = trm_event_init(TRM_HAPPENED_END);
    bool well = s->exit_code == TRM_EXIT_OK || s->exit_code == TRM_EXIT_REQUEUE;

    happened.exit_code = s->exit_code;
    happened.attempt = s->claim.attempt;
    happened.step = s->best_step;
    trm_events_add(s->events, &happened, well ? TRM_LOG_INFO : TRM_LOG_ERROR, "%s", s->reason);
}

enum trm_status trm_supervise(const struct trm_supervisor_settings *settings,
                              struct trm_supervised *out, struct trm_error *err)
{
    struct trm_supervisor *s = calloc(1, sizeof *s);
    struct trm_log_relay *relay = NULL;
    enum trm_status status;

    if (!s)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the supervisor");
    s->settings = settings;
    s->config = settings->config;
    s->log = settings->log;
    s->exit_code = s->resumed_step = s->signal_rank = -1;
    s->last_step = s->last_disk_step = s->last_memory_step = s->same_step = -1;
    s->last_loss = NAN;
    s->growing_since_disk_step = INT64_MIN;
    s->want = (struct trm_nodes_want){
        .ranks = settings->ranks,
        .tensor_size = (int)settings->config->tensor_model_parallel_size,
        .min_data_size = (int)settings->config->min_data_parallel_size,
        .quarantine_after = (int)settings->config->quarantine_after,
        .forget_ns = settings->config->quarantine_window_s * INT64_C(1000000000),
    };
    uv_loop_init(&s->loop);
    status = trm_log_relay_open(settings->log.fd, &s->log, &relay, err);
    if (status == TRM_OK)
        status = set_up(s, err);
    if (status == TRM_OK) {
        tell_begin(s);
        s->entered_ns = s->gather_ns = trm_clock_now_ns();
        start_handles(s);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        TRM_ASSERT(s->exit_code >= 0);
        tell_end(s);
        trm_supervisor_status_last(s);
        *out = (struct trm_supervised){s->exit_code, s->stop_signal};
    }
    tear_down(s);
    trm_log_relay_close(relay, LAST_WORDS_MS);
    free(s);
    return status;
}
