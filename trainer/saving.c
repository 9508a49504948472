#include "trainer/saving.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "base/human.h"
#include "base/machine.h"
#include "checkpoint/snapshot.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/mirror.h"
#include "trainer/numbers.h"
#include "trainer/pieces.h"
#include "trainer/replicas.h"

/* Text of a list of steps. */
#define STEPS_BYTES 256

/* Shorter waits for the disk are counted, and not told. */
#define TOLD_SECONDS 0.01

static bool saves_while_training(const struct trm_run *run)
{
    return run->config->save_async && run->config->save_interval > 0;
}

void trm_saving_place(struct trm_run *run)
{
    int run_count = 0;
    (void)trm_optimizer_runs(run->optimizer, &run_count);
    size_t bytes = trm_snapshot_bytes(run->layout->owned_elements * TRM_KIND_COUNT,
                                      (int64_t)run_count * TRM_KIND_COUNT, TRM_F32);

    for (int i = 0; i < TRM_SAVER_SNAPSHOTS && saves_while_training(run); i++)
        run->saving.snapshots[i] = trm_arena_alloc(&run->arena, TRM_ARENA_SNAPSHOT, bytes);
}

/* "10, 20 and 3 more" */
static const char *list_steps(const struct trm_save_event *event, char text[STEPS_BYTES])
{
    size_t length = 0;

    text[0] = '\0';
    for (int i = 0; i < event->removed_count; i++) {
        if (length > STEPS_BYTES - 64) {
            snprintf(text + length, STEPS_BYTES - length, " and %d more", event->removed_count - i);
            break;
        }
        length += (size_t)snprintf(text + length, STEPS_BYTES - length, "%s%" PRId64,
                                   i > 0 ? ", " : "", event->removed[i]);
    }
    return text;
}

static void tell_saved(const struct trm_run *run, const struct trm_save_event *event)
{
    char size[32], duration[32], held[32], path[TRM_PATH_BYTES + 32];

    snprintf(path, sizeof path, "%s/step-%08" PRId64, run->config->save, event->step);
    if (event->was_there) {
        trm_log(&run->log, TRM_LOG_INFO, "\"%s\" was there already", path);
        return;
    }
    trm_log(&run->log, TRM_LOG_INFO,
            "saved \"%s\" (%s by rank 0) in %s; training stood still for %s", path,
            trm_human_bytes(size, sizeof size, (uint64_t)event->bytes),
            trm_human_duration(duration, sizeof duration, event->seconds),
            trm_human_duration(held, sizeof held, event->held_seconds));
}

static void on_event(void *context, const struct trm_save_event *event)
{
    struct trm_run *run = context;
    struct trm_saving *saving = &run->saving;
    char duration[32], steps[STEPS_BYTES];

    switch (event->kind) {
    case TRM_SAVE_DONE:
        run->saved_step = event->step;
        run->saved_sample = event->next_sample;
        trm_flight_disk_step(run->flight, event->step);
        tell_saved(run, event);
        break;
    case TRM_SAVE_FAILED:
        saving->failure = *event->error;
        trm_error_prefix(&saving->failure, "saving step %" PRId64, event->step);
        if (!saving->last)
            trm_log(&run->log, TRM_LOG_WARNING,
                    "%s; training goes on, and older checkpoints are as they were",
                    saving->failure.text);
        break;
    case TRM_SAVE_WAITED:
        saving->waits++;
        if (event->seconds >= TOLD_SECONDS)
            trm_log(&run->log, TRM_LOG_WARNING,
                    "saving step %" PRId64 " waited %s for the disk, which is slower than "
                    "save_interval (%d such waits so far)",
                    event->step, trm_human_duration(duration, sizeof duration, event->seconds),
                    saving->waits);
        break;
    case TRM_SAVE_UNVERIFIED:
        trm_log(&run->log, TRM_LOG_WARNING,
                "step %" PRId64 " was saved, but reading it back failed: %s; nothing is removed "
                "for it",
                event->step, event->error->text);
        break;
    case TRM_SAVE_REMOVED:
        trm_log(&run->log, TRM_LOG_INFO,
                "step %" PRId64 " was read back and is sound; removed older checkpoints: %s",
                event->step, list_steps(event, steps));
        break;
    case TRM_SAVE_KEPT:
        trm_log(&run->log, TRM_LOG_WARNING, "could not remove old checkpoints: %s",
                event->error->text);
        break;
    }
}

/* What no later save could do better. */
static enum trm_status refusal(const struct trm_run *run, struct trm_error *err)
{
    if (run->saving.failure.status != TRM_ERR_MISMATCH)
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_MISMATCH, "%s", run->saving.failure.text);
}

