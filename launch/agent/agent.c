#include "launch/agent/agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/assert.h"
#include "launch/agent/internal.h"

void trm_agent_note(struct trm_agent *agent, const char *format, ...)
{
    struct trm_message note = {.type = TRM_MESSAGE_NOTE};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(note.note.text, sizeof note.note.text, format, arguments);
    va_end(arguments);
    trm_log(agent->log, TRM_LOG_WARNING, "%s", note.note.text);
    trm_agent_send(agent, &note);
}

static void release(struct trm_agent *agent)
{
    if (--agent->holds > 0)
        return;
    bool clean = !agent->fencing;
    if (!clean)
        trm_log(agent->log, TRM_LOG_ERROR,
                "ranks could not be killed: \"%s\" stays, and tells the next agent",
                agent->place.directory);
    trm_log(agent->log, TRM_LOG_INFO, "leaving: %s", agent->why);
    trm_agent_place_leave(&agent->place, clean);
    trm_slot_pool_destroy(agent->pool);
    trm_wire_token_forget(&agent->options.token);
    agent->on_end(agent->context, agent->why);
    free(agent->reports);
    free(agent);
}

static void on_handle_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_ranks_change(void *context)
{
    struct trm_agent *agent = context;
    trm_agent_try_proof(agent);
    trm_agent_beat(agent);
}

static void on_ranks_gone(const struct trm_message_gone *gone, void *context)
{
    struct trm_agent *agent = context;
    struct trm_message message = {.type = TRM_MESSAGE_GONE};
    message.gone = *gone;
    trm_log(agent->log, TRM_LOG_WARNING, "rank %d (process %lld) is gone, at step %lld in %s",
            gone->rank, (long long)gone->pid, (long long)gone->step, trm_phase_name(gone->phase));
    trm_agent_send(agent, &message);
}

static void on_ranks_odd(const char *what, void *context)
{
    trm_agent_note(context, "%s", what);
}

static void on_ranks_closed(void *context)
{
    release(context);
}

static enum trm_status may_hand_over(const struct trm_agent *agent,
                                     const struct trm_agent_options *options, bool same,
                                     struct trm_error *err)
{
    if (strcmp(options->run_id, agent->options.run_id) != 0)
        return trm_error_set(err, TRM_ERR_MISMATCH, "it serves the run \"%s\", not \"%s\"",
                             agent->options.run_id, options->run_id);
    if (same && strcmp(options->node, agent->options.node) != 0)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "this machine serves the run as node \"%s\" already, so it cannot be "
                             "\"%s\" too: name it once in the host file",
                             agent->options.node, options->node);
    if (agent->phase != TRM_AGENT_SERVES)
        return trm_error_set(err, TRM_ERR_MISMATCH, "it is leaving");
    return TRM_OK;
}

/* A supervisor of this run has started an agent here: it is ours to serve now. Ranks of another
 * supervisor are ended: what that one counts on, that they end with the lease that it gave, would
 * not be so while the new one prolongs it. */
static void on_handover(uv_poll_t *poll, int code, int events)
{
    struct trm_agent *agent = poll->data;
    struct trm_agent_options options;
    struct trm_error err;
    int connection = -1;
    (void)code;
    (void)events;
    enum trm_status status = trm_agent_place_receive(&agent->place, &connection, &options, &err);
    if (status == TRM_ERR_NOT_FOUND)
        return;
    bool same = status == TRM_OK && trm_wire_token_equal(&options.token, &agent->options.token);
    if (status == TRM_OK)
        status = may_hand_over(agent, &options, same, &err);
    if (connection >= 0)
        trm_agent_place_answer(connection, status == TRM_OK ? NULL : err.text);
    if (status != TRM_OK) {
        trm_agent_note(agent, "a hand-over was refused: %s", err.text);
        return;
    }
    trm_log(agent->log, TRM_LOG_INFO, "handed over to the supervisor at %s, port %d",
            options.addresses[0].host, options.addresses[0].port);
    bool foreground = agent->options.foreground;
    agent->options = options;
    agent->options.foreground = foreground;
    trm_agent_refuse_pending(agent, "another supervisor has taken over");
    agent->next_address = agent->failures = 0;
    agent->word_ns = trm_flight_boot_ns();
    uv_timer_set_repeat(&agent->beat_timer, (uint64_t)options.heartbeat_ms);
    trm_wire_token_forget(&options.token);
    trm_agent_disconnect(agent, false);
    if (!same && agent->attempt > agent->dead)
        trm_agent_fence(agent, agent->attempt);
    trm_agent_connect(agent);
}

