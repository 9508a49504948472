/* One attempt: its number, its mpirun, and what its end means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "launch/srun.h"
#include "launch/supervisor_parts.h"

#define CLAIM_CHECK_NS INT64_C(1000000000)

/* Time for the last records of ranks to arrive after mpirun has ended. */
#define RECORDS_LIMIT_NS INT64_C(400000000)

static void run_claim(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->claiming.claim = s->claim;
    s->claiming.status = trm_attempts_claim(&s->attempts, &s->claiming.claim, &s->claiming.before,
                                            &s->claiming.error);
}

static void on_waited(uv_timer_t *timer)
{
    trm_supervisor_event(timer->data, TRM_EVENT_CLAIMED);
}

/* Ranks of a supervisor that never said that they are gone: its leases must be over. It may renew
 * them for as long as it can't look at its claim, which is a lease too. What went before a claim of
 * our own is ours, and was fenced. */
static int64_t inherited_wait_ms(const struct trm_claim *before, bool first)
{
    if (!first || before->attempt == 0 || before->ended)
        return 0;
    return 2 * before->lease_ms + before->lease_ms / 5 + 200;
}

static void on_claimed(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->claiming;
    bool first = s->claim.attempt == 0;
    int64_t wait_ms;

    work->busy = false;
    if (status == UV_ECANCELED)
        return;
    if (work->status != TRM_OK) {
        if (s->state != TRM_RUN_CLAIMING)
            return;
        trm_supervisor_end_with(s, trm_status_exit_code(work->status), "%s", work->error.text);
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
        return;
    }
    wait_ms = inherited_wait_ms(&work->before, first);
    s->claim = work->claim;
    s->claim_checked_ns = trm_clock_now_ns();
    if (first)
        s->inherited_until_ns = s->claim_checked_ns + wait_ms * 1000000;
    if (s->state != TRM_RUN_CLAIMING) /* a stop came between */
        return;
    if (wait_ms > 0)
        trm_log(&s->log, TRM_LOG_INFO,
                "attempt %lld was left by a supervisor on %s: waiting %.1f s, until none of its "
                "ranks can be alive",
                (long long)work->before.attempt, work->before.host, (double)wait_ms / 1e3);
    uv_timer_start(&s->wait, on_waited, (uint64_t)wait_ms, 0);
}

void trm_supervisor_claim(struct trm_supervisor *s)
{
    s->claim.step = s->best_step;
    if (!trm_supervisor_work(s, &s->claiming, run_claim, on_claimed)) {
        trm_supervisor_end_with(s, TRM_EXIT_SOFTWARE, "could not begin to claim an attempt");
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
    }
}

static void run_check(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->checking_claim.status =
        trm_attempts_check(&s->attempts, &s->checking_claim.claim, &s->checking_claim.error);
}

static void on_checked(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->checking_claim;

    work->busy = false;
    /* A claim of our own that is being made is a newer one too. */
    if (status == UV_ECANCELED || s->claiming.busy || work->claim.attempt != s->claim.attempt)
        return;
    if (work->status == TRM_OK) {
        s->claim_checked_ns = trm_clock_now_ns();
    } else if (work->status == TRM_ERR_MISMATCH) {
        trm_supervisor_end_with(s, TRM_EXIT_UNAVAILABLE, "%s; this one gives way",
                                work->error.text);
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
    }
}

void trm_supervisor_claim_check_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (s->claim.attempt == 0 || s->claiming.busy || s->state == TRM_RUN_LEAVING ||
        now_ns - s->claim_checked_ns < CLAIM_CHECK_NS || s->checking_claim.busy)
        return;
    s->checking_claim.claim = s->claim;
    (void)trm_supervisor_work(s, &s->checking_claim, run_check, on_checked);
}

static void on_mpirun_exit(uv_process_t *process, int64_t status, int term_signal)
{
    struct trm_supervisor *s = process->data;

    s->mpirun_runs = false;
    s->mpirun_ended = true;
    s->mpirun_ended_ns = trm_clock_now_ns();
    s->mpirun_status = status;
    s->mpirun_signal = term_signal;
    uv_close((uv_handle_t *)process, NULL);
}

