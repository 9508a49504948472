/*
 * Attempts on a node: how one begins, and the proof that earlier ones are dead.
 *
 * A fence refuses new ranks, kills those that there are, and then holds the proof in hand when
 * every admitted process has ended and the ranks' lock can be taken exclusively. It is tried again
 * when something ends, and on a timer; killing is repeated, for ranks of a dead agent are known by
 * the lock alone. After it, what Open MPI left is swept on a thread beside the loop, and only then
 * may the next attempt begin.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "launch/agent/internal.h"
#include "launch/process.h"
#include "launch/sweep.h"

#define TRY_MS        10
#define KILL_AGAIN_MS 1000
#define SLOW_FENCE_MS 2000
#define GIVE_UP_MS    5000 /* when leaving */

static void answer_begin(struct trm_agent *agent, int64_t attempt, const char *refusal)
{
    struct trm_message begun = {.type = TRM_MESSAGE_BEGUN};
    begun.begun.attempt = attempt;
    begun.begun.ok = refusal == NULL;
    snprintf(begun.begun.reason, sizeof begun.begun.reason, "%s", refusal ? refusal : "");
    trm_agent_send(agent, &begun);
    if (refusal)
        trm_log(agent->log, TRM_LOG_WARNING, "attempt %" PRId64 " does not begin here: %s", attempt,
                refusal);
}

void trm_agent_refuse_pending(struct trm_agent *agent, const char *why)
{
    if (agent->is_pending)
        answer_begin(agent, agent->pending.attempt, why);
    agent->is_pending = false;
}

static void kill_all(struct trm_agent *agent)
{
    int living = trm_agent_ranks_living(agent->ranks);
    agent->fence_kill_ns = trm_clock_now_ns();
    trm_agent_ranks_kill(agent->ranks);
    int orphans = trm_process_kill_lock_holders(agent->place.ranks_lock);
    int daemons = trm_process_kill_by_argument("orted", agent->runtime);
    if (orphans > 0 && living == 0)
        trm_agent_note(agent, "killed %d processes that were left from an earlier time", orphans);
    if (daemons > 0)
        trm_log(agent->log, TRM_LOG_INFO, "killed %d daemons of mpirun", daemons);
}

static void begin_pending(struct trm_agent *agent)
{
    const struct trm_message_begin begin = agent->pending;
    struct trm_error err;
    agent->is_pending = false;
    if (!trm_agent_has_lease(agent))
        answer_begin(agent, begin.attempt, "this node's lease has run out");
    else if (trm_agent_ranks_begin(agent->ranks, &begin, agent->lease_until_ns, &err) != TRM_OK)
        answer_begin(agent, begin.attempt, err.text);
    else {
        agent->attempt = begin.attempt;
        trm_log(agent->log, TRM_LOG_INFO, "attempt %" PRId64 " may begin", begin.attempt);
        answer_begin(agent, begin.attempt, NULL);
    }
}

static void sweep(uv_work_t *work)
{
    struct trm_agent *agent = work->data;
    agent->sweep_error.text[0] = '\0';
    trm_agent_sweep(agent->runtime, agent->place.hostname, agent->more_to_come,
                    &agent->sweep_error);
}

static void on_swept(uv_work_t *work, int code);

static void start_sweep(struct trm_agent *agent)
{
    agent->sweep_again = agent->sweeping;
    if (agent->sweeping)
        return;
    agent->sweeping = true;
    agent->more_to_come = agent->phase == TRM_AGENT_SERVES;
    agent->sweep.data = agent;
    if (uv_queue_work(agent->loop, &agent->sweep, sweep, on_swept) != 0)
        on_swept(&agent->sweep, UV_ECANCELED);
}

static void on_swept(uv_work_t *work, int code)
{
    struct trm_agent *agent = work->data;
    agent->sweeping = false;
    if (code == 0 && agent->sweep_error.text[0])
        trm_agent_note(agent, "cleaning up: %s", agent->sweep_error.text);
    if (agent->sweep_again)
        start_sweep(agent);
    else if (agent->phase == TRM_AGENT_CLOSES)
        trm_agent_finish(agent);
    else if (agent->fencing)
        trm_agent_try_proof(agent);
    else if (agent->phase == TRM_AGENT_LEAVES)
        trm_agent_finish(agent);
    else if (agent->is_pending)
        begin_pending(agent);
}

