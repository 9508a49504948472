#include "trainer/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/human.h"
#include "checkpoint/parallel/load.h"
#include "checkpoint/store.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/memory_tier.h"
#include "trainer/mirror.h"
#include "trainer/model/init.h"

_Static_assert(TRM_CONFIG_TEXT_BYTES <= TRM_CKPT_MAX_TEXT_BYTES,
               "checkpoints take any that is run");

/* The configuration and fingerprint that the next checkpoint carries: this process's. */
static enum trm_status describe_self(struct trm_run *run, struct trm_error *err)
{
    char text[256];

    trm_device_describe(&run->device, text, sizeof text);
    free(run->state.config_yaml);
    free(run->state.fingerprint);
    run->state.config_yaml = trm_config_to_yaml(run->config);
    run->state.fingerprint = strdup(text);
    run->state.data_parallel_size = run->mesh.data_size;
    run->state.tensor_model_parallel_size = run->mesh.tensor_size;
    if (!run->state.config_yaml || !run->state.fingerprint)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the run's description");
    return TRM_OK;
}

/* The state before the first step, but for what names the run. Collective. */
static enum trm_status begin_at_zero(struct trm_run *run, struct trm_error *err)
{
    struct trm_ckpt_state *state = &run->state;
    struct trm_pieces_memory memory = trm_mirror_state(run);
    size_t bytes = (size_t)run->layout->owned_elements * sizeof(float);
    int count;
    const struct trm_layout_run *runs = trm_optimizer_runs(run->optimizer, &count);

    for (int i = 0; i < count; i++)
        trm_init_fill(run->layout, runs[i].tensor, runs[i].begin, runs[i].end,
                      (uint64_t)run->config->seed, trm_pieces_parameters(&memory, &runs[i]));
    memset(memory.exp_avg, 0, bytes);
    memset(memory.exp_avg_sq, 0, bytes);
    free(state->skips);
    state->skips = NULL;
    state->step = state->next_sample = 0;
    state->data_hash = 0;
    state->skip_count = state->recent_loss_count = state->skips_in_row = 0;
    state->last_loss = state->valid_loss = NAN;
    return trm_agree(run->world, trm_mirror_send(run, err), err);
}

static enum trm_status start_afresh(struct trm_run *run, struct trm_error *err)
{
    uint64_t bits[2] = {0, 0};
    enum trm_status status = TRM_OK;

    if (run->world->rank == 0 && getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        status = trm_error_set(err, TRM_ERR_IO, "the system has no random numbers for a run id");
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(run->world, bits, sizeof bits, 0, NULL, err);
    if (status != TRM_OK)
        return status;
    snprintf(run->state.run_id, sizeof run->state.run_id, "%016llx%016llx",
             (unsigned long long)bits[0], (unsigned long long)bits[1]);
    status = begin_at_zero(run, err);
    if (status == TRM_OK)
        trm_flight_resumed(run->flight, 0, TRM_RESUMED_NOTHING, 0);
    return status;
}

static void passed_over(void *context, const char *path, const char *reason)
{
    const struct trm_log *log = context;
    trm_log(log, TRM_LOG_WARNING, "passed over checkpoint \"%s\": %s", path, reason);
}

enum trm_status trm_state_open(const struct trm_config *config, struct trm_comm *world,
                               const struct trm_log *log, struct trm_checkpoint **out,
                               struct trm_error *err)
{
    bool automatic = strcmp(config->load, "auto") == 0, afresh = strcmp(config->load, "none") == 0;
    const char *where = automatic || afresh ? config->save : config->load;
    struct trm_checkpoint *found = NULL;
    enum trm_status status = trm_checkpoint_open(world, where, config->ckpt_step, passed_over,
                                                 (void *)(uintptr_t)log, &found, err);

    *out = NULL;
    if ((automatic || afresh) && status == TRM_ERR_NOT_FOUND && config->ckpt_step < 0)
        return TRM_OK;
    if (afresh && (status == TRM_OK || status == TRM_ERR_CORRUPT)) {
        trm_checkpoint_close(found);
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "\"%s\" holds checkpoints, and `load: none` would start over them; give "
            "another run_dir or save, or use `load: auto` to go on",
            where);
    }
    if (status == TRM_OK)
        *out = found;
    else if (status == TRM_ERR_NOT_FOUND) {
        /* It was asked for by name: a mistake of the configuration, never a silent fresh start. */
        status = err->status = TRM_ERR_CONFIG;
        if (config->ckpt_step >= 0)
            trm_error_prefix(err, "ckpt_step %lld", (long long)config->ckpt_step);
        else
            trm_error_prefix(err, "load \"%s\"", config->load);
    }
    return status;
}

