#include "trainer/memory_tier.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "base/human.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/memory_parts.h"
#include "trainer/mirror.h"
#include "trainer/pieces.h"

/* Collective: all ranks of a node have made their requests, and the rest is given back. */
static enum trm_status settle(struct trm_run *run, const struct trm_slot_keeper *keeper,
                              struct trm_error *err)
{
    enum trm_status status = trm_comm_barrier(run->world, NULL, err);

    if (status == TRM_OK)
        status = keeper->settle(keeper->context, err);
    return trm_agree(run->world, status, err);
}

/* Collective: whether all ranks have an agent, and are in more than one failure domain. */
static enum trm_status look_around(struct trm_run *run, const char *domain, bool *attached,
                                   bool *alone, struct trm_error *err)
{
    bool mine = run->attach && run->attach->socket >= 0;
    int64_t hash = (int64_t)(trm_hash64(domain, strlen(domain)) >> 1);
    int64_t words[3] = {!mine, hash, -hash};
    enum trm_status status = trm_comm_all_reduce(run->world, words, 3, TRM_MAX_I64, NULL, err);

    *attached = words[0] == 0;
    *alone = words[1] == -words[2];
    return status;
}

enum trm_status trm_memory_tier_open(struct trm_run *run, struct trm_error *err)
{
    char host[72] = ""; /* Linux has names of up to 64 */
    const char *domain = getenv("TRIREME_DOMAIN");
    bool attached = false, alone = false;
    struct trm_memory_tier *tier;
    enum trm_status status;

    gethostname(host, sizeof host - 1);
    if ((!domain || !*domain) && run->attach)
        domain = run->attach->domain; /* as the host file says */
    domain = domain && *domain ? domain : host;
    status = look_around(run, domain, &attached, &alone, err);
    if (status != TRM_OK || !attached)
        return status;
    if (run->config->memory_interval == 0) {
        const struct trm_slot_keeper keeper = trm_slot_keeper_of_agent(run->attach);
        return trm_memory_do_without(run, settle(run, &keeper, err),
                                     "memory slots were not given back", err);
    }
    tier = calloc(1, sizeof *tier);
    status = tier ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "no memory for the memory tier");
    status = trm_agree(run->world, status, err);
    if (status != TRM_OK) {
        free(tier);
        return status;
    }
    tier->keeper = trm_slot_keeper_of_agent(run->attach);
    memcpy(tier->host, host, sizeof host);
    tier->domain = domain == host ? tier->host : domain;
    tier->alone = alone;
    run->memory_tier = tier;
    return trm_memory_recall(run, err);
}

void trm_memory_tier_place(struct trm_run *run)
{
    struct trm_memory_tier *tier = run->memory_tier;
    int64_t bytes;

    if (!tier)
        return;
    bytes = trm_partner_plan_bytes(run->layout->owned_elements * TRM_KIND_COUNT, TRM_F32);
    trm_arena_note(&run->arena, TRM_ARENA_SLOTS, (size_t)(tier->alone ? bytes / 2 : bytes));
}

uint64_t trm_memory_tier_held_bytes(const struct trm_run *run)
{
    const struct trm_memory_tier *tier = run->memory_tier;

    if (!tier || !tier->recall)
        return 0;
    return (uint64_t)(trm_recall_held_bytes(tier->recall) / run->local_size);
}

static void on_event(void *context, const struct trm_partner_event *event)
{
    struct trm_run *run = context;

    switch (event->kind) {
    case TRM_PARTNER_COMPLETE:
        trm_flight_memory_step(run->flight, event->step);
        break;
    case TRM_PARTNER_PACED:
        trm_log(&run->log, TRM_LOG_INFO,
                "copies in memory every %" PRId64 " step%s: at most %.2g %% of the time",
                event->interval, event->interval > 1 ? "s" : "", 100 * event->cost_share);
        break;
    case TRM_PARTNER_FULL:
        trm_log(&run->log, TRM_LOG_WARNING,
                "step %" PRId64 " is not copied in memory: so many samples are skipped that their "
                "list has no room there; a restart makes room",
                event->step);
        break;
    }
}

/* Where tensors lie on a device, the copy is made of their mirror. */
static enum trm_status prepare(void *context, struct trm_error *err)
{
    struct trm_run *run = context;

    trm_mirror_fetch(run);
    return trm_mirror_wait(run, err);
}

static enum trm_status create_partner(struct trm_run *run, struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    struct trm_pieces_memory memory = trm_mirror_state(run);
    struct trm_partner_settings settings = {
        .world = run->world,
        .keeper = tier->keeper,
        .node = tier->host,
        .domain = tier->domain,
        .attempt = run->attach->attempt,
        .interval = run->config->memory_interval,
        .state = &run->state,
        .tensor_count = run->layout->tensor_count,
        .prepare = prepare,
        .event = on_event,
        .context = run,
    };
    struct trm_ckpt_tensor *tensors = trm_pieces_tensors(run->layout);
    struct trm_ckpt_piece *pieces = NULL;
    int run_count;
    const struct trm_layout_run *runs = trm_optimizer_runs(run->optimizer, &run_count);
    enum trm_status status = TRM_OK;

    if (!tensors)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory to list tensors");
    if (status == TRM_OK)
        status = trm_pieces_of_runs(run->layout, runs, run_count, &memory, NULL, true, &pieces,
                                    &settings.piece_count, err);
    status = trm_agree(run->world, status, err);
    settings.tensors = tensors;
    settings.pieces = pieces;
    if (status == TRM_OK)
        status = trm_partner_create(&settings, &tier->partner, err);
    free(pieces);
    free(tensors);
    return status;
}