/* mpirun's own words stand between lines of dashes, srun's behind its name; they are kept for the
 * cause and not shown, since the supervisor says what happened. Everything else is the ranks' and
 * is passed on. */
static void take_line(struct trm_supervisor *s, const char *line)
{
    int rank, number;

    if (strncmp(line, "-----", 5) == 0) {
        s->in_banner = !s->in_banner;
        return;
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
    if (line[0]) {
        struct iovec pieces[] = {{(void *)(uintptr_t)line, strlen(line)},
                                 {(void *)(uintptr_t) "\n", 1}};
        if (writev(s->log.fd, pieces, 2) < 0) /* nobody to tell */
            return;
    }
}

static void take_text(struct trm_supervisor *s, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\n' || s->line_bytes == sizeof s->line - 1) {
            s->line[s->line_bytes] = '\0';
            take_line(s, s->line);
            s->line_bytes = 0;
        }
        if (text[i] != '\n')
            s->line[s->line_bytes++] = text[i];
    }
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct trm_supervisor *s = handle->data;

    (void)suggested;
    *buffer = uv_buf_init(s->read_buffer, sizeof s->read_buffer);
}

static void on_text(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct trm_supervisor *s = stream->data;

    if (count > 0)
        take_text(s, buffer->base, (size_t)count);
    else if (count < 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, NULL);
}

/* Ends with this process, whatever ends that: `trireme tether` asks the kernel for it. */
static void spawn(struct trm_supervisor *s)
{
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
    struct fault fault = trm_supervisor_fault_init(FAULT_LAUNCHER);
    int failed = UV_ENOMEM;

    trm_words_add(&words, "%s", settings->program);
    trm_words_add(&words, "tether");
    if (settings->srun)
        trm_srun_words(&mpirun, &words);
    else
        trm_mpirun_words(&mpirun, &words);
    uv_pipe_init(&s->loop, &s->mpirun_errors, 0);
    s->mpirun_errors.data = s->mpirun.data = s;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = settings->output_fd},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&s->mpirun_errors},
    };
    uv_process_options_t options = {
        .file = settings->program,
        .args = words.items,
        .flags = UV_PROCESS_DETACHED, /* a terminal's ^C is for the supervisor alone */
        .exit_cb = on_mpirun_exit,
        .stdio_count = 3,
        .stdio = stdio,
    };
    if (!words.failed)
        failed = uv_spawn(&s->loop, &s->mpirun, &options);
    if (failed == 0) {
        s->mpirun_runs = true;
        s->launched_ns = trm_clock_now_ns();
        uv_read_start((uv_stream_t *)&s->mpirun_errors, give_buffer, on_text);
    } else {
        snprintf(fault.cause, sizeof fault.cause, "%s could not be started: %s",
                 settings->srun ? "srun" : "mpirun", uv_strerror(failed));
        uv_close((uv_handle_t *)&s->mpirun_errors, NULL);
    }
    trm_words_destroy(&words);
    if (failed)
        trm_supervisor_fault(s, &fault);
}

static void reset_attempt(struct trm_supervisor *s)
{
    s->mpirun_ended = false;
    s->mpirun_status = s->mpirun_signal = 0;
    s->signal_rank = -1;
    s->signal_number = 0;
    s->line_bytes = 0;
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
    int ranks = trm_nodes_fit(&s->nodes, &s->want);

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
    for (int i = 0; i < s->nodes.count; i++) {
        struct trm_message message = {
            .type = TRM_MESSAGE_BEGIN,
            .begin = {.attempt = s->claim.attempt, .capacity = s->nodes.items[i].ranks},
        };
        if (s->nodes.items[i].ranks > 0) {
            s->agents[i].asked = s->claim.attempt;
            trm_supervisor_send(&s->agents[i], &message);
        }
    }
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
    if (s->stop_wanted) /* asked before; what was in memory alone is to become durable */
        trm_supervisor_event(s, TRM_EVENT_STOP);
}