/* From the disk. */
static enum trm_status restore(struct trm_run *run, struct trm_checkpoint *checkpoint,
                               struct trm_error *err)
{
    int64_t begin_ns = trm_clock_now_ns(), bytes = 0;
    char size[32], duration[32];
    enum trm_status status = trm_state_restore(run, checkpoint, &bytes, err);

    if (status != TRM_OK)
        return status;
    begin_ns = trm_clock_now_ns() - begin_ns;
    trm_flight_resumed(run->flight, run->state.step, TRM_RESUMED_DISK, begin_ns);
    trm_log(&run->log, TRM_LOG_INFO, "resumed from \"%s\" (step %lld): %s read by rank 0 in %s",
            trm_checkpoint_path(checkpoint), (long long)run->state.step,
            trm_human_bytes(size, sizeof size, (uint64_t)bytes),
            trm_human_duration(duration, sizeof duration, (double)begin_ns / 1e9));
    return TRM_OK;
}

/* What reading may find wrong with a checkpoint, where an older one may do. */
static bool is_damage(enum trm_status status)
{
    return status == TRM_ERR_CORRUPT || status == TRM_ERR_IO || status == TRM_ERR_NOT_FOUND;
}

/* Restores from *checkpoint, or, where it was chosen among several (`where` is their directory) and
 * turns out to be damaged, from the newest older one that loads. Each that is passed over is named.
 */
static enum trm_status restore_newest(struct trm_run *run, const char *where, bool chosen,
                                      struct trm_checkpoint **checkpoint, struct trm_error *err)
{
    struct trm_error first = {0};
    enum trm_status status = restore(run, *checkpoint, err);

    while (chosen && is_damage(status)) {
        int64_t step = trm_checkpoint_catalog(*checkpoint)->state.step;
        if (first.status == TRM_OK)
            first = *err;
        passed_over(&run->log, trm_checkpoint_path(*checkpoint), err->text);
        trm_checkpoint_close(*checkpoint);
        *checkpoint = NULL;
        status = trm_checkpoint_open_older(run->world, where, step, passed_over, &run->log,
                                           checkpoint, err);
        /* Never a fresh start where checkpoints are. */
        if (status == TRM_ERR_NOT_FOUND)
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "no checkpoint in \"%s\" can be loaded; the newest: %s", where,
                                 first.text);
        if (status == TRM_OK)
            status = restore(run, *checkpoint, err);
    }
    return status;
}

/* Whether `path` is the directory `save` or lies right in it. */
static bool is_in(const char *path, const char *save)
{
    char *a = realpath(path, NULL), *b = realpath(save, NULL), *slash = a ? strrchr(a, '/') : NULL;
    bool in = a && b && strcmp(a, b) == 0;

    if (!in && slash && b) {
        *slash = '\0';
        in = strcmp(a, b) == 0;
    }
    free(a);
    free(b);
    return in;
}

/* A run goes on from its own checkpoints: `load` naming others is for its first start. And it does
 * not go back behind its newest step in the same directory, where the next start would find the
 * newer ones again. Rank 0 looks; *newest is the newest step in `save`, -1 for none. */
static enum trm_status look_at_save(struct trm_run *run, bool *own, int64_t *newest,
                                    struct trm_error *err)
{
    const struct trm_config *config = run->config;
    int64_t seen[2] = {-1, 1}, *steps = NULL;
    int count = 0;
    enum trm_status status = TRM_OK;

    if (run->world->rank == 0) {
        status = trm_store_list(config->save, &steps, &count, err);
        if (status == TRM_OK) {
            seen[0] = count > 0 ? steps[0] : -1;
            seen[1] = strcmp(config->load, "auto") == 0 || strcmp(config->load, "none") == 0 ||
                      is_in(config->load, config->save);
        }
        free(steps);
        if (status == TRM_ERR_NOT_FOUND) /* not made yet; any other failure may hide some */
            status = TRM_OK;
    }
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(run->world, seen, sizeof seen, 0, NULL, err);
    *newest = seen[0];
    *own = seen[1] != 0;
    return status;
}

static enum trm_status open_checkpoint(struct trm_run *run, struct trm_checkpoint **out,
                                       struct trm_error *err)
{
    struct trm_config *config = run->config;
    bool own = true;
    int64_t newest = -1, step;
    enum trm_status status = look_at_save(run, &own, &newest, err);

