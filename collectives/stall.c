#include "collectives/stall.h"

#include "base/hash.h"

void trm_stall_init(struct trm_stall *stall, int64_t now_ns)
{
    *stall = (struct trm_stall){.since_ns = now_ns, .seen_ns = now_ns, .step = -1};
}

static uint64_t sign(const struct trm_flight_view *ranks, int count)
{
    uint64_t signature = (uint64_t)count;

    for (int i = 0; i < count; i++) {
        const struct trm_flight_view *rank = &ranks[i];
        const int64_t words[] = {rank->rank,    rank->state,       rank->phase,    rank->step,
                                 rank->samples, rank->memory_step, rank->disk_step};
        for (unsigned w = 0; w < sizeof words / sizeof *words; w++)
            signature = trm_hash_roll(signature, (uint64_t)words[w]);
        /* Waiting for a save, ranks ask each other again and again whether it is done. */
        for (int g = 0; g < TRM_FLIGHT_GROUPS && rank->phase != TRM_PHASE_SAVE; g++) {
            signature = trm_hash_roll(signature, (uint64_t)rank->lanes[g].entered);
            signature = trm_hash_roll(signature, (uint64_t)rank->lanes[g].completed);
            signature = trm_hash_roll(signature, (uint64_t)rank->lanes[g].waiting);
        }
    }
    return signature;
}

/* The slowest rank's, since a step ends for all when it ends for that one. */
static void note_steps(struct trm_stall *stall, const struct trm_flight_view *ranks, int count)
{
    int64_t newest = stall->step;
    double longest = 0;

    for (int i = 0; i < count; i++) {
        if (ranks[i].step > newest)
            newest = ranks[i].step;
        if (ranks[i].step_ms > longest)
            longest = ranks[i].step_ms;
    }
    if (newest > stall->step)
        stall->step_ms *= 0.9;
    if (longest > stall->step_ms)
        stall->step_ms = longest;
    stall->step = newest;
}

void trm_stall_observe(struct trm_stall *stall, const struct trm_flight_view *ranks, int count,
                       int64_t now_ns, int64_t gap_ns)
{
    uint64_t signature = sign(ranks, count);

    if (signature != stall->signature || now_ns - stall->seen_ns > gap_ns)
        stall->since_ns = now_ns;
    stall->signature = signature;
    stall->seen_ns = now_ns;
    note_steps(stall, ranks, count);
}

int64_t trm_stall_ms(const struct trm_stall *stall)
{
    return (stall->seen_ns - stall->since_ns) / 1000000;
}

int64_t trm_stall_limit_ms(const struct trm_stall *stall, const struct trm_stall_limits *limits,
                           enum trm_verdict_kind kind)
{
    double limit = limits->factor * stall->step_ms;

    if (kind == TRM_VERDICT_STORAGE)
        return limits->io_ms > 0 ? limits->io_ms : INT64_MAX;
    if (limits->ceiling_ms <= 0)
        return INT64_MAX;
    if (stall->step_ms <= 0 || limit > (double)limits->ceiling_ms)
        return limits->ceiling_ms;
    return limit < (double)limits->floor_ms ? limits->floor_ms : (int64_t)limit;
}
