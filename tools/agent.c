/* `trireme agent`: the agent of a node. `trireme run` starts it with its options on standard input;
 * it goes into the background once it serves, and says on standard error why it can't. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "collectives/attach.h"
#include "launch/agent/agent.h"
#include "launch/agent/place.h"
#include "launch/process.h"
#include "tools/tools.h"

#define TAKE_OVER_MS 30000
#define PAUSE_US     50000

static const char help[] =
    "usage: trireme agent\n\n"
    "The agent of a node. `trireme run` starts it, and gives it one line of JSON on standard\n"
    "input. See docs/recovery.md.\n";

struct session {
    uv_loop_t loop;
    uv_signal_t signals[3];
    struct trm_agent *agent; /* NULL: it has ended */
    bool foreground;
    struct trm_log log;
};

/* One line, or what there is before the input ends. */
static enum trm_status read_line(char *line, size_t capacity, size_t *bytes, struct trm_error *err)
{
    size_t length = 0;
    while (length < capacity && !memchr(line, '\n', length)) {
        ssize_t got = read(STDIN_FILENO, line + length, capacity - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return trm_error_set_errno(err, errno, "could not read standard input");
        if (got == 0)
            break;
        length += (size_t)got;
    }
    char *end = memchr(line, '\n', length);
    if (length == capacity && !end)
        return trm_error_set(err, TRM_ERR_CONFIG, "the agent's options are longer than %d bytes",
                             TRM_AGENT_LINE_BYTES);
    *bytes = end ? (size_t)(end - line) : length;
    line[*bytes] = '\0';
    return TRM_OK;
}

static void on_end(void *context, const char *why)
{
    struct session *session = context;
    (void)why;
    session->agent = NULL;
    for (size_t i = 0; i < sizeof session->signals / sizeof *session->signals; i++)
        uv_close((uv_handle_t *)&session->signals[i], NULL);
}

/* An agent in a job step gets SIGTERM when the step's owner wants the job to stop: that is for the
 * supervisor to do, which saves first. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct session *session = handle->data;
    char why[64];
    if (session->agent && session->foreground && number == SIGTERM &&
        trm_agent_ask_stop(session->agent, number))
        return;
    snprintf(why, sizeof why, "signal %d (%s)", number, strsignal(number));
    if (session->agent)
        trm_agent_leave(session->agent, why);
}

static void watch_signals(struct session *session)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uv_signal_init(&session->loop, &session->signals[i]);
        session->signals[i].data = session;
        uv_signal_start(&session->signals[i], on_signal, numbers[i]);
    }
}

/* An agent that holds its place and doesn't answer is stuck: its ranks' leases run out with it. */
static void end_stuck(const struct session *session, int pid)
{
    int pidfd = trm_process_open(pid);
    if (pidfd < 0)
        return;
    trm_log(&session->log, TRM_LOG_WARNING,
            "the agent that was here (process %d) does not answer: killing it", pid);
    trm_process_kill(pidfd);
    close(pidfd);
}

/* Takes the node's place, or hands the options to the agent that has it: then session->agent stays
 * NULL. */
static enum trm_status take_or_hand_over(struct session *session,
                                         const struct trm_agent_options *options, const char *line,
                                         struct trm_error *err)
{
    int64_t deadline_ns = trm_clock_deadline_ns(TAKE_OVER_MS);
    enum trm_status status;
    for (;;) {
        struct trm_error why;
        int pid = 0;
        status = trm_agent_create(&session->loop, options, TRM_VERSION, &session->log, on_end,
                                  session, &session->agent, err);
        if (status != TRM_ERR_MISMATCH || trm_clock_passed(deadline_ns))
            return status;
        enum trm_status handed = trm_agent_hand_over(options->runtime, line, &pid, &why);
        if (handed == TRM_OK)
            return TRM_OK;
        if (handed == TRM_ERR_MISMATCH) {
            *err = why;
            return handed;
        }
        if (handed == TRM_ERR_TIMEOUT)
            end_stuck(session, pid);
        usleep(PAUSE_US); /* it is about to leave */
    }
}

/* Standard input is empty and output goes to the log from now on: nobody waits for this process's
 * end to see the end of a pipe. */
static enum trm_status detach(const struct trm_agent_options *options, struct trm_error *err)
{
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    enum trm_status status = trm_attach_directory(options->runtime, directory, err);
    if (status == TRM_OK)
        status = trm_file_path(path, err, "%s/" TRM_AGENT_LOG, directory);
    if (status != TRM_OK)
        return status;
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || null < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    close(null);
    close(log);
    return TRM_OK;
}

/* Serves until the end; `ready` (-1: none) gets a byte once it does. */
static enum trm_status serve(struct trm_agent_options *options, char *line, int ready,
                             struct trm_error *err)
{
    struct session session = {.log = {TRM_LOG_INFO, -1, STDERR_FILENO, NULL},
                              .foreground = options->foreground};
    uv_loop_init(&session.loop);
    enum trm_status status = take_or_hand_over(&session, options, line, err);
    trm_wire_token_forget(&options->token);
    explicit_bzero(line, TRM_AGENT_LINE_BYTES);
    if (status == TRM_OK && session.agent) {
        watch_signals(&session);
        status = detach(options, err);
        if (status != TRM_OK)
            trm_agent_leave(session.agent, err->text);
    }
    if (status == TRM_OK && ready >= 0)
        (void)!write(ready, "r", 1);
    if (ready >= 0)
        close(ready);
    uv_run(&session.loop, UV_RUN_DEFAULT);
    uv_loop_close(&session.loop);
    return status;
}

static int fail(const struct trm_error *err)
{
    fprintf(stderr, "trireme agent: %s\n", err->text);
    return trm_status_exit_code(err->status);
}

/* The parent waits until the child serves, or has said why not and ended. */
static int serve_in_background(struct trm_agent_options *options, char *line)
{
    int ends[2];
    char byte;
    struct trm_error err;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        trm_error_set_errno(&err, errno, "could not make a pipe");
        return fail(&err);
    }
    pid_t pid = fork();
    if (pid < 0) {
        trm_error_set_errno(&err, errno, "could not fork");
        return fail(&err);
    }
    if (pid == 0) {
        setsid();
        close(ends[0]);
        return serve(options, line, ends[1], &err) == TRM_OK ? TRM_EXIT_OK : fail(&err);
    }
    close(ends[1]);
    ssize_t got;
    do
        got = read(ends[0], &byte, 1);
    while (got < 0 && errno == EINTR);
    int status = 0;
    if (got == 1)
        return TRM_EXIT_OK;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status)
                                                         : TRM_EXIT_UNAVAILABLE;
}

int trm_tool_agent(int argc, char **argv)
{
    char line[TRM_AGENT_LINE_BYTES + 1];
    size_t bytes = 0;
    struct trm_agent_options options;
    struct trm_error err;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("%s", help);
        return TRM_EXIT_OK;
    }
    if (argc != 1) {
        fprintf(stderr, "trireme agent: \"%s\" is not an argument of it\n", argv[1]);
        return TRM_EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    enum trm_status status = read_line(line, TRM_AGENT_LINE_BYTES, &bytes, &err);
    if (status == TRM_OK)
        status = trm_agent_options_parse(line, bytes, &options, &err);
    if (status != TRM_OK)
        return fail(&err);
    if (!options.foreground)
        return serve_in_background(&options, line);
    return serve(&options, line, -1, &err) == TRM_OK ? TRM_EXIT_OK : fail(&err);
}
