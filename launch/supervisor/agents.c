/* Agents: what they say, and how long their leases run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "launch/supervisor/parts.h"

#define OTHER_DESCRIPTORS 256 /* files, pipes, and strangers */

#define EXCLUDE_NS INT64_C(1000000000) /* between two readings of the exclude file */

int64_t trm_supervisor_lease_end_ns(const struct trm_supervisor *s, const struct agent *agent)
{
    int64_t lease_ms = s->config->lease_ms, margin_ms = lease_ms / 10 + 100;

    return agent->acked_ns + (lease_ms + margin_ms) * 1000000;
}

void trm_supervisor_send(struct agent *agent, const struct trm_message *message)
{
    if (agent->link)
        (void)trm_link_send(agent->link, message, NULL);
}

/* The connection is over, or is to be. */
static void lose(struct agent *agent, const char *reason)
{
    if (agent->link)
        trm_link_close(agent->link, false);
    agent->link = NULL;
    trm_supervisor_node_lost(agent, reason);
}

/* A beat prolongs the lease of its node's ranks. Not while this supervisor can't be sure that the
 * run is still its own, and not for ranks that are to die. */
static void acknowledge(struct agent *agent, int64_t number, int64_t now_ns)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_message message = {.type = TRM_MESSAGE_ACK, .number = number};
    bool doomed = s->state == TRM_RUN_FENCING && s->fence_sent &&
                  agent->asked == s->claim.attempt && agent->dead < s->claim.attempt;

    if (doomed || !trm_supervisor_owns(s, now_ns))
        return;
    agent->acked_ns = now_ns;
    trm_supervisor_send(agent, &message);
}

static void take_gone(struct agent *agent, const struct trm_message_gone *gone)
{
    struct trm_supervisor *s = agent->supervisor;
    struct fault fault = trm_supervisor_fault_init(FAULT_RANK_GONE);

    if (gone->attempt != s->claim.attempt || agent->begun != s->claim.attempt)
        return;
    if (gone->step > s->best_step)
        s->best_step = gone->step;
    fault.rank = gone->rank;
    fault.step = gone->step;
    fault.phase = gone->phase;
    snprintf(fault.node, sizeof fault.node, "%s", node_of(agent)->host.name);
    snprintf(fault.cause, sizeof fault.cause, "died without a word");
    trm_supervisor_fault(s, &fault);
}

/* An agent of another build: one that a supervisor before this one left is replaced by our own, and
 * where that is another one too, the node is of no use. */
static void refuse_build(struct agent *agent, const struct trm_message_hello *hello)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_node *node = node_of(agent);
    struct trm_message quit = {.type = TRM_MESSAGE_QUIT};
    struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);

    snprintf(node->reason, sizeof node->reason, "its agent is trireme %.60s, and this is %.60s",
             hello->version, s->settings->version);
    node->state = agent->other_builds++ == 0 ? TRM_NODE_AWAY : TRM_NODE_QUARANTINED;
    happened.node = node->host.name;
    happened.cause = node->reason;
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "%s is left out: %s", node->host.name,
                   node->reason);
    trm_supervisor_send(agent, &quit);
}

static void take_hello(struct agent *agent, const struct trm_message_hello *hello)
{
    struct trm_supervisor *s = agent->supervisor;
    struct trm_node *node = node_of(agent);

    agent->hello = *hello;
    if (strcmp(hello->version, s->settings->version) != 0) {
        refuse_build(agent, hello);
        return;
    }
    agent->dead = hello->dead > agent->dead ? hello->dead : agent->dead;
    if (node->state == TRM_NODE_AWAY) {
        node->state = TRM_NODE_READY;
        node->reason[0] = '\0';
        if (s->claim.attempt > 0) {
            struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
            happened.node = node->host.name;
            trm_events_add(s->events, &happened, TRM_LOG_INFO, "%s is back", node->host.name);
        }
    }
    acknowledge(agent, hello->number, trm_clock_now_ns());
    agent->check_id = 0; /* an answer may have been lost with the connection before */
    trm_supervisor_check_joined(agent);
    trm_supervisor_send_kill(agent);
    trm_supervisor_send_begin(agent);
    trm_supervisor_send_stop(agent);
    if (s->state == TRM_RUN_LEAVING) {
        struct trm_message quit = {.type = TRM_MESSAGE_QUIT};
        trm_supervisor_send(agent, &quit);
    }
}

