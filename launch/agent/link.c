/* An agent and its supervisor: the connection, beats, and the lease that their echo gives. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "base/machine.h"
#include "base/random.h"
#include "launch/agent/internal.h"

#define FIRST_RETRY_MS 20
#define LAST_RETRY_MS  500
#define MAX_UNANSWERED 16 /* beats on their way; more would only stand in a queue */
#define MS             INT64_C(1000000)

bool trm_agent_has_lease(const struct trm_agent *agent)
{
    return trm_flight_boot_ns() < agent->lease_until_ns;
}

void trm_agent_send(struct trm_agent *agent, const struct trm_message *message)
{
    struct trm_error err;
    if (agent->is_open && trm_link_send(agent->link, message, &err) != TRM_OK)
        trm_log(agent->log, TRM_LOG_WARNING, "a message (%s) could not be sent: %s",
                trm_message_type_name(message->type), err.text);
}

/* A beat or hello gets its number, and the time from which its lease would run. */
static int64_t number_beat(struct trm_agent *agent)
{
    agent->number++;
    agent->sent_ns[agent->number % TRM_AGENT_BEATS] = trm_flight_boot_ns();
    return agent->number;
}

void trm_agent_beat(struct trm_agent *agent)
{
    struct trm_message beat = {.type = TRM_MESSAGE_BEAT};
    if (!agent->is_open || agent->phase == TRM_AGENT_CLOSES)
        return;
    beat.beat.number = number_beat(agent);
    beat.beat.attempt = agent->attempt;
    beat.beat.dead = agent->dead;
    beat.beat.slots = trm_slot_pool_count(agent->pool);
    beat.beat.slot_bytes = trm_slot_pool_bytes(agent->pool);
    beat.beat.launcher = trm_agent_ranks_launcher(agent->ranks);
    beat.beat.ranks = agent->reports;
    beat.beat.rank_count =
        trm_agent_ranks_report(agent->ranks, agent->reports, TRM_FLIGHT_MAX_RANKS);
    trm_agent_send(agent, &beat);
}

static void say_hello(struct trm_agent *agent)
{
    struct trm_message hello = {.type = TRM_MESSAGE_HELLO};
    hello.hello = (struct trm_message_hello){
        .protocol = TRM_MESSAGE_PROTOCOL,
        .number = number_beat(agent),
        .attempt = agent->attempt,
        .dead = agent->dead,
        .orphans = !trm_agent_ranks_admits(agent->ranks) &&
                   trm_agent_ranks_living(agent->ranks) == 0 &&
                   !trm_agent_place_is_free_of_ranks(&agent->place),
        .pid = getpid(),
        .cores = trm_machine_cores(),
        .memory_bytes = (int64_t)trm_machine_available_bytes(),
        .slots = trm_slot_pool_count(agent->pool),
        .slot_bytes = trm_slot_pool_bytes(agent->pool),
    };
    snprintf(hello.hello.run_id, sizeof hello.hello.run_id, "%s", agent->options.run_id);
    snprintf(hello.hello.hostname, sizeof hello.hello.hostname, "%s", agent->place.hostname);
    snprintf(hello.hello.boot_id, sizeof hello.hello.boot_id, "%s", agent->boot_id);
    snprintf(hello.hello.version, sizeof hello.hello.version, "%s", agent->version);
    agent->base = hello.hello.number;
    agent->opened_ns = agent->sent_ns[agent->base % TRM_AGENT_BEATS];
    trm_agent_send(agent, &hello);
}

static void on_open(struct trm_link *link, void *context)
{
    struct trm_agent *agent = context;
    trm_log(agent->log, TRM_LOG_INFO, "connected to the supervisor at %s", trm_link_peer(link));
    if (link == agent->next) { /* the supervisor has dropped the old one by now */
        trm_link_close(agent->link, false);
        agent->link = link;
        agent->next = NULL;
    }
    agent->is_open = true;
    agent->failures = 0;
    say_hello(agent);
    trm_agent_beat(agent);
}

static void try_next_address(struct trm_agent *agent)
{
    agent->failures++;
    agent->next_address = (agent->next_address + 1) % agent->options.address_count;
}

/* The wait doubles, and differs between nodes, which have all lost the same supervisor. */
static void retry_later(struct trm_agent *agent)
{
    int64_t wait_ms = FIRST_RETRY_MS;
    for (int i = 0; i < agent->failures && wait_ms < LAST_RETRY_MS; i++)
        wait_ms = wait_ms * 2 < LAST_RETRY_MS ? wait_ms * 2 : LAST_RETRY_MS;
    uint64_t spread = trm_random_bits((uint64_t)getpid(), (uint64_t)trm_flight_boot_ns());
    wait_ms += (int64_t)(spread % (uint64_t)wait_ms);
    try_next_address(agent);
    uv_timer_start(&agent->retry_timer, trm_agent_on_retry_timer, (uint64_t)wait_ms, 0);
}