void trm_supervisor_ask_stop(struct trm_supervisor *s)
{
    struct trm_message message = {.type = TRM_MESSAGE_STOP, .attempt = s->claim.attempt};

    if (s->launched_ns == 0 && !s->recovering) { /* nothing has begun */
        trm_supervisor_end_with(s, TRM_EXIT_REQUEUE, "stopped on request, before the first step");
        trm_supervisor_event(s, TRM_EVENT_JOB_STOPPED);
        return;
    }
    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].ranks > 0)
            trm_supervisor_send(&s->agents[i], &message);
}

void trm_supervisor_kill_mpirun(struct trm_supervisor *s)
{
    if (s->mpirun_runs)
        uv_process_kill(&s->mpirun, SIGKILL);
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
        const struct trm_node *node = trm_nodes_of_rank(&s->nodes, worst->rank);
        if (is_final(worst->exit_code)) {
            trm_supervisor_end_with(s, worst->exit_code, "%s", worst->exit_text);
            trm_supervisor_event(s, TRM_EVENT_JOB_REFUSED);
            return;
        }
        fault.rank = worst->rank;
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
                (!worst || (is_final(report->exit_code) && !is_final(worst->exit_code))))
                worst = report;
        }
    bool final = worst && is_final(worst->exit_code);
    if (left < total_ranks(s) && !final)
        return false;
    judge_end(s, worst, done == left);
    return true;
}

static void start_tick(struct trm_supervisor *s, int64_t now_ns)
{
    int up = 0, stepped = 0, loading = 0, ranks = total_ranks(s);
    struct fault fault;

    for (int rank = 0; rank < ranks; rank++) {
        const struct trm_rank_report *report = trm_supervisor_report_of(s, rank);
        if (!report || report->state == TRM_FLIGHT_EMPTY)
            continue;
        loading += report->phase == TRM_PHASE_LOAD;
        up += report->resumed_step >= 0;
        stepped += report->resumed_step >= 0 && report->step > report->resumed_step;
        if (report->resumed_step >= 0)
            s->resumed_step = report->resumed_step;
    }
    if (up == ranks && s->up_ns == 0)
        s->up_ns = now_ns;
    if (stepped == ranks) {
        trm_supervisor_stepping(s, now_ns);
        return;
    }
    if (s->launched_ns == 0 || loading > 0 ||
        now_ns - s->launched_ns < s->config->start_timeout_ms * 1000000)
        return;
    fault = trm_supervisor_fault_init(FAULT_START);
    fault.sign_ns = s->launched_ns;
    snprintf(fault.cause, sizeof fault.cause,
             "%d of %d ranks came up, and %d made a step, in %.1f s", up, ranks, stepped,
             (double)(now_ns - s->launched_ns) / 1e9);
    trm_supervisor_name_culprit(s, &fault);
    trm_supervisor_fault(s, &fault);
}

void trm_supervisor_job_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (s->launched_ns > 0 && look_for_end(s))
        return;
    if (s->mpirun_ended && now_ns - s->mpirun_ended_ns > RECORDS_LIMIT_NS) {
        struct fault fault = trm_supervisor_fault_init(FAULT_LAUNCHER);
        char text[256];
        fault.sign_ns = s->mpirun_ended_ns;
        fault.signal = s->mpirun_signal;
        if (s->settings->srun)
            trm_srun_describe(s->mpirun_status, s->mpirun_signal, text, sizeof text);
        else
            trm_mpirun_describe(s->mpirun_status, s->mpirun_signal, text, sizeof text);
        snprintf(fault.cause, sizeof fault.cause, "%s%s%.700s", text, s->banner[0] ? ": " : "",
                 s->banner);
        trm_supervisor_fault(s, &fault);
        return;
    }
    if (s->state == TRM_RUN_LAUNCHING || (s->state == TRM_RUN_STOPPING && !s->up_ns))
        start_tick(s, now_ns);
    if (s->state == TRM_RUN_RUNNING || s->state == TRM_RUN_STOPPING ||
        s->state == TRM_RUN_LAUNCHING)
        trm_supervisor_watch_tick(s, now_ns);
}
