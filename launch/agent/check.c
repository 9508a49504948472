#include "launch/agent/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "launch/child.h"

enum { SELF_TEST, COMMAND, KINDS };

static const char *const names[KINDS] = {"self-test", "health command"};

struct trm_agent_check {
    struct trm_child children[KINDS];
    bool started[KINDS], ended[KINDS];
    uv_timer_t timer;
    trm_agent_check_fn *answer;
    void *context;
    int64_t id, timeout_ms, begin_ns;
    int holds; /* handles */
    bool answered;
};

static void release(void *context)
{
    struct trm_agent_check *check = context;
    if (--check->holds == 0)
        free(check);
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void close_all(struct trm_agent_check *check)
{
    for (int i = 0; i < KINDS; i++)
        if (check->started[i])
            trm_child_close(&check->children[i]);
    uv_close((uv_handle_t *)&check->timer, on_timer_closed);
}

/* A child that goes on is killed, and closed when it has ended. */
static void close_ended(struct trm_agent_check *check)
{
    for (int i = 0; i < KINDS; i++)
        if (check->started[i] && check->ended[i])
            trm_child_close(&check->children[i]);
        else if (check->started[i])
            trm_child_abandon(&check->children[i]);
    uv_close((uv_handle_t *)&check->timer, on_timer_closed);
}

/* The last line of what a child wrote to its standard error, or else to its output. */
static const char *last_words(struct trm_child *child)
{
    struct trm_child_stream *stream = child->err.length > 0 ? &child->err : &child->out;
    size_t end = stream->length;
    while (end > 0 && stream->text[end - 1] == '\n')
        stream->text[--end] = '\0';
    const char *line = strrchr(stream->text, '\n');
    return line ? line + 1 : stream->text;
}

static void judge(const struct trm_agent_check *check, int i, struct trm_child *child,
                  struct trm_message_health *health)
{
    size_t length = strlen(health->reason), room = sizeof health->reason - length;
    char *reason = health->reason + length;
    const char *between = length > 0 ? "; " : "";
    if (!check->ended[i])
        snprintf(reason, room, "%s%s: not done after %lld ms", between, names[i],
                 (long long)check->timeout_ms);
    else if (WIFSIGNALED(child->status))
        snprintf(reason, room, "%s%s: killed by signal %d (%s)", between, names[i],
                 WTERMSIG(child->status), strsignal(WTERMSIG(child->status)));
    else if (WEXITSTATUS(child->status) != 0)
        snprintf(reason, room, "%s%s: status %d: %.500s", between, names[i],
                 WEXITSTATUS(child->status), last_words(child));
}

static void finish(struct trm_agent_check *check)
{
    struct trm_message_health health = {.id = check->id};
    health.took_ms = (trm_clock_now_ns() - check->begin_ns) / 1000000;
    struct trm_child *test = &check->children[SELF_TEST];
    if (check->started[SELF_TEST])
        memcpy(health.report, test->out_text, test->out.length);
    for (int i = 0; i < KINDS; i++)
        if (check->started[i])
            judge(check, i, &check->children[i], &health);
    health.ok = health.reason[0] == '\0';
    check->answered = true;
    close_ended(check);
    check->answer(&health, check->context);
}

static void on_end(struct trm_child *child, void *context)
{
    struct trm_agent_check *check = context;
    bool all = true;
    for (int i = 0; i < KINDS; i++) {
        if (child == &check->children[i])
            check->ended[i] = true;
        all = all && (check->ended[i] || !check->started[i]);
    }
    if (check->answered)
        trm_child_close(child);
    else if (all)
        finish(check);
}

/* The deadline, or, with nothing to do, at once. */
static void on_timer(uv_timer_t *timer)
{
    struct trm_agent_check *check = timer->data;
    if (!check->answered)
        finish(check);
}

static enum trm_status start_child(struct trm_agent_check *check, int i, char *const *arguments,
                                   struct trm_error *err)
{
    struct trm_child *child = &check->children[i];
    child->on_end = on_end;
    child->on_closed = release;
    child->context = check;
    enum trm_status status = trm_child_start(check->timer.loop, arguments, child, err);
    if (status == TRM_OK) {
        check->started[i] = true;
        check->holds += TRM_CHILD_HANDLES;
    }
    return status;
}

enum trm_status trm_agent_check_start(uv_loop_t *loop, const struct trm_message_check *request,
                                      trm_agent_check_fn *answer, void *context,
                                      struct trm_agent_check **out, struct trm_error *err)
{
    char *arguments[TRM_MESSAGE_MAX_ARGUMENTS + 1] = {NULL}, shell[] = "/bin/sh", flag[] = "-c";
    struct trm_agent_check *check = calloc(1, sizeof *check);
    enum trm_status status = TRM_OK;
    if (!check)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a health check");
    check->answer = answer;
    check->context = context;
    check->id = request->id;
    check->timeout_ms = request->timeout_ms;
    check->begin_ns = trm_clock_now_ns();
    check->holds = 1;
    uv_timer_init(loop, &check->timer);
    check->timer.data = check;
    bool command = request->command && request->command[0];
    for (int i = 0; i < request->argument_count; i++)
        arguments[i] = request->arguments[i];
    if (request->argument_count > 0)
        status = start_child(check, SELF_TEST, arguments, err);
    if (status == TRM_OK && command)
        status = start_child(check, COMMAND, (char *[]){shell, flag, request->command, NULL}, err);
    if (status != TRM_OK) {
        check->answered = true;
        close_all(check);
        return status;
    }
    bool idle = !command && request->argument_count == 0;
    uv_timer_start(&check->timer, on_timer, idle ? 0 : (uint64_t)request->timeout_ms, 0);
    *out = check;
    return TRM_OK;
}

void trm_agent_check_cancel(struct trm_agent_check *check)
{
    if (!check)
        return;
    check->answered = true;
    close_all(check);
}