    if (status == TRM_OK && !own && newest >= 0) {
        char *automatic = strdup("auto");
        if (!automatic)
            return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a word");
        trm_log(
            &run->log, TRM_LOG_INFO,
            "\"%s\" holds steps of this run: going on from them; \"%s\" was for its first start",
            config->save, config->load);
        free(config->load);
        config->load = automatic;
        config->ckpt_step = -1;
    }
    if (status == TRM_OK)
        status = trm_state_open(config, run->world, &run->log, out, err);
    if (status != TRM_OK || !*out || !own || strcmp(config->load, "none") == 0)
        return status;
    step = trm_checkpoint_catalog(*out)->state.step;
    if (step < newest && (config->ckpt_step >= 0 || strcmp(config->load, "auto") != 0)) {
        trm_checkpoint_close(*out);
        *out = NULL;
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "\"%s\" holds step %lld, newer than the step %lld asked for, and the next "
            "start would go on from that; to branch off, load this one with "
            "another run_dir",
            config->save, (long long)newest, (long long)step);
    }
    return TRM_OK;
}

/* What the configuration names to begin with, once it is open. */
static enum trm_status restore_named(struct trm_run *run, struct trm_checkpoint **checkpoint,
                                     struct trm_error *err)
{
    const struct trm_config *config = run->config;
    const char *where = strcmp(config->load, "auto") == 0 ? config->save : config->load;
    bool chosen = config->ckpt_step < 0 && strcmp(trm_checkpoint_path(*checkpoint), where) != 0;

    return restore_newest(run, where, chosen, checkpoint, err);
}

enum trm_status trm_state_begin(struct trm_run *run, struct trm_error *err)
{
    struct trm_checkpoint *checkpoint = NULL;
    bool restored = false;
    enum trm_status status = trm_agree(run->world, describe_self(run, err), err);

    run->saved_step = -1;
    if (status == TRM_OK)
        status = trm_memory_tier_restore(run, INT64_MAX, &restored, err);
    if (status == TRM_OK && restored)
        return trm_param_gather_start(run->param_gather, run->parameters, err);
    if (status == TRM_OK)
        status = open_checkpoint(run, &checkpoint, err);
    if (status != TRM_OK)
        return status;
    status = checkpoint ? restore_named(run, &checkpoint, err) : start_afresh(run, err);
    if (status == TRM_OK && checkpoint && strcmp(run->config->load, "auto") == 0) {
        run->saved_step = run->state.step;
        run->saved_sample = run->state.next_sample;
    }
    trm_checkpoint_close(checkpoint);
    if (status == TRM_OK)
        status = trm_param_gather_start(run->param_gather, run->parameters, err);
    return status;
}

/* The run's own checkpoints before step `before`, if it has any yet; else what it began with. */
static enum trm_status restore_earlier(struct trm_run *run, int64_t before, int64_t newest,
                                       struct trm_checkpoint **checkpoint, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    enum trm_status status;

    if (newest >= 0) {
        status = trm_checkpoint_open_older(run->world, config->save, before, passed_over, &run->log,
                                           checkpoint, err);
        if (status == TRM_ERR_NOT_FOUND)
            return trm_error_set(err, TRM_ERR_NOT_FOUND,
                                 "no checkpoint of a step before %lld in \"%s\" can be loaded",
                                 (long long)before, config->save);
        return status == TRM_OK ? restore_newest(run, config->save, true, checkpoint, err) : status;
    }
    status = trm_state_open(config, run->world, &run->log, checkpoint, err);
    if (status == TRM_OK && *checkpoint)
        return restore_named(run, checkpoint, err);
    return status == TRM_OK ? begin_at_zero(run, err) : status;
}

enum trm_status trm_state_restore_before(struct trm_run *run, int64_t before, struct trm_error *err)
{
    struct trm_checkpoint *checkpoint = NULL;
    char run_id[TRM_CKPT_RUN_ID_BYTES];
    int64_t attempt = run->state.attempt, newest = -1;
    bool own, restored = false;
    enum trm_status status = trm_memory_tier_join(run, err);

    memcpy(run_id, run->state.run_id, sizeof run_id);
    if (status == TRM_OK)
        status = trm_memory_tier_restore(run, before, &restored, err);
    if (status == TRM_OK && !restored)
        status = look_at_save(run, &own, &newest, err);
    if (status == TRM_OK && !restored)
        status = restore_earlier(run, before, newest, &checkpoint, err);
    trm_checkpoint_close(checkpoint);
    if (status == TRM_OK && strcmp(run_id, run->state.run_id) != 0)
        status = trm_error_set(err, TRM_ERR_MISMATCH, "\"%s\" holds steps of run %s, this is %s",
                               run->config->save, run->state.run_id, run_id);
    run->state.attempt = attempt;
    if (status == TRM_OK)
        status = trm_param_gather_start(run->param_gather, run->parameters, err);
    return status;
}
