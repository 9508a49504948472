#include "launch/supervisor/events.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#define SENTENCE_BYTES 1536
#define HOOKS_MAX      8
#define QUEUE_MAX      4096 /* lines that wait for the disk */

struct line {
    struct line *next;
    char *text; /* owned */
    size_t bytes, written;
};

struct trm_events {
    uv_loop_t *loop;
    const struct trm_log *log;
    int fd, hook_output;
    char *hook; /* owned; NULL: none */
    struct line *first, *last;
    int queued, hook_count;
    struct hook *hooks; /* that run */
    bool writing, told;
    bool torn;    /* what the file ends with is a part of a line */
    int64_t lost; /* lines that are not in the file, and not told of as missing */
    uv_fs_t write;
};

/* A hook that runs: its process, and the pipe through which it gets its line. */
struct hook {
    struct trm_events *events;
    struct hook *next, *previous;
    uv_process_t process;
    uv_pipe_t input;
    uv_write_t write;
    uv_shutdown_t shutdown;
    char *text;
    int handles;
};

static const char *const kind_names[TRM_HAPPENED_KIND_COUNT] = {
    [TRM_HAPPENED_BEGIN] = "begin",
    [TRM_HAPPENED_ATTEMPT] = "attempt",
    [TRM_HAPPENED_STEPPING] = "recovered",
    [TRM_HAPPENED_FAULT] = "fault",
    [TRM_HAPPENED_HANG] = "hang",
    [TRM_HAPPENED_STRAGGLER] = "straggler",
    [TRM_HAPPENED_WAITING] = "waiting",
    [TRM_HAPPENED_NODE] = "node",
    [TRM_HAPPENED_STRANGER] = "stranger",
    [TRM_HAPPENED_STOP] = "stop",
    [TRM_HAPPENED_END] = "end",
};

struct trm_event trm_event_init(enum trm_event_kind kind)
{
    return (struct trm_event){
        .kind = kind,
        .rank = -1,
        .exit_code = -1,
        .step = -1,
        .steps_lost = -1,
        .detection_s = NAN,
        .fence_s = NAN,
        .check_s = NAN,
        .start_s = NAN,
        .restore_s = NAN,
        .recovery_s = NAN,
    };
}

enum trm_status trm_events_open(uv_loop_t *loop, const struct trm_log *log, int hook_output,
                                const char *run_dir, const char *hook, struct trm_events **out,
                                struct trm_error *err)
{
    struct trm_events *events = calloc(1, sizeof *events);
    char path[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(path, err, "%s/events.jsonl", run_dir);

    if (status == TRM_OK && !events)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for the events");
    if (status == TRM_OK) {
        events->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (events->fd < 0)
            status = trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    }
    if (status == TRM_OK && hook[0] && !(events->hook = strdup(hook))) {
        close(events->fd);
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a command");
    }
    if (status != TRM_OK) {
        free(events);
        return status;
    }
    events->loop = loop;
    events->log = log;
    events->hook_output = hook_output;
    *out = events;
    return TRM_OK;
}

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value)
        json_object_set_new(object, key, json_string(value));
}

static void set_seconds(json_t *object, const char *key, double value)
{
    if (!isnan(value))
        json_object_set_new(object, key, json_real(round(value * 1e4) / 1e4));
}

static void set_number(json_t *object, const char *key, int64_t value, bool known)
{
    if (known)
        json_object_set_new(object, key, json_integer(value));
}

/* One line with its newline, owned; NULL when memory is out. */
static char *format_event(const struct trm_event *event, const char *sentence)
{
    json_t *object = json_object();
    char *text, *line = NULL;

    json_object_set_new(object, "time", json_real(trm_clock_utc_s()));
    set_text(object, "event", kind_names[event->kind]);
    set_number(object, "attempt", event->attempt, event->attempt > 0);
    set_text(object, "node", event->node);
    set_number(object, "rank", event->rank, event->rank >= 0);
    set_number(object, "ranks", event->ranks, event->ranks > 0);
    set_number(object, "step", event->step, event->step >= 0);
    set_text(object, "phase", event->phase);
    set_text(object, "cause", event->cause);
    set_number(object, "signal", event->signal, event->signal > 0);
    set_number(object, "exit_code", event->exit_code, event->exit_code >= 0);
    set_text(object, "nodes", event->nodes);
    set_text(object, "source", event->source);
    set_number(object, "steps_lost", event->steps_lost, event->steps_lost >= 0);
    set_seconds(object, "detection_s", event->detection_s);
    set_seconds(object, "fence_s", event->fence_s);
    set_seconds(object, "check_s", event->check_s);
    set_seconds(object, "start_s", event->start_s);
    set_seconds(object, "restore_s", event->restore_s);
    set_seconds(object, "recovery_s", event->recovery_s);
    set_text(object, "text", sentence);
    text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    json_decref(object);
    return line;
}

static void write_next(struct trm_events *events);

static void drop_first(struct trm_events *events)
{
    struct line *line = events->first;

    events->first = line->next;
    events->queued--;
    free(line->text);
    free(line);
}

/* A line did not get into the file, or not whole. */
static void lose(struct trm_events *events, const char *why)
{
    events->lost++;
    if (events->told)
        return;
    events->told = true;
    trm_log(events->log, TRM_LOG_WARNING, "could not write to events.jsonl: %s", why);
}

/* The file takes lines again. */
static void tell_lost(struct trm_events *events)
{
    if (events->lost > 0)
        trm_log(events->log, TRM_LOG_WARNING, "%lld event%s missing in events.jsonl",
                (long long)events->lost, events->lost == 1 ? " is" : "s are");
    events->lost = 0;
    events->told = false;
}