static void on_closed(struct trm_link *link, const char *reason, void *context)
{
    struct trm_agent *agent = context;
    if (agent->is_open || agent->failures == 0)
        trm_log(agent->log, TRM_LOG_WARNING, "no connection to the supervisor at %s: %s",
                trm_link_peer(link), reason);
    if (link == agent->next) { /* tried again for as long as the open one is silent */
        agent->next = NULL;
        try_next_address(agent);
        return;
    }
    agent->link = agent->next;
    agent->next = NULL;
    agent->is_open = false;
    if (!agent->link && agent->phase != TRM_AGENT_CLOSES)
        retry_later(agent);
}

/* The lease runs from when the beat was sent, not from when its echo came. */
static void on_acknowledged(struct trm_agent *agent, int64_t number)
{
    if (number < agent->base || number > agent->number ||
        number <= agent->number - TRM_AGENT_BEATS || number <= agent->acknowledged)
        return;
    int64_t sent_ns = agent->sent_ns[number % TRM_AGENT_BEATS];
    int64_t until_ns = sent_ns + agent->options.lease_ms * MS, now_ns = trm_flight_boot_ns();
    agent->acknowledged = number;
    agent->word_ns = now_ns;
    trm_agent_orphan_cancel(agent);
    if (until_ns <= agent->lease_until_ns || until_ns <= now_ns)
        return;
    /* A lease that lapsed does not come back for the ranks that it was for. */
    if (!trm_agent_has_lease(agent) && agent->attempt > agent->dead)
        trm_agent_on_lease_timer(&agent->lease_timer);
    agent->lease_until_ns = until_ns;
    if (trm_agent_ranks_admits(agent->ranks))
        trm_agent_ranks_set_lease(agent->ranks, until_ns);
    uv_timer_start(&agent->lease_timer, trm_agent_on_lease_timer,
                   (uint64_t)((until_ns - now_ns + MS - 1) / MS), 0);
}

void trm_agent_on_lease_timer(uv_timer_t *timer)
{
    struct trm_agent *agent = timer->data;
    if (trm_agent_has_lease(agent)) /* the timer counts another clock than the lease */
        uv_timer_start(timer, trm_agent_on_lease_timer, 1, 0);
    else if (agent->attempt > agent->dead && !agent->fencing) {
        trm_agent_note(agent,
                       "no word from the supervisor for %" PRId64 " ms: this node's lease "
                       "has run out, its ranks are killed",
                       (trm_flight_boot_ns() - agent->word_ns) / MS);
        trm_agent_fence(agent, agent->attempt);
    }
}

static void on_health(const struct trm_message_health *health, void *context)
{
    struct trm_agent *agent = context;
    struct trm_message message = {.type = TRM_MESSAGE_HEALTH};
    message.health = *health;
    agent->check = NULL;
    if (!health->ok)
        trm_log(agent->log, TRM_LOG_WARNING, "the health check failed: %s", health->reason);
    trm_agent_send(agent, &message);
}

/* Memory slots are there already: ranks take them over, or the agent gives them back. What ranks
 * still hold that are about to be killed is not counted as lost: it sufficed for those. */
static enum trm_status check_memory(const struct trm_agent *agent, int64_t needed_bytes,
                                    struct trm_error *err)
{
    char needs[32], has[32];
    int64_t available = (int64_t)trm_machine_available_bytes();
    if (available == 0 || trm_agent_ranks_living(agent->ranks) > 0 ||
        needed_bytes <= available + trm_slot_pool_bytes(agent->pool))
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_MEMORY,
                         "its ranks need %s of memory at least, and %s are available",
                         trm_human_bytes(needs, sizeof needs, (uint64_t)needed_bytes),
                         trm_human_bytes(has, sizeof has, (uint64_t)available));
}

static void check_health(struct trm_agent *agent, const struct trm_message_check *request)
{
    struct trm_error err;
    trm_agent_check_cancel(agent->check);
    agent->check = NULL;
    enum trm_status status = check_memory(agent, request->memory_bytes, &err);
    if (status == TRM_OK)
        status = trm_agent_check_start(agent->loop, request, on_health, agent, &agent->check, &err);
    if (status == TRM_OK)
        return;
    struct trm_message_health failed = {.id = request->id};
    snprintf(failed.reason, sizeof failed.reason, "%.*s", TRM_MESSAGE_TEXT_BYTES - 1, err.text);
    on_health(&failed, agent);
}

