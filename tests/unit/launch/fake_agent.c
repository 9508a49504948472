#include "fake_agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void say_hello(struct fake_agent *agent)
{
    struct trm_message hello = {.type = TRM_MESSAGE_HELLO};
    hello.hello.protocol = TRM_MESSAGE_PROTOCOL;
    hello.hello.number = ++agent->number;
    hello.hello.attempt = agent->attempt;
    hello.hello.dead = agent->dead;
    hello.hello.pid = hello.hello.cores = 1;
    snprintf(hello.hello.run_id, sizeof hello.hello.run_id, "run");
    snprintf(hello.hello.hostname, sizeof hello.hello.hostname, "%s", agent->node);
    snprintf(hello.hello.boot_id, sizeof hello.hello.boot_id, "boot");
    snprintf(hello.hello.version, sizeof hello.hello.version, "%s", agent->version);
    assert_int_equal(trm_link_send(agent->link, &hello, NULL), TRM_OK);
}

static void on_open(struct trm_link *link, void *context)
{
    struct fake_agent *agent = context;
    (void)link;
    agent->open = true;
    if (!agent->silent)
        say_hello(agent);
}

static void on_closed(struct trm_link *link, const char *reason, void *context)
{
    struct fake_agent *agent = context;
    (void)link;
    snprintf(agent->closed_reason, sizeof agent->closed_reason, "%s", reason);
    agent->lost = agent->persists && !agent->answered && !agent->silent;
    agent->open = false;
    agent->link = NULL;
}

void fake_agent_begun(struct fake_agent *agent)
{
    struct trm_message reply = {.type = TRM_MESSAGE_BEGUN};
    reply.begun.attempt = agent->attempt;
    reply.begun.ok = true;
    trm_link_send(agent->link, &reply, NULL);
}

static void answer(struct fake_agent *agent, const struct trm_message *message)
{
    struct trm_message reply = {.type = TRM_MESSAGE_BYE};
    switch (message->type) {
    case TRM_MESSAGE_BEGIN:
        fake_agent_begun(agent);
        return;
    case TRM_MESSAGE_KILL:
        agent->dead = message->kill.attempt;
        reply.type = TRM_MESSAGE_DEAD;
        reply.attempt = agent->dead;
        break;
    case TRM_MESSAGE_CHECK:
        reply.type = TRM_MESSAGE_HEALTH;
        reply.health.id = message->check.id;
        reply.health.ok = agent->ill == 0;
        if (agent->ill > 0) {
            agent->ill--;
            snprintf(reply.health.reason, sizeof reply.health.reason, "it feels ill");
        }
        break;
    case TRM_MESSAGE_QUIT:
        break;
    default:
        return;
    }
    trm_link_send(agent->link, &reply, NULL);
}

static void on_message(struct trm_link *link, struct trm_message *message, void *context)
{
    struct fake_agent *agent = context;
    (void)link;
    agent->received[message->type]++;
    agent->answered = true;
    if (message->type == TRM_MESSAGE_BEGIN)
        agent->attempt = message->begin.attempt;
    if (agent->silent || agent->deaf[message->type])
        return;
    if (message->type == TRM_MESSAGE_ACK)
        agent->acknowledged = message->number;
    answer(agent, message);
    if (message->type == TRM_MESSAGE_QUIT) {
        trm_link_close(agent->link, true);
        agent->link = NULL;
        agent->open = false;
    }
}

void fake_agent_beat(struct fake_agent *agent)
{
    struct trm_message beat = {.type = TRM_MESSAGE_BEAT};
    beat.beat.number = ++agent->number;
    beat.beat.attempt = agent->attempt;
    beat.beat.dead = agent->dead;
    beat.beat.launcher = agent->launcher;
    beat.beat.ranks = agent->ranks;
    beat.beat.rank_count = agent->rank_count;
    trm_link_send(agent->link, &beat, NULL);
}

static void on_beat(uv_timer_t *timer)
{
    struct fake_agent *agent = timer->data;
    if (agent->lost)
        fake_agent_connect(agent);
    if (agent->open && !agent->silent)
        fake_agent_beat(agent);
}

void fake_agent_connect(struct fake_agent *agent)
{
    static const struct trm_link_events events = {on_open, on_message, on_closed};
    const struct trm_link_target target = {.host = "127.0.0.1",
                                           .port = agent->port,
                                           .node = agent->node,
                                           .token = agent->token,
                                           .timeout_ms = 20000};
    agent->answered = agent->lost = false;
    assert_int_equal(trm_link_connect(agent->loop, &target, &events, agent, &agent->link, NULL),
                     TRM_OK);
}

void fake_agent_cut(struct fake_agent *agent)
{
    trm_link_close(agent->link, false);
    agent->link = NULL;
    agent->open = false;
}

void fake_agent_start(struct fake_agent *agent, uv_loop_t *loop, int port,
                      const struct trm_wire_token *token, const char *node, int beat_ms)
{
    *agent = (struct fake_agent){.number = -1,
                                 .acknowledged = -1,
                                 .version = "0.1.0",
                                 .loop = loop,
                                 .port = port,
                                 .token = token};
    snprintf(agent->node, sizeof agent->node, "%s", node);
    uv_timer_init(loop, &agent->beat_timer);
    agent->beat_timer.data = agent;
    if (beat_ms > 0)
        uv_timer_start(&agent->beat_timer, on_beat, (uint64_t)beat_ms, (uint64_t)beat_ms);
    fake_agent_connect(agent);
}

void fake_agent_stop(struct fake_agent *agent)
{
    fake_agent_cut(agent);
    uv_close((uv_handle_t *)&agent->beat_timer, NULL);
}
