/* What an agent does when its supervisor is gone for good, perhaps with the node it was on:
 * somebody else, a batch system for one, has to hear of it. */
#include "launch/agent/internal.h"

#define TIMEOUT_MS 60000
#define PAUSE_NS   INT64_C(5000000000) /* before it is tried again */
#define MS         INT64_C(1000000)

static void on_end(const struct trm_message_health *health, void *context)
{
    struct trm_agent *agent = context;
    agent->orphan = NULL;
    agent->orphan_next_ns = trm_flight_boot_ns() + PAUSE_NS;
    if (health->ok)
        trm_agent_leave(agent, "the orphan command has done its work");
    else
        trm_log(agent->log, TRM_LOG_WARNING, "the orphan command failed: %s", health->reason);
}

void trm_agent_orphan_tick(struct trm_agent *agent, int64_t now_ns)
{
    const struct trm_agent_options *options = &agent->options;
    int64_t patience_ms = 2 * options->lease_ms + options->orphan_delay_ms;
    struct trm_message_check request = {.timeout_ms = TIMEOUT_MS};
    struct trm_error err;
    /* Without a lease there never was a supervisor that could be lost. */
    if (!options->orphan_command[0] || agent->phase != TRM_AGENT_SERVES || agent->orphan ||
        agent->lease_until_ns == 0 || now_ns - agent->word_ns < patience_ms * MS ||
        now_ns < agent->orphan_next_ns)
        return;
    trm_log(agent->log, TRM_LOG_WARNING, "no supervisor for %lld ms: running the orphan command",
            (long long)((now_ns - agent->word_ns) / MS));
    request.command = agent->options.orphan_command;
    agent->orphan_next_ns = now_ns + PAUSE_NS;
    if (trm_agent_check_start(agent->loop, &request, on_end, agent, &agent->orphan, &err) == TRM_OK)
        return;
    agent->orphan = NULL;
    trm_log(agent->log, TRM_LOG_WARNING, "%s", err.text);
}

void trm_agent_orphan_cancel(struct trm_agent *agent)
{
    trm_agent_check_cancel(agent->orphan);
    agent->orphan = NULL;
}