/* A descriptor per slot and two per rank are more than the usual soft limit. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void read_boot_id(char *out, size_t bytes)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(out, (int)bytes, file))
        snprintf(out, bytes, "unknown");
    out[strcspn(out, "\n")] = '\0';
    if (file)
        fclose(file);
}

static enum trm_status start(struct trm_agent *agent, struct trm_error *err)
{
    static const struct trm_agent_ranks_events events = {on_ranks_change, on_ranks_gone,
                                                         on_ranks_odd, on_ranks_closed};
    enum trm_status status = trm_agent_place_take(agent->options.runtime, &agent->place, err);
    if (status != TRM_OK)
        return status;
    status = trm_slot_pool_create(agent->options.memory_limit, &agent->pool, err);
    if (status == TRM_OK)
        status = trm_agent_ranks_create(agent->loop, agent->place.attach, agent->pool, &events,
                                        agent, &agent->ranks, err);
    if (status != TRM_OK)
        trm_agent_place_leave(&agent->place, false);
    return status;
}

static void start_handles(struct trm_agent *agent)
{
    uv_timer_t *timers[] = {&agent->beat_timer, &agent->retry_timer, &agent->lease_timer,
                            &agent->fence_timer};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(agent->loop, timers[i]);
        timers[i]->data = agent;
    }
    int code = uv_poll_init(agent->loop, &agent->handover, agent->place.handover);
    TRM_ASSERT(code == 0); /* a socket, new to the loop */
    agent->handover.data = agent;
    agent->holds = 6; /* those and the ranks */
    uv_poll_start(&agent->handover, UV_READABLE, on_handover);
    uint64_t heartbeat_ms = (uint64_t)agent->options.heartbeat_ms;
    uv_timer_start(&agent->beat_timer, trm_agent_on_beat_timer, heartbeat_ms, heartbeat_ms);
}

enum trm_status trm_agent_create(uv_loop_t *loop, const struct trm_agent_options *options,
                                 const char *version, const struct trm_log *log,
                                 trm_agent_end_fn *on_end, void *context, struct trm_agent **out,
                                 struct trm_error *err)
{
    struct trm_agent *agent = calloc(1, sizeof *agent);
    if (agent)
        agent->reports = calloc(TRM_FLIGHT_MAX_RANKS, sizeof *agent->reports);
    if (!agent || !agent->reports) {
        free(agent);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for an agent");
    }
    agent->loop = loop;
    agent->options = *options;
    memcpy(agent->runtime, options->runtime, sizeof agent->runtime);
    agent->log = log;
    agent->on_end = on_end;
    agent->context = context;
    agent->acknowledged = -1;
    agent->word_ns = trm_flight_boot_ns();
    snprintf(agent->version, sizeof agent->version, "%s", version);
    read_boot_id(agent->boot_id, sizeof agent->boot_id);
    raise_descriptor_limit();
    enum trm_status status = start(agent, err);
    if (status != TRM_OK) {
        trm_slot_pool_destroy(agent->pool);
        trm_wire_token_forget(&agent->options.token);
        free(agent->reports);
        free(agent);
        return status;
    }
    start_handles(agent);
    trm_log(log, TRM_LOG_INFO, "agent of node %s for run %s in \"%s\"", options->node,
            options->run_id, agent->place.directory);
    if (!trm_agent_place_is_free_of_ranks(&agent->place)) {
        trm_agent_note(agent, "ranks of an earlier agent are still here: killing them");
        trm_agent_fence(agent, 0);
    }
    trm_agent_connect(agent);
    *out = agent;
    return TRM_OK;
}

bool trm_agent_ask_stop(struct trm_agent *agent, int signal_number)
{
    struct trm_message message = {.type = TRM_MESSAGE_ASKED};
    message.number = signal_number;
    if (!agent->is_open || agent->phase != TRM_AGENT_SERVES)
        return false;
    trm_agent_send(agent, &message);
    return true;
}

void trm_agent_leave(struct trm_agent *agent, const char *why)
{
    if (agent->phase != TRM_AGENT_SERVES)
        return;
    agent->phase = TRM_AGENT_LEAVES;
    snprintf(agent->why, sizeof agent->why, "%s", why);
    trm_agent_check_cancel(agent->check);
    agent->check = NULL;
    trm_agent_orphan_cancel(agent);
    trm_agent_fence(agent, agent->attempt > agent->dead ? agent->attempt : agent->dead);
}

void trm_agent_finish(struct trm_agent *agent)
{
    const struct trm_message bye = {.type = TRM_MESSAGE_BYE};
    uv_handle_t *handles[] = {(uv_handle_t *)&agent->beat_timer, (uv_handle_t *)&agent->retry_timer,
                              (uv_handle_t *)&agent->lease_timer,
                              (uv_handle_t *)&agent->fence_timer, (uv_handle_t *)&agent->handover};
    agent->phase = TRM_AGENT_CLOSES;
    if (agent->sweeping)
        return;          /* it comes here again */
    if (!agent->fencing) /* the supervisor may end at that word, and nothing is to be left then */
        trm_agent_place_clear(&agent->place);
    trm_agent_send(agent, &bye);
    trm_agent_disconnect(agent, true);
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
        uv_close(handles[i], on_handle_closed);
    trm_agent_ranks_close(agent->ranks);
}
