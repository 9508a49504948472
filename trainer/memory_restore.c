/* The memory tier at start: what there is, against what the disk has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/human.h"
#include "checkpoint/parallel/load.h"
#include "checkpoint/store.h"
#include "checkpoint/stored.h"
#include "collectives/flight_write.h"
#include "trainer/memory_parts.h"
#include "trainer/numbers.h"
#include "trainer/state.h"

enum trm_status trm_memory_do_without(struct trm_run *run, enum trm_status status, const char *what,
                                      struct trm_error *err)
{
    if (status == TRM_OK || trm_run_is_broken(status))
        return status;
    trm_log(&run->log, TRM_LOG_WARNING, "%s: %s; the run goes on, with checkpoints on disk alone",
            what, err->text);
    return TRM_OK;
}

static void passed_over(void *context, const char *path, const char *reason)
{
    const struct trm_run *run = context;
    trm_log(&run->log, TRM_LOG_WARNING, "passed over %s: %s", path, reason);
}

enum trm_status trm_memory_recall(struct trm_run *run, struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    const char *runtime = getenv("TRIREME_RUNTIME"); /* with the host's name: which agent */
    const struct trm_recall_settings settings = {
        .comm = run->world,
        .keeper = tier->keeper,
        .node = tier->host,
        .node_id = trm_hash64_seeded(runtime ? runtime : "", runtime ? strlen(runtime) : 0,
                                     trm_hash64(tier->host, strlen(tier->host))),
        .passed_over = passed_over,
        .context = run,
    };

    return trm_memory_do_without(run, trm_recall_open(&settings, &tier->recall, err),
                                 "what is in the memory of nodes could not be looked at", err);
}

/* The newest checkpoint of the run's own directory before step `below` that has a manifest. */
struct on_disk {
    int64_t step, lineage; /* step -1: none */
    char run_id[TRM_CKPT_RUN_ID_BYTES];
};

static enum trm_status look_at_disk(struct trm_run *run, int64_t below, struct on_disk *found,
                                    struct trm_error *err)
{
    const char *save = run->config->save;
    int64_t *steps = NULL;
    int count = 0;

    *found = (struct on_disk){.step = -1};
    if (run->world->rank == 0 && trm_store_list(save, &steps, &count, NULL) == TRM_OK) {
        for (int i = 0; i < count && found->step < 0; i++) {
            struct trm_catalog catalog;
            char path[TRM_PATH_BYTES];
            if (steps[i] >= below || trm_store_step_path(save, steps[i], path, NULL) != TRM_OK ||
                trm_stored_read_catalog(path, &catalog, NULL) != TRM_OK)
                continue;
            if (!trm_stored_is_given_up(save, &catalog, steps, count, NULL)) {
                found->step = steps[i];
                found->lineage = catalog.state.lineage;
                memcpy(found->run_id, catalog.state.run_id, sizeof found->run_id);
            }
            trm_catalog_destroy(&catalog);
        }
        free(steps);
    }
    return trm_comm_broadcast(run->world, found, sizeof *found, 0, NULL, err);
}

static bool is_older(const struct trm_recall_step *step, const struct on_disk *disk)
{
    if (disk->step < 0)
        return false;
    return step->lineage != disk->lineage ? step->lineage < disk->lineage : step->step < disk->step;
}

/* One step; TRM_ERR_CORRUPT when its slots are damaged in a way that no copy makes good. */
static enum trm_status restore_step(struct trm_run *run, const struct trm_recall_step *step,
                                    struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    int64_t begin_ns = trm_clock_now_ns(), bytes = 0, own = 0, peers = 0, before[2];
    struct trm_checkpoint *checkpoint = NULL;
    char own_size[32], peer_size[32], duration[32];
    enum trm_status status = trm_recall_step_open(tier->recall, step, &checkpoint, err);

    trm_recall_bytes(tier->recall, &before[0], &before[1]);
    if (status == TRM_OK)
        status = trm_state_restore(run, checkpoint, &bytes, err);
    /* Nobody looked when it was copied, as somebody does before a save. */
    if (status == TRM_OK)
        status = trm_numbers_scan(run, err);
    if (status == TRM_ERR_NUMERICS)
        status = err->status = TRM_ERR_CORRUPT;
    trm_checkpoint_close(checkpoint);
    if (status != TRM_OK)
        return status;
    trm_recall_bytes(tier->recall, &own, &peers);
    begin_ns = trm_clock_now_ns() - begin_ns;
    trm_flight_resumed(run->flight, step->step, TRM_RESUMED_MEMORY, begin_ns);
    trm_log(&run->log, TRM_LOG_INFO,
            "resumed at step %" PRId64 " from memory (own node %s, peers %s) in %s", step->step,
            trm_human_bytes(own_size, sizeof own_size, (uint64_t)(own - before[0])),
            trm_human_bytes(peer_size, sizeof peer_size, (uint64_t)(peers - before[1])),
            trm_human_duration(duration, sizeof duration, (double)begin_ns / 1e9));
    return TRM_OK;
}

/* Collective: before the state is replaced under a run. */
static enum trm_status look_again(struct trm_run *run, struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    enum trm_status status = trm_partner_wait(tier->partner, err);

    if (status == TRM_OK && !tier->recall)
        status = trm_memory_recall(run, err);
    return status;
}

enum trm_status trm_memory_tier_restore(struct trm_run *run, int64_t below, bool *restored,
                                        struct trm_error *err)
{
    struct trm_memory_tier *tier = run->memory_tier;
    struct trm_recall_step step;
    struct on_disk disk;
    const char *run_id;
    enum trm_status status;

    *restored = false;
    if (!tier)
        return TRM_OK;
    status = look_again(run, err);
    if (status != TRM_OK || !tier->recall)
        return status;
    status = look_at_disk(run, below, &disk, err);
    /* Agents hold the slots of one run; a checkpoint of another in its directory is refused later.
     */
    run_id = run->state.run_id[0] ? run->state.run_id : disk.step >= 0 ? disk.run_id : NULL;
    while (status == TRM_OK && !*restored &&
           trm_recall_newest(tier->recall, run_id, below, &step) && !is_older(&step, &disk)) {
        status = restore_step(run, &step, err);
        *restored = status == TRM_OK;
        if (status == TRM_ERR_CORRUPT) {
            char name[64];
            snprintf(name, sizeof name, "step %" PRId64 " in memory", step.step);
            passed_over(run, name, err->text);
            trm_recall_pass_over(tier->recall, &step);
            status = TRM_OK;
        }
    }
    if (*restored) {
        tier->restored = step;
        tier->has_restored = true;
    } else if (status == TRM_OK && trm_recall_slot_count(tier->recall) > 0) {
        trm_log(&run->log, TRM_LOG_WARNING,
                "the memory of the nodes has nothing that is whole and as new as the disk: the run "
                "goes on from there");
    }
    /* A run that is under way keeps its slots. */
    if (tier->partner) {
        trm_recall_close(tier->recall);
        tier->recall = NULL;
    }
    return status;
}
