/* Health checks: every connected node runs the self-test and the operator's command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "launch/supervisor/parts.h"

/* An answer that is no older, from while ranks were killed say, is not asked for again. */
#define FRESH_NS INT64_C(5000000000)

static void leave_out(struct agent *agent, const char *reason)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_node *node = node_of(agent);
    struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
    bool told = strncmp(node->reason, reason, 250) == 0;

    agent->checked = true;
    agent->checked_ns = trm_clock_now_ns();
    node->healthy = false;
    node->state = TRM_NODE_UNHEALTHY;
    if (told)
        return;
    snprintf(node->reason, sizeof node->reason, "%.250s", reason);
    happened.node = node->host.name;
    happened.cause = reason;
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s is left out: %s", node->host.name,
                   reason);
}

static bool may_work(const struct agent *agent)
{
    enum trm_node_state state = node_of(agent)->state;

    return agent->link && (state == TRM_NODE_READY || state == TRM_NODE_UNHEALTHY);
}

static void ask(struct agent *agent)
{
    struct trm_supervisor *s = agent->supervisor;
    static const char *const devices[] = {
        [TRM_DEVICE_AUTO] = "auto", [TRM_DEVICE_CPU] = "cpu", [TRM_DEVICE_CUDA] = "cuda"};
    char *arguments[] = {(char *)(uintptr_t)s->settings->trainer, "--self-test", "--device",
                         (char *)(uintptr_t)devices[s->config->device]};
    int slots = node_of(agent)->host.slots, ranks = s->want.ranks < slots ? s->want.ranks : slots;

    agent->check_id = ++s->check_ids;
    struct trm_message message = {
        .type = TRM_MESSAGE_CHECK,
        .check = {.id = agent->check_id,
                  .timeout_ms = s->config->health_timeout_ms,
                  .memory_bytes = s->settings->rank_memory_bytes * ranks,
                  .argument_count = 4,
                  .arguments = arguments,
                  .command = s->config->health_command},
    };
    trm_supervisor_send(agent, &message);
}

static void ask_anew(struct agent *agent)
{
    agent->checked = node_of(agent)->healthy = false;
    agent->check_id = 0;
    if (may_work(agent))
        ask(agent);
}

void trm_supervisor_check_ahead(struct trm_supervisor *s)
{
    for (int i = 0; i < s->nodes.count; i++)
        ask_anew(&s->agents[i]);
}

static bool is_known(const struct agent *agent, int64_t now_ns)
{
    return may_work(agent) && (agent->check_id != 0 || (agent->checked && node_of(agent)->healthy &&
                                                        now_ns - agent->checked_ns < FRESH_NS));
}

void trm_supervisor_check(struct trm_supervisor *s)
{
    int64_t now_ns = trm_clock_now_ns();

    for (int i = 0; i < s->nodes.count; i++)
        if (!is_known(&s->agents[i], now_ns))
            ask_anew(&s->agents[i]);
    trm_supervisor_check_tick(s, now_ns);
}

void trm_supervisor_check_joined(struct agent *agent)
{
    if (agent->supervisor->state == TRM_RUN_CHECKING && !agent->checked && may_work(agent))
        ask(agent);
}

bool trm_supervisor_check_again(struct trm_supervisor *s, int64_t now_ns)
{
    bool any = false;

    for (int i = 0; i < s->nodes.count; i++) {
        struct agent *agent = &s->agents[i];
        struct trm_node *node = node_of(agent);
        if (node->state != TRM_NODE_UNHEALTHY || !agent->link)
            continue;
        any = true;
        if (now_ns - agent->checked_ns > s->config->node_retry_ms * 1000000) {
            agent->checked = false;
            node->state = TRM_NODE_READY;
        }
    }
    return any;
}

/* "version|fingerprint|checksum": equal on nodes that compute alike. */
static void read_fingerprint(const char *report, char *out, size_t out_bytes)
{
    static const char *const keys[] = {"version", "fingerprint", "checksum"};
    json_t *object = NULL;
    size_t length = 0;

    out[0] = '\0';
    if (trm_json_parse(report, strcspn(report, "\n"), "self-test", &object, NULL) != TRM_OK)
        return;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && length < out_bytes; i++) {
        const char *value = json_string_value(json_object_get(object, keys[i]));
        length += (size_t)snprintf(out + length, out_bytes - length, "%s%s", i > 0 ? ", " : "",
                                   value ? value : "unknown");
    }
    json_decref(object);
}

void trm_supervisor_check_answer(struct agent *agent, const struct trm_message_health *health)
{
    if (health->id != agent->check_id || agent->checked)
        return;
    agent->check_id = 0;
    if (!may_work(agent)) /* quarantined or excluded meanwhile */
        return;
    if (!health->ok) {
        leave_out(agent, health->reason);
        return;
    }
    agent->checked = node_of(agent)->healthy = true;
    agent->checked_ns = trm_clock_now_ns();
    read_fingerprint(health->report, agent->fingerprint, sizeof agent->fingerprint);
    node_of(agent)->state = TRM_NODE_READY;
    node_of(agent)->reason[0] = '\0';
    trm_supervisor_check_tick(agent->supervisor, agent->checked_ns);
}

void trm_supervisor_check_lost(struct agent *agent)
{
    agent->check_id = 0;
    agent->checked = node_of(agent)->healthy = false;
}

/* Nodes that compute otherwise than most slots do are left out: their bits would differ. */
static void compare(struct trm_supervisor *s)
{
    const char *most = NULL;
    int most_slots = 0;
    char reason[1200];

    for (int i = 0; i < s->nodes.count; i++) {
        int slots = 0;
        if (!s->nodes.items[i].healthy)
            continue;
        for (int j = 0; j < s->nodes.count; j++)
            if (s->nodes.items[j].healthy &&
                strcmp(s->agents[i].fingerprint, s->agents[j].fingerprint) == 0)
                slots += s->nodes.items[j].host.slots;
        if (slots > most_slots) {
            most_slots = slots;
            most = s->agents[i].fingerprint;
        }
    }
    for (int i = 0; i < s->nodes.count; i++)
        if (s->nodes.items[i].healthy && strcmp(s->agents[i].fingerprint, most) != 0) {
            snprintf(reason, sizeof reason, "it computes as \"%s\", and most nodes as \"%s\"",
                     s->agents[i].fingerprint, most);
            leave_out(&s->agents[i], reason);
        }
}

void trm_supervisor_check_tick(struct trm_supervisor *s, int64_t now_ns)
{
    int64_t limit_ns = (s->config->health_timeout_ms + 1000) * 1000000;
    bool late = now_ns - s->entered_ns > limit_ns;

    if (s->state != TRM_RUN_CHECKING)
        return;
    for (int i = 0; i < s->nodes.count; i++) {
        struct agent *agent = &s->agents[i];
        if (agent->check_id == 0)
            continue;
        if (!late)
            return;
        agent->check_id = 0;
        leave_out(agent, "its health check did not answer in time");
    }
    compare(s);
    if (trm_nodes_fit_healthy(&s->nodes, &s->want) > 0)
        trm_supervisor_event(s, TRM_EVENT_CHECKED);
    else
        trm_supervisor_event(s, TRM_EVENT_TOO_FEW);
}
