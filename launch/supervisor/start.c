/* How agents are started, and what started them ends. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "launch/agent/options.h"
#include "launch/supervisor/parts.h"

/* What a rank asks for is planned and checked by the rank; this only bounds a mistake. */
#define MEMORY_LIMIT (INT64_C(1) << 46)

/* The lowest of the nodes that are left is the first to run the orphan command, and all of them go
 * on trying for long: what they wait in ends when the command has done its work. */
#define ORPHAN_STAGGER_MS INT64_C(1000)
#define ORPHAN_LINGER_MS  INT64_C(86400000)

/* An agent's starter may take so long to end behind it. */
#define REAP_LIMIT_NS INT64_C(2000000000)
#define REAP_MS       20

/* Whoever asks Slurm for steps over and over should do it seldom. */
#define STEP_RETRY_MOST_MS INT64_C(60000)

/* Every address of this machine that another node might reach. */
static void list_addresses(const struct trm_supervisor *s, struct trm_agent_options *options)
{
    uv_interface_address_t *interfaces;
    int count, port = trm_link_server_port(s->server);

    if (s->settings->local) {
        options->addresses[0] = (struct trm_agent_address){.host = "127.0.0.1", .port = port};
        options->address_count = 1;
        return;
    }
    if (uv_interface_addresses(&interfaces, &count) != 0)
        return;
    /* On a machine without a network, what is internal will do. */
    for (int internal = 0; internal < 2 && options->address_count == 0; internal++)
        for (int i = 0; i < count && options->address_count < TRM_AGENT_MAX_ADDRESSES; i++) {
            struct trm_agent_address *address = &options->addresses[options->address_count];
            if (interfaces[i].is_internal != internal ||
                interfaces[i].address.address4.sin_family != AF_INET)
                continue;
            uv_ip4_name(&interfaces[i].address.address4, address->host, sizeof address->host);
            address->port = port;
            options->address_count++;
        }
    uv_free_interface_addresses(interfaces, count);
}

/* The line that an agent reads from its standard input; owned. It holds the token, and so is on no
 * command line. NULL when memory is out. */
static char *format_start(const struct agent *agent)
{
    const struct trm_supervisor *s = agent->supervisor;
    const struct trm_config *config = s->config;
    struct trm_agent_options options = {
        .token = s->token,
        .lease_ms = config->lease_ms,
        .heartbeat_ms =
            trm_nodes_heartbeat_ms(&s->nodes, config->heartbeat_interval_ms, config->lease_ms),
        .linger_ms = config->linger_ms > config->lease_ms ? config->linger_ms : config->lease_ms,
        .memory_limit = MEMORY_LIMIT,
        .foreground = s->settings->foreground,
        .orphan_delay_ms = agent->number * ORPHAN_STAGGER_MS,
    };
    char *line = NULL;

    if (s->settings->orphan_command) {
        snprintf(options.orphan_command, sizeof options.orphan_command, "%s",
                 s->settings->orphan_command);
        if (options.linger_ms < ORPHAN_LINGER_MS)
            options.linger_ms = ORPHAN_LINGER_MS;
    }
    snprintf(options.run_id, sizeof options.run_id, "%s", s->attempts.key);
    snprintf(options.node, sizeof options.node, "%.63s", node_of(agent)->host.name);
    snprintf(options.runtime, sizeof options.runtime, "%s", s->runtime);
    list_addresses(s, &options);
    if (trm_agent_options_format(&options, &line, NULL) != TRM_OK)
        line = NULL;
    trm_wire_token_forget(&options.token);
    return line;
}

static void on_starter_closed(uv_handle_t *handle)
{
    struct agent *agent = handle->data;

    if (--agent->starter_handles == 0)
        agent->starting = false;
}

static void on_starter_exit(uv_process_t *process, int64_t status, int term_signal)
{
    struct agent *agent = process->data;
    struct trm_node *node = node_of(agent);

    agent->tried_ns = trm_clock_now_ns();
    agent->start_failures += status != 0 || term_signal != 0;
    if ((status != 0 || term_signal != 0) && node->state == TRM_NODE_AWAY && agent->heard_ns == 0)
        snprintf(node->reason, sizeof node->reason,
                 "its agent could not be started (%s ended with %s %d)",
                 agent->supervisor->settings->local ? "it" : "the remote shell",
                 term_signal ? "signal" : "status", term_signal ? term_signal : (int)status);
    uv_close((uv_handle_t *)process, on_starter_closed);
}

