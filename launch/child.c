#include "launch/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "launch/process.h"

static void become(char *const *arguments, int out, int err) __attribute__((noreturn));

/* In the child. Only calls that are safe after fork. */
static void become(char *const *arguments, int out, int err)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out, 1);
    dup2(err, 2);
    execvp(arguments[0], arguments);
    const char *reason = strerrordesc_np(errno);
    (void)!write(2, reason, strlen(reason));
    _exit(127);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Reads what is there; false once the stream has ended. */
static bool drain(struct trm_child_stream *stream)
{
    for (;;) {
        char beyond[4096];
        size_t room = stream->capacity - stream->length - 1;
        char *to = room > 0 ? stream->text + stream->length : beyond;
        ssize_t got = read(stream->fd, to, room > 0 ? room : sizeof beyond);
        if (got > 0 && room > 0)
            stream->length += (size_t)got;
        else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        else if (got < 0 && errno == EAGAIN)
            return true;
    }
}

static void on_output(uv_poll_t *poll, int code, int events)
{
    struct trm_child_stream *stream = poll->data;
    (void)code;
    (void)events;
    if (!drain(stream))
        uv_poll_stop(poll);
}

static void on_death(uv_poll_t *poll, int code, int events)
{
    struct trm_child *child = poll->data;
    (void)code;
    (void)events;
    uv_poll_stop(poll);
    trm_child_kill(child); /* what it left behind; its own pid is not free before it is reaped */
    if (waitpid(child->pid, &child->status, WNOHANG) != child->pid)
        child->status = 0x7F00; /* somebody else reaped it: as if it could not be started */
    child->pid = 0;
    drain(&child->out);
    drain(&child->err);
    child->on_end(child, child->context);
}

static enum trm_status make_pipes(int out[2], int err_pipe[2], struct trm_error *err)
{
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err_pipe, O_CLOEXEC) != 0)
        return trm_error_set_errno(err, errno, "could not make a pipe");
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err_pipe[0], F_SETFL, O_NONBLOCK);
    return TRM_OK;
}

static void init_stream(struct trm_child *child, struct trm_child_stream *stream, int fd,
                        char *text, size_t capacity)
{
    *stream =
        (struct trm_child_stream){.child = child, .fd = fd, .text = text, .capacity = capacity};
    stream->poll.data = stream;
}

enum trm_status trm_child_start(uv_loop_t *loop, char *const *arguments, struct trm_child *child,
                                struct trm_error *err)
{
    int out[2] = {-1, -1}, err_pipe[2] = {-1, -1}, pidfd = -1;
    enum trm_status status = make_pipes(out, err_pipe, err);
    pid_t pid = status == TRM_OK ? fork() : -1;
    if (pid == 0)
        become(arguments, out[1], err_pipe[1]);
    close_fd(&out[1]);
    close_fd(&err_pipe[1]);
    if (status == TRM_OK && (pid < 0 || (pidfd = trm_process_open(pid)) < 0))
        status = trm_error_set_errno(err, errno, "could not start \"%s\"", arguments[0]);
    if (status != TRM_OK) {
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        close_fd(&out[0]);
        close_fd(&err_pipe[0]);
        return status;
    }
    child->pid = pid;
    child->pidfd = pidfd;
    child->death.data = child;
    init_stream(child, &child->out, out[0], child->out_text, sizeof child->out_text);
    init_stream(child, &child->err, err_pipe[0], child->err_text, sizeof child->err_text);
    int codes = uv_poll_init(loop, &child->death, pidfd) |
                uv_poll_init(loop, &child->out.poll, out[0]) |
                uv_poll_init(loop, &child->err.poll, err_pipe[0]);
    TRM_ASSERT(codes == 0); /* all three can be polled, and are new to the loop */
    uv_poll_start(&child->death, UV_READABLE, on_death);
    uv_poll_start(&child->out.poll, UV_READABLE, on_output);
    uv_poll_start(&child->err.poll, UV_READABLE, on_output);
    return TRM_OK;
}

/* Its group is its session's: it made one before anything else. Until then only it is to be hit. */
void trm_child_kill(struct trm_child *child)
{
    if (child->pid <= 0)
        return;
    kill(-child->pid, SIGKILL);
    trm_process_kill(child->pidfd);
}

void trm_child_abandon(struct trm_child *child)
{
    trm_child_kill(child);
    uv_unref((uv_handle_t *)&child->death);
    uv_unref((uv_handle_t *)&child->out.poll);
    uv_unref((uv_handle_t *)&child->err.poll);
}

static void on_death_closed(uv_handle_t *handle)
{
    struct trm_child *child = handle->data;
    child->on_closed(child->context);
}

static void on_stream_closed(uv_handle_t *handle)
{
    struct trm_child_stream *stream = handle->data;
    stream->child->on_closed(stream->child->context);
}

void trm_child_close(struct trm_child *child)
{
    trm_child_kill(child);
    uv_close((uv_handle_t *)&child->death, on_death_closed);
    uv_close((uv_handle_t *)&child->out.poll, on_stream_closed);
    uv_close((uv_handle_t *)&child->err.poll, on_stream_closed);
    close_fd(&child->pidfd);
    close_fd(&child->out.fd);
    close_fd(&child->err.fd);
    if (child->pid > 0)
        waitpid(child->pid, NULL, WNOHANG); /* one that cannot die is left to init */
}