static void take_note(struct agent *agent, const struct trm_message_note *note)
{
    trm_log(&agent->supervisor->log, TRM_LOG_INFO, "%s: %s", node_of(agent)->host.name, note->text);
}

static void on_message(struct trm_link *link, struct trm_message *message, void *context)
{
    struct agent *agent = context;
    int64_t now_ns = trm_clock_now_ns();

    (void)link;
    trm_supervisor_note_standstill(agent->supervisor, now_ns);
    agent->heard_ns = now_ns;
    switch (message->type) {
    case TRM_MESSAGE_HELLO:
        take_hello(agent, &message->hello);
        break;
    case TRM_MESSAGE_BEAT:
        if (message->beat.dead > agent->dead)
            agent->dead = message->beat.dead;
        acknowledge(agent, message->beat.number, now_ns);
        trm_supervisor_watch_beat(agent, &message->beat);
        break;
    case TRM_MESSAGE_BEGUN:
        trm_supervisor_begun(agent, &message->begun);
        break;
    case TRM_MESSAGE_GONE:
        take_gone(agent, &message->gone);
        break;
    case TRM_MESSAGE_DEAD:
        if (message->attempt > agent->dead)
            agent->dead = message->attempt;
        if (agent->supervisor->state == TRM_RUN_FENCING)
            trm_supervisor_fence_tick(agent->supervisor, now_ns);
        break;
    case TRM_MESSAGE_HEALTH:
        trm_supervisor_check_answer(agent, &message->health);
        break;
    case TRM_MESSAGE_NOTE:
        take_note(agent, &message->note);
        break;
    case TRM_MESSAGE_ASKED:
        trm_supervisor_asked(agent->supervisor, (int)message->number, node_of(agent)->host.name);
        break;
    case TRM_MESSAGE_BYE:
        lose(agent, "its agent has left");
        break;
    default: /* of the other direction: the decoder has refused it */
        break;
    }
}

static void on_open(struct trm_link *link, void *context)
{
    struct trm_supervisor *s = context;
    struct trm_node *node = trm_nodes_find(&s->nodes, trm_link_node(link));

    if (!node) {
        trm_log(&s->log, TRM_LOG_WARNING, "an agent of \"%s\" came, which is no node of this run",
                trm_link_node(link));
        trm_link_close(link, false);
        return;
    }
    struct agent *agent = &s->agents[node - s->nodes.items];
    if (agent->link) /* it has noticed earlier than we that the old one is dead */
        trm_link_close(agent->link, false);
    agent->link = link;
    agent->start_failures = 0;
    agent->heard_ns = trm_clock_now_ns();
    trm_link_set_context(link, agent);
}

static void on_closed(struct trm_link *link, const char *reason, void *context)
{
    struct agent *agent = context;

    (void)link;
    trm_supervisor_note_standstill(agent->supervisor, trm_clock_now_ns());
    agent->link = NULL;
    trm_supervisor_node_lost(agent, reason);
}

static void on_stranger(const char *what, void *context)
{
    struct trm_supervisor *s = context;
    struct trm_event happened = trm_event_init(TRM_HAPPENED_STRANGER);

    happened.cause = what;
    trm_events_add(s->events, &happened, TRM_LOG_WARNING, "turned away a stranger: %s", what);
}

/* A link for each agent and a pipe for each that is being started: more than the usual soft limit
 * when nodes are many. */
static enum trm_status raise_descriptor_limit(int nodes, struct trm_error *err)
{
    struct rlimit limit;
    rlim_t least = (rlim_t)nodes + OTHER_DESCRIPTORS, best = 3 * (rlim_t)nodes + OTHER_DESCRIPTORS;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= best)
        return TRM_OK;
    if (limit.rlim_max < least)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%d nodes need %llu descriptors, and the limit is %llu; raise it with "
                             "`ulimit -Hn`",
                             nodes, (unsigned long long)least, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = best < limit.rlim_max ? best : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return TRM_OK;
}