static void on_line_written(uv_write_t *request, int status)
{
    struct agent *agent = request->data;

    (void)status;
    free(agent->starter_line);
    agent->starter_line = NULL;
    if (!uv_is_closing((uv_handle_t *)&agent->starter_input))
        uv_close((uv_handle_t *)&agent->starter_input, on_starter_closed);
}

static void add_shell(struct trm_words *words, const char *shell)
{
    while (*shell) {
        size_t length = strcspn(shell, " ");
        if (length > 0)
            trm_words_add(words, "%.*s", (int)length, shell);
        shell += length + strspn(shell + length, " ");
    }
}

void trm_supervisor_start_agent(struct agent *agent)
{
    struct trm_supervisor *s = agent->supervisor;
    const struct trm_supervisor_settings *settings = s->settings;
    struct trm_words words = {0};
    bool spawned = false;
    int failed = UV_ENOMEM;

    agent->tried_ns = trm_clock_now_ns();
    if (!settings->local) {
        add_shell(&words, settings->remote_shell);
        trm_words_add(&words, "%s", node_of(agent)->host.name);
    }
    trm_words_add(&words, "%s", settings->program);
    trm_words_add(&words, "agent");
    agent->starter_line = format_start(agent);
    agent->starting = true;
    agent->starter_handles = 2;
    uv_pipe_init(&s->loop, &agent->starter_input, 0);
    agent->starter.data = agent->starter_input.data = agent->starter_write.data = agent;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE,
         .data.stream = (uv_stream_t *)&agent->starter_input},
        {.flags = UV_INHERIT_FD, .data.fd = s->settings->log.fd},
        {.flags = UV_INHERIT_FD, .data.fd = s->settings->log.fd},
    };
    uv_process_options_t options = {
        .file = words.failed ? "" : words.items[0],
        .args = words.items,
        .flags = UV_PROCESS_DETACHED,
        .exit_cb = on_starter_exit,
        .stdio_count = 3,
        .stdio = stdio,
    };
    if (!words.failed && agent->starter_line) {
        failed = uv_spawn(&s->loop, &agent->starter, &options);
        spawned = true; /* the handle must be closed even when it failed */
    }
    if (failed) {
        struct trm_node *node = node_of(agent);
        snprintf(node->reason, sizeof node->reason, "its agent could not be started: \"%s\": %s",
                 words.failed ? "" : words.items[0], uv_strerror(failed));
        free(agent->starter_line);
        agent->starter_line = NULL;
        if (spawned)
            uv_close((uv_handle_t *)&agent->starter, on_starter_closed);
        else
            agent->starter_handles--;
        uv_close((uv_handle_t *)&agent->starter_input, on_starter_closed);
    } else {
        uv_buf_t buffer = uv_buf_init(agent->starter_line, (unsigned)strlen(agent->starter_line));
        if (uv_write(&agent->starter_write, (uv_stream_t *)&agent->starter_input, &buffer, 1,
                     on_line_written) != 0)
            on_line_written(&agent->starter_write, 0);
    }
    trm_words_destroy(&words);
}

int64_t trm_supervisor_retry_ns(const struct agent *agent)
{
    const struct trm_config *config = agent->supervisor->config;
    int64_t wait_ms = config->node_retry_ms;

    if (wait_ms < config->lease_ms) /* one that was started needs time to be heard of */
        wait_ms = config->lease_ms;
    for (int i = 1; i < agent->start_failures && agent->supervisor->settings->foreground &&
                    wait_ms < STEP_RETRY_MOST_MS;
         i++)
        wait_ms *= 2;
    return wait_ms * 1000000;
}

static void on_reap(uv_timer_t *timer)
{
    struct trm_supervisor *s = timer->data;
    bool late = trm_clock_now_ns() > s->reap_until_ns, left = false;

    for (int i = 0; i < s->nodes.count; i++) {
        struct agent *agent = &s->agents[i];
        if (!agent->starting || uv_is_closing((uv_handle_t *)&agent->starter))
            continue;
        left = true;
        if (late) /* its node is lost */
            uv_process_kill(&agent->starter, SIGKILL);
    }
    if (!left || late)
        uv_close((uv_handle_t *)timer, NULL);
}

void trm_supervisor_agents_reap(struct trm_supervisor *s)
{
    if (!s->agents || !s->started)
        return;
    uv_timer_init(&s->loop, &s->reaper);
    s->reaper.data = s;
    s->reap_until_ns = trm_clock_now_ns() + REAP_LIMIT_NS;
    uv_timer_start(&s->reaper, on_reap, 0, REAP_MS);
}