static void on_kill(struct trm_agent *agent, const struct trm_message_kill *kill)
{
    struct trm_message dead = {.type = TRM_MESSAGE_DEAD};
    dead.attempt = agent->dead;
    trm_log(agent->log, TRM_LOG_INFO, "asked to end attempt %" PRId64 ": %s", kill->attempt,
            kill->reason);
    if (kill->attempt >= agent->attempt && (kill->attempt > agent->dead || agent->fencing))
        trm_agent_fence(agent, kill->attempt);
    else
        trm_agent_send(agent, &dead);
}

static void on_stop(struct trm_agent *agent, int64_t attempt)
{
    if (attempt != agent->attempt)
        return;
    trm_agent_ranks_ask_stop(agent->ranks);
    trm_log(agent->log, TRM_LOG_INFO, "asked to stop attempt %" PRId64 ": its ranks know", attempt);
}

static void on_message(struct trm_link *link, struct trm_message *message, void *context)
{
    struct trm_agent *agent = context;
    (void)link;
    switch (message->type) {
    case TRM_MESSAGE_ACK:
        on_acknowledged(agent, message->number);
        break;
    case TRM_MESSAGE_BEGIN:
        trm_agent_begin(agent, &message->begin);
        break;
    case TRM_MESSAGE_KILL:
        on_kill(agent, &message->kill);
        break;
    case TRM_MESSAGE_STOP:
        on_stop(agent, message->attempt);
        break;
    case TRM_MESSAGE_CHECK:
        check_health(agent, &message->check);
        break;
    case TRM_MESSAGE_QUIT:
        trm_agent_leave(agent, "the supervisor said so");
        break;
    default:
        break;
    }
}

static enum trm_status connect_to(struct trm_agent *agent, struct trm_link **link,
                                  struct trm_error *err)
{
    static const struct trm_link_events events = {on_open, on_message, on_closed};
    const struct trm_agent_address *address = &agent->options.addresses[agent->next_address];
    int64_t timeout_ms = agent->options.lease_ms / 2;
    const struct trm_link_target target = {
        .host = address->host,
        .port = address->port,
        .node = agent->options.node,
        .token = &agent->options.token,
        .timeout_ms = timeout_ms < 500                     ? 500
                      : timeout_ms > TRM_LINK_HANDSHAKE_MS ? TRM_LINK_HANDSHAKE_MS
                                                           : timeout_ms,
    };
    enum trm_status status = trm_link_connect(agent->loop, &target, &events, agent, link, err);
    if (status != TRM_OK) {
        *link = NULL;
        trm_log(agent->log, TRM_LOG_WARNING, "%s", err->text);
    }
    return status;
}

void trm_agent_connect(struct trm_agent *agent)
{
    struct trm_error err;
    uv_timer_stop(&agent->retry_timer);
    if (connect_to(agent, &agent->link, &err) != TRM_OK)
        retry_later(agent);
}

void trm_agent_disconnect(struct trm_agent *agent, bool flush)
{
    uv_timer_stop(&agent->retry_timer);
    trm_link_close(agent->next, false);
    trm_link_close(agent->link, flush);
    agent->link = agent->next = NULL;
    agent->is_open = false;
}

void trm_agent_on_retry_timer(uv_timer_t *timer)
{
    struct trm_agent *agent = timer->data;
    if (!agent->link)
        trm_agent_connect(agent);
}

/* A connection that carries no word for half a lease is given up for another: over that one, word
 * may come sooner than the old one's retransmission. Not before it is open: to close the old one
 * tells the supervisor that this node is lost. */
static void give_up_silent(struct trm_agent *agent, int64_t now_ns)
{
    struct trm_error err;
    int64_t since_ns = agent->word_ns > agent->opened_ns ? agent->word_ns : agent->opened_ns;
    if (!agent->is_open || agent->next || now_ns - since_ns < agent->options.lease_ms * MS / 2)
        return;
    trm_log(agent->log, TRM_LOG_WARNING, "the supervisor is silent: connecting anew");
    (void)connect_to(agent, &agent->next, &err);
}

void trm_agent_on_beat_timer(uv_timer_t *timer)
{
    struct trm_agent *agent = timer->data;
    int64_t now_ns = trm_flight_boot_ns();
    trm_agent_ranks_tick(agent->ranks);
    if (agent->lease_until_ns > 0 && !trm_agent_has_lease(agent))
        trm_agent_on_lease_timer(&agent->lease_timer);
    trm_agent_orphan_tick(agent, now_ns);
    if (agent->phase == TRM_AGENT_SERVES &&
        now_ns - agent->word_ns > agent->options.linger_ms * MS) {
        trm_agent_leave(agent, "no supervisor has answered for too long");
        return;
    }
    give_up_silent(agent, now_ns);
    int64_t newest = agent->acknowledged > agent->base ? agent->acknowledged : agent->base;
    if (agent->number - newest < MAX_UNANSWERED)
        trm_agent_beat(agent);
}