enum trm_status trm_saving_open(struct trm_run *run, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_pieces_memory memory = trm_mirror_state(run);
    struct trm_saver_settings settings = {
        .comm = run->world,
        .directory = config->save,
        .tensor_count = run->layout->tensor_count,
        .copy_threads = run->threads,
        .node = trm_machine_id(),
        .shard_group_size = (int)config->shard_group_size,
        .retention = {config->keep_latest, config->keep_every, config->keep_best},
        .replace_from = run->state.step + 1,
        .event = on_event,
        .context = run,
    };
    struct trm_ckpt_tensor *tensors = trm_pieces_tensors(run->layout);
    struct trm_ckpt_piece *pieces = NULL;
    int run_count, piece_count = 0;
    const struct trm_layout_run *runs = trm_optimizer_runs(run->optimizer, &run_count);
    enum trm_status status = TRM_OK;

    if (!tensors)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory to list tensors");
    if (status == TRM_OK)
        status = trm_pieces_of_runs(run->layout, runs, run_count, &memory, NULL, true, &pieces,
                                    &piece_count, err);
    status = trm_agree(run->world, status, err);
    settings.tensors = tensors;
    settings.pieces = pieces;
    settings.piece_count = piece_count;
    memcpy(settings.snapshots, run->saving.snapshots, sizeof settings.snapshots);
    if (status == TRM_OK)
        status = trm_saver_create(&settings, &run->saving.saver, err);
    /* Loaded from there, so every byte of it was read and checked. */
    if (status == TRM_OK && run->saved_step >= 0)
        trm_saver_note_verified(run->saving.saver, run->saved_step);
    free(pieces);
    free(tensors);
    return status;
}

void trm_saving_close(struct trm_run *run)
{
    trm_saver_destroy(run->saving.saver);
    run->saving.saver = NULL;
}

/* What is saved was checked: numbers that are finite, and copies that agree. Collective. */
static enum trm_status look_through(struct trm_run *run, struct trm_error *err)
{
    enum trm_status status = trm_numbers_scan(run, err);

    if (status != TRM_OK || run->config->replica_check_interval == 0)
        return status;
    status = trm_param_gather_finish(run->param_gather, err);
    return status == TRM_OK ? trm_replicas_check(run, run->state.step, err) : status;
}

/* The state is in the host's memory. Collective. */
static enum trm_status hand_over(struct trm_run *run, struct trm_error *err)
{
    struct trm_saving *saving = &run->saving;
    enum trm_status status;

    trm_run_phase(run, trm_saver_is_busy(saving->saver) ? TRM_PHASE_SAVE : TRM_PHASE_SNAPSHOT);
    trm_failpoint("snapshot", run->state.step, NULL, 0);
    status = trm_saver_begin(saving->saver, &run->state, err);
    return status == TRM_OK ? refusal(run, err) : status;
}

/* A step that is tried again has skipped samples since. */
static bool is_saved(const struct trm_run *run)
{
    return run->saved_step == run->state.step && run->saved_sample == run->state.next_sample;
}

enum trm_status trm_saving_begin(struct trm_run *run, struct trm_error *err)
{
    struct trm_saving *saving = &run->saving;
    enum trm_status status;

    if (is_saved(run) || saving->fetching)
        return TRM_OK;
    status = look_through(run, err);
    if (status != TRM_OK)
        return status;
    saving->failure = (struct trm_error){0};
    if (trm_device_is_host(&run->device))
        return hand_over(run, err);
    trm_mirror_fetch(run);
    saving->fetching = true;
    return TRM_OK;
}

enum trm_status trm_saving_join(struct trm_run *run, struct trm_error *err)
{
    enum trm_status status;

    if (!run->saving.fetching)
        return TRM_OK;
    run->saving.fetching = false;
    status = trm_agree(run->world, trm_mirror_wait(run, err), err);
    return status == TRM_OK ? hand_over(run, err) : status;
}

enum trm_status trm_saving_advance(struct trm_run *run, int64_t word, struct trm_error *err)
{
    enum trm_status status = trm_saver_advance(run->saving.saver, word, err);

    return status == TRM_OK ? refusal(run, err) : status;
}

enum trm_status trm_saving_wait(struct trm_run *run, struct trm_error *err)
{
    enum trm_status status = trm_saving_join(run, err);

    trm_run_phase(run, TRM_PHASE_SAVE);
    return status == TRM_OK ? trm_saver_wait(run->saving.saver, err) : status;
}

void trm_saving_forget_later(struct trm_run *run)
{
    trm_saver_forget_later(run->saving.saver, run->state.step);
}

enum trm_status trm_saving_finish(struct trm_run *run, struct trm_error *err)
{
    struct trm_saving *saving = &run->saving;
    enum trm_status status = trm_saving_wait(run, err);

    if (status == TRM_OK)
        status = refusal(run, err);
    if (status != TRM_OK)
        return status;
    saving->last = true;
    status = trm_saving_begin(run, err);
    saving->last = status == TRM_OK; /* else the run may go on from an older state */
    if (status == TRM_OK)
        status = trm_saving_wait(run, err);
    if (status == TRM_OK && !is_saved(run))
        status = trm_error_set(err, saving->failure.status, "%s", saving->failure.text);
    return status;
}