/* `result` bytes of the first line's rest were written; negative: why not. */
static void take_result(struct trm_events *events, ssize_t result)
{
    struct line *line = events->first;

    if (result <= 0) {
        events->torn = events->torn || line->written > 0;
        lose(events, result < 0 ? uv_strerror((int)result) : "nothing was written");
        drop_first(events);
        return;
    }
    if (events->torn) { /* that was the end of the torn line */
        events->torn = false;
        return;
    }
    line->written += (size_t)result;
    if (line->written == line->bytes) {
        drop_first(events);
        tell_lost(events);
    }
}

/* What is to be written now: the rest of a line, or the end of one that was torn. */
static uv_buf_t rest(const struct trm_events *events)
{
    static char end[] = "\n";
    const struct line *line = events->first;

    if (events->torn)
        return uv_buf_init(end, 1);
    return uv_buf_init(line->text + line->written, (unsigned)(line->bytes - line->written));
}

static void on_written(uv_fs_t *request)
{
    struct trm_events *events = request->data;
    ssize_t result = request->result;

    uv_fs_req_cleanup(request);
    events->writing = false;
    take_result(events, result);
    write_next(events);
}

static void write_next(struct trm_events *events)
{
    if (events->writing || !events->first)
        return;
    uv_buf_t buffer = rest(events);
    events->write.data = events;
    events->writing =
        uv_fs_write(events->loop, &events->write, events->fd, &buffer, 1, -1, on_written) == 0;
}

static void queue(struct trm_events *events, char *text)
{
    struct line *line = events->queued < QUEUE_MAX ? malloc(sizeof *line) : NULL;

    if (!line) {
        free(text);
        lose(events, "the disk does not keep up");
        return;
    }
    *line = (struct line){.text = text, .bytes = strlen(text)};
    if (events->first)
        events->last->next = line;
    else
        events->first = line;
    events->last = line;
    events->queued++;
    write_next(events);
}

static void on_hook_closed(uv_handle_t *handle)
{
    struct hook *hook = handle->data;

    if (--hook->handles > 0)
        return;
    if (hook->previous)
        hook->previous->next = hook->next;
    else
        hook->events->hooks = hook->next;
    if (hook->next)
        hook->next->previous = hook->previous;
    hook->events->hook_count--;
    free(hook->text);
    free(hook);
}

static void on_hook_exit(uv_process_t *process, int64_t status, int term_signal)
{
    (void)status;
    (void)term_signal;
    uv_close((uv_handle_t *)process, on_hook_closed);
}

static void close_input(struct hook *hook)
{
    if (!uv_is_closing((uv_handle_t *)&hook->input))
        uv_close((uv_handle_t *)&hook->input, on_hook_closed);
}

static void on_hook_given(uv_write_t *request, int status)
{
    (void)status;
    close_input(request->data);
}

static void run_hook(struct trm_events *events, const char *text)
{
    char *arguments[] = {"/bin/sh", "-c", events->hook, NULL};
    struct hook *hook = events->hook_count < HOOKS_MAX ? calloc(1, sizeof *hook) : NULL;

    if (!hook || !(hook->text = strdup(text))) {
        free(hook);
        trm_log(events->log, TRM_LOG_WARNING, "the on_event hook is slow: an event was not told");
        return;
    }
    hook->events = events;
    hook->process.data = hook->input.data = hook->write.data = hook;
    hook->handles = 2;
    hook->next = events->hooks;
    if (events->hooks)
        events->hooks->previous = hook;
    events->hooks = hook;
    events->hook_count++;
    uv_pipe_init(events->loop, &hook->input, 0);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&hook->input},
        {.flags = UV_INHERIT_FD, .data.fd = events->hook_output},
        {.flags = UV_INHERIT_FD, .data.fd = events->hook_output},
    };
    uv_process_options_t options = {.file = arguments[0],
                                    .args = arguments,
                                    .exit_cb = on_hook_exit,
                                    .stdio_count = 3,
                                    .stdio = stdio};
    int failed = uv_spawn(events->loop, &hook->process, &options);
    if (failed) {
        trm_log(events->log, TRM_LOG_WARNING, "could not run the on_event hook: %s",
                uv_strerror(failed));
        uv_close((uv_handle_t *)&hook->process, on_hook_closed);
        close_input(hook);
        return;
    }
    uv_unref((uv_handle_t *)&hook->process);
    uv_buf_t buffer = uv_buf_init(hook->text, (unsigned)strlen(hook->text));
    if (uv_write(&hook->write, (uv_stream_t *)&hook->input, &buffer, 1, on_hook_given) != 0)
        close_input(hook);
}

void trm_events_add(struct trm_events *events, const struct trm_event *event,
                    enum trm_log_level level, const char *format, ...)
{
    char sentence[SENTENCE_BYTES];
    va_list arguments;
    char *text;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    trm_log(events->log, level, "%s", sentence);
    text = format_event(event, sentence);
    if (!text)
        return;
    if (events->hook)
        run_hook(events, text);
    queue(events, text);
}

void trm_events_close(struct trm_events *events)
{
    if (!events)
        return;
    while (events->writing)
        uv_run(events->loop, UV_RUN_ONCE);
    while (events->first) { /* the loop could not begin */
        uv_buf_t buffer = rest(events);
        ssize_t written = write(events->fd, buffer.base, buffer.len);
        if (written >= 0 || errno != EINTR)
            take_result(events, written < 0 ? -errno : written);
    }
    tell_lost(events);
    for (struct hook *hook = events->hooks; hook; hook = hook->next) {
        close_input(hook);
        if (!uv_is_closing((uv_handle_t *)&hook->process))
            uv_close((uv_handle_t *)&hook->process, on_hook_closed);
    }
    uv_run(events->loop, UV_RUN_NOWAIT);
    close(events->fd);
    free(events->hook);
    free(events);
}
