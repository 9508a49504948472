#include "launch/job/job.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct trm_job {
    uv_process_t process;
    uv_pipe_t errors;
    struct trm_job_events events;
    void *context;
    int holds; /* handles, and the owner */
    bool runs, given_up;
    char line[2048]; /* not ended yet */
    size_t line_bytes;
    char buffer[8192];
};

static void release(struct trm_job *job)
{
    if (--job->holds == 0)
        free(job);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_ended(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct trm_job *job = process->data;

    job->runs = false;
    uv_close((uv_handle_t *)process, on_closed);
    if (!job->given_up)
        job->events.on_end(exit_status, term_signal, job->context);
}

static void take_text(struct trm_job *job, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\n' || job->line_bytes == sizeof job->line - 1) {
            job->line[job->line_bytes] = '\0';
            job->line_bytes = 0;
            job->events.on_line(job->line, job->context);
        }
        if (text[i] != '\n')
            job->line[job->line_bytes++] = text[i];
    }
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct trm_job *job = handle->data;

    (void)suggested;
    *buffer = uv_buf_init(job->buffer, sizeof job->buffer);
}

static void close_errors(struct trm_job *job)
{
    if (!uv_is_closing((uv_handle_t *)&job->errors))
        uv_close((uv_handle_t *)&job->errors, on_closed);
}

static void on_text(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct trm_job *job = stream->data;

    if (count > 0 && !job->given_up)
        take_text(job, buffer->base, (size_t)count);
    else if (count < 0)
        close_errors(job);
}

enum trm_status trm_job_start(uv_loop_t *loop, const struct trm_words *words, int output_fd,
                              const struct trm_job_events *events, void *context,
                              struct trm_job **out, struct trm_error *err)
{
    struct trm_job *job = words->failed ? NULL : calloc(1, sizeof *job);

    if (!job)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a process");
    job->events = *events;
    job->context = context;
    job->process.data = job->errors.data = job;
    uv_pipe_init(loop, &job->errors, 0);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = output_fd},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&job->errors},
    };
    const uv_process_options_t options = {
        .file = words->items[0],
        .args = words->items,
        .flags = UV_PROCESS_DETACHED, /* a terminal's ^C is for the supervisor alone */
        .exit_cb = on_ended,
        .stdio_count = 3,
        .stdio = stdio,
    };
    int failed = uv_spawn(loop, &job->process, &options);
    job->holds = 2;
    if (failed) { /* the handle must be closed all the same */
        uv_close((uv_handle_t *)&job->process, on_closed);
        close_errors(job);
        return trm_error_set(err, TRM_ERR_IO, "%s", uv_strerror(failed));
    }
    job->holds = 3;
    job->runs = true;
    uv_read_start((uv_stream_t *)&job->errors, give_buffer, on_text);
    *out = job;
    return TRM_OK;
}

void trm_job_kill(struct trm_job *job)
{
    if (!job->runs)
        return;
    kill(-job->process.pid, SIGKILL);
    uv_process_kill(&job->process, SIGKILL);
}

void trm_job_close(struct trm_job *job)
{
    if (!job)
        return;
    trm_job_kill(job);
    if (job->runs) /* killed, and stuck in the kernel perhaps: nobody waits for that */
        uv_unref((uv_handle_t *)&job->process);
    job->given_up = true;
    close_errors(job);
    release(job);
}