enum trm_status trm_supervisor_listen(struct trm_supervisor *s, struct trm_error *err)
{
    struct trm_link_server_events events = {
        .link = {.on_open = on_open, .on_message = on_message, .on_closed = on_closed},
        .on_stranger = on_stranger,
    };

    enum trm_status status = raise_descriptor_limit(s->nodes.count, err);
    if (status != TRM_OK)
        return status;
    return trm_link_listen(&s->loop, s->settings->local ? "127.0.0.1" : "0.0.0.0", 0, &s->token,
                           &events, s, &s->server, err);
}

static void run_exclude(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->exclude_work;

    work->status = trm_hostfile_read_names(s->config->exclude_file, &work->names, &work->name_count,
                                           &work->error);
}

static bool is_listed(const struct file_work *work, const char *name)
{
    for (int i = 0; i < work->name_count; i++)
        if (strcmp(work->names[i].name, name) == 0)
            return true;
    return false;
}

static void on_exclude(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->exclude_work;

    work->busy = false;
    for (int i = 0; i < s->nodes.count && work->status == TRM_OK && status == 0; i++) {
        struct trm_node *node = &s->nodes.items[i];
        bool listed = is_listed(work, node->host.name);
        struct trm_event happened = trm_event_init(TRM_HAPPENED_NODE);
        if (listed == (node->state == TRM_NODE_EXCLUDED))
            continue;
        if (listed) {
            node->state = TRM_NODE_EXCLUDED;
            snprintf(node->reason, sizeof node->reason, "it is named in %.200s",
                     s->config->exclude_file);
        } else {
            node->state = s->agents[i].link ? TRM_NODE_READY : TRM_NODE_AWAY;
            node->reason[0] = '\0';
        }
        happened.node = node->host.name;
        trm_events_add(s->events, &happened, TRM_LOG_INFO,
                       listed ? "%s is excluded by the exclude file"
                              : "%s is not excluded any more",
                       node->host.name);
    }
    s->exclude_read = true;
    free(work->names);
    work->names = NULL;
    work->name_count = 0;
}

void trm_supervisor_agents_tick(struct trm_supervisor *s, int64_t now_ns)
{
    int64_t lease_ns = s->config->lease_ms * 1000000;
    bool reads = s->config->exclude_file[0] != '\0';

    if (s->state == TRM_RUN_LEAVING || s->state == TRM_RUN_ENDED)
        return;
    if (reads && now_ns - s->exclude_ns > EXCLUDE_NS) {
        s->exclude_ns = now_ns;
        (void)trm_supervisor_work(s, &s->exclude_work, run_exclude, on_exclude);
    }
    for (int i = 0; i < s->nodes.count; i++) {
        struct agent *agent = &s->agents[i];
        char reason[128];
        if (agent->link && now_ns - agent->heard_ns > lease_ns) {
            snprintf(reason, sizeof reason, "no word from it for %.1f s",
                     (double)(now_ns - agent->heard_ns) / 1e9);
            lose(agent, reason);
        }
        if (!agent->link && !agent->starting && s->nodes.items[i].state == TRM_NODE_AWAY &&
            (!reads || s->exclude_read) &&
            (agent->tried_ns == 0 || now_ns - agent->tried_ns > trm_supervisor_retry_ns(agent)))
            trm_supervisor_start_agent(agent);
    }
}

void trm_supervisor_agents_quit(struct trm_supervisor *s)
{
    struct trm_message message = {.type = TRM_MESSAGE_QUIT};

    for (int i = 0; i < s->nodes.count; i++)
        trm_supervisor_send(&s->agents[i], &message);
}

bool trm_supervisor_agents_left(const struct trm_supervisor *s)
{
    for (int i = 0; i < s->nodes.count; i++)
        if (s->agents[i].link)
            return true;
    return false;
}