/* No rank lives, and none up to `fence_up_to` will be admitted. */
static void proved(struct trm_agent *agent)
{
    struct trm_message dead = {.type = TRM_MESSAGE_DEAD};
    agent->fencing = false;
    uv_timer_stop(&agent->fence_timer);
    if (agent->fence_up_to > agent->dead)
        agent->dead = agent->fence_up_to;
    dead.attempt = agent->dead;
    trm_agent_send(agent, &dead);
    start_sweep(agent);
}

void trm_agent_try_proof(struct trm_agent *agent)
{
    if (!agent->fencing || trm_agent_ranks_living(agent->ranks) > 0 ||
        !trm_agent_place_is_free_of_ranks(&agent->place))
        return;
    proved(agent);
}

/* Names what does not die, once. */
static void tell_slow(struct trm_agent *agent)
{
    agent->told_slow = true;
    int count = trm_agent_ranks_report(agent->ranks, agent->reports, TRM_FLIGHT_MAX_RANKS);
    bool named = false;
    for (int i = 0; i < count; i++)
        if (agent->reports[i].process != TRM_REPORT_NO_PROCESS) {
            const struct trm_rank_report *report = &agent->reports[i];
            trm_agent_note(agent,
                           "rank %d (process %" PRId64 ", state %c) does not end though it "
                           "was killed",
                           report->rank, report->pid, report->process);
            named = true;
        }
    if (!named)
        trm_agent_note(agent, "a process that is not known still holds the ranks' lock");
}

void trm_agent_on_fence_timer(uv_timer_t *timer)
{
    struct trm_agent *agent = timer->data;
    int64_t now_ns = trm_clock_now_ns(), before_ns = agent->fence_kill_ns;
    trm_agent_try_proof(agent);
    if (!agent->fencing)
        return;
    if (now_ns - before_ns >= KILL_AGAIN_MS * INT64_C(1000000))
        kill_all(agent);
    int64_t age_ms = (now_ns - agent->fence_begin_ns) / 1000000;
    if (age_ms >= SLOW_FENCE_MS && !agent->told_slow)
        tell_slow(agent);
    if (agent->phase == TRM_AGENT_LEAVES && age_ms >= GIVE_UP_MS)
        trm_agent_finish(agent);
}

void trm_agent_fence(struct trm_agent *agent, int64_t up_to)
{
    if (!agent->fencing || up_to > agent->fence_up_to)
        agent->fence_up_to = up_to;
    trm_agent_ranks_refuse(agent->ranks);
    if (!agent->fencing || agent->phase == TRM_AGENT_LEAVES)
        agent->fence_begin_ns = trm_clock_now_ns();
    if (!agent->fencing)
        agent->told_slow = false;
    if (agent->is_pending && (up_to >= agent->pending.attempt || agent->phase != TRM_AGENT_SERVES))
        trm_agent_refuse_pending(agent, "the attempt was ended before it began");
    agent->fencing = true;
    kill_all(agent);
    trm_agent_try_proof(agent);
    if (agent->fencing)
        uv_timer_start(&agent->fence_timer, trm_agent_on_fence_timer, TRY_MS, TRY_MS);
}

void trm_agent_begin(struct trm_agent *agent, const struct trm_message_begin *begin)
{
    char why[128];
    if (agent->phase != TRM_AGENT_SERVES) {
        answer_begin(agent, begin->attempt, "the agent is leaving");
    } else if (begin->attempt == agent->attempt && trm_agent_ranks_admits(agent->ranks)) {
        answer_begin(agent, begin->attempt, NULL);
    } else if (begin->attempt <= agent->dead || begin->attempt <= agent->attempt) {
        snprintf(why, sizeof why,
                 "it is over: attempt %" PRId64 " was begun, and %" PRId64 " ended", agent->attempt,
                 agent->dead);
        answer_begin(agent, begin->attempt, why);
    } else if (agent->is_pending && begin->attempt == agent->pending.attempt) {
        agent->pending = *begin; /* said again, over a newer connection */
    } else {
        trm_agent_refuse_pending(agent, "another attempt was begun");
        agent->pending = *begin;
        agent->is_pending = true;
        trm_agent_fence(agent, begin->attempt - 1);
    }
}