/* With the step that was restored still in its slots, so that a failure here loses nothing. */
static enum trm_status first_copies(struct trm_run *run, struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    enum trm_status status;

    if (tier->recall)
        trm_recall_keep_only(tier->recall, tier->has_restored ? &tier->restored : NULL);
    status = trm_comm_barrier(run->world, NULL, err);
    if (status == TRM_OK)
        status = create_partner(run, err);
    if (status == TRM_OK)
        status = trm_partner_start(tier->partner, &run->state, err);
    if (status == TRM_OK && tier->recall)
        trm_recall_keep_only(tier->recall, NULL);
    if (status == TRM_OK)
        status = trm_comm_barrier(run->world, NULL, err);
    if (status == TRM_OK)
        status = trm_partner_double(tier->partner, err);
    return status == TRM_OK ? settle(run, &tier->keeper, err) : status;
}

enum trm_status trm_memory_tier_begin(struct trm_run *run, struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    int64_t begin_ns = trm_clock_now_ns();
    char duration[32], partners[512] = "";
    enum trm_status status;

    if (!tier)
        return TRM_OK;
    status = first_copies(run, err);
    if (!trm_run_is_broken(status)) {
        trm_recall_close(tier->recall);
        tier->recall = NULL;
    }
    if (status != TRM_OK && !trm_run_is_broken(status)) {
        trm_partner_destroy(tier->partner);
        tier->partner = NULL;
    }
    if (status == TRM_OK && !tier->alone)
        trm_partner_describe(tier->partner, partners, sizeof partners);
    if (status == TRM_OK)
        trm_log(&run->log, TRM_LOG_INFO, "step %" PRId64 " is in memory%s%s%s, after %s",
                run->state.step,
                tier->alone ? " (of one failure domain: a second copy has no place)"
                            : " twice, in different failure domains (",
                partners, tier->alone ? "" : ")",
                trm_human_duration(duration, sizeof duration,
                                   (double)(trm_clock_now_ns() - begin_ns) / 1e9));
    return trm_memory_do_without(run, status, "no copies in memory", err);
}

static struct trm_partner *partner_of(const struct trm_run *run)
{
    return run->memory_tier ? run->memory_tier->partner : NULL;
}

enum trm_status trm_memory_tier_report(struct trm_run *run, int64_t words[TRM_PARTNER_WORDS],
                                       struct trm_error *err)
{
    int64_t step_ns = run->memory_tier ? run->memory_tier->step_ns : 0;

    if (run->memory_tier)
        run->memory_tier->step_ns = 0;
    return trm_partner_report(partner_of(run), step_ns, words, err);
}

enum trm_status trm_memory_tier_advance(struct trm_run *run, const int64_t words[TRM_PARTNER_WORDS],
                                        struct trm_error *err)
{
    struct trm_partner *partner = partner_of(run);
    enum trm_status status = trm_partner_advance(partner, words, &run->state, err);

    if (partner)
        trm_failpoint("memory", run->state.step + 1, NULL, 0);
    return status;
}

void trm_memory_tier_poll(struct trm_run *run)
{
    trm_partner_poll(partner_of(run));
}

enum trm_status trm_memory_tier_join(struct trm_run *run, struct trm_error *err)
{
    return trm_partner_join(partner_of(run), err);
}

void trm_memory_tier_note_step(struct trm_run *run, int64_t step_ns)
{
    if (run->memory_tier)
        run->memory_tier->step_ns = step_ns;
}

static void tell_totals(const struct trm_run *run, const struct trm_partner *partner)
{
    char held[32], copying[32];
    int64_t copies;
    double held_seconds, copy_seconds, cost_share;

    trm_partner_totals(partner, &copies, &held_seconds, &copy_seconds, &cost_share);
    trm_log(&run->log, TRM_LOG_INFO,
            "%" PRId64 " copies in memory: training stood still for %s, and copying took %s of a "
            "core (rank 0)",
            copies, trm_human_duration(held, sizeof held, held_seconds),
            trm_human_duration(copying, sizeof copying, copy_seconds));
}

void trm_memory_tier_close(struct trm_run *run)
{
    struct trm_memory_tier *tier = run->memory_tier;

    if (!tier)
        return;
    if (tier->partner && trm_partner_wait(tier->partner, NULL) == TRM_OK)
        tell_totals(run, tier->partner);
    trm_partner_destroy(tier->partner);
    trm_recall_close(tier->recall);
    free(tier);
    run->memory_tier = NULL;
}
