#include "checkpoint/parallel/save_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "base/human.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"
#include "checkpoint/stored.h"
#include "checkpoint/stream.h"
#include "checkpoint/view.h"

/* Room for the gaps of a shard: alignment to 1 MiB, four datasets. */
#define SHARD_EXTRA_BYTES ((int64_t)4 << 20)

#define MARK_BYTES 17 /* a nonce, and a line feed */

/* The file that this rank reads a part of back: that of the next group, so that on another node
 * another page cache, network and memory are asked. NULL when that one wrote none. */
static struct trm_ckpt_file *neighbour(const struct trm_save_job *job)
{
    int shard = (job->plan->group.shard + 1) % job->plan->group.shard_count;
    for (int i = 0; i < job->file_count; i++)
        if (job->files[i].shard == shard)
            return &job->files[i];
    return NULL;
}

bool trm_save_job_has(const struct trm_save_job *job, enum trm_save_phase phase)
{
    bool leads_some = trm_shard_group_leads(&job->plan->group) && job->plan->group.table.count > 0;
    switch (phase) {
    case TRM_SAVE_LAYING_OUT:
        return leads_some || job->early.status != TRM_OK;
    case TRM_SAVE_WRITING: /* a leader's fsync makes what it laid out durable */
        return leads_some || job->set->count > 0;
    case TRM_SAVE_VERIFYING:
        return neighbour(job) != NULL;
    default:
        return job->plan->rank == 0;
    }
}

void trm_save_job_reset(struct trm_save_job *job)
{
    trm_ckpt_state_destroy(&job->state);
    trm_skeleton_destroy(&job->skeleton);
    free(job->files);
    free(job->view);
    *job = (struct trm_save_job){.plan = job->plan,
                                 .snapshot = job->snapshot,
                                 .set = job->set,
                                 .skeleton = {-1},
                                 .retention = job->retention};
}

static enum trm_status check_space(const struct trm_save_job *job, struct trm_error *err)
{
    const struct trm_save_plan *plan = job->plan;
    struct statvfs info;
    char need[32], have[32];
    if (statvfs(plan->directory, &info) != 0)
        return trm_error_set_errno(err, errno, "could not ask how much room \"%s\" has",
                                   plan->directory);
    uint64_t wanted = (uint64_t)(plan->total_bytes + plan->group.shard_count * SHARD_EXTRA_BYTES);
    uint64_t available = (uint64_t)info.f_bavail * info.f_frsize;
    if (info.f_blocks == 0 || available >= wanted)
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_IO,
                         "\"%s\" has %s free and the checkpoint takes %s: make room, or set "
                         "keep_latest so that old ones go",
                         plan->directory, trm_human_bytes(have, sizeof(have), available),
                         trm_human_bytes(need, sizeof(need), wanted));
}

enum trm_status trm_save_job_stage(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    const char *directory = job->plan->directory;
    bool holds = false;
    enum trm_status status = trm_store_holds(directory, &job->state, &holds, err);
    job->there_already = holds && job->state.step < job->replace_from;
    if (status != TRM_OK || job->there_already)
        return status;
    status = trm_store_stage(directory, job->state.step, job->state.attempt, err);
    if (status == TRM_OK) {
        status = check_space(job, err);
        if (status != TRM_OK)
            (void)trm_store_discard(directory, job->state.step, job->state.attempt, NULL);
    }
    return status;
}

/* The shard in the stage. */
static enum trm_status shard_path(const struct trm_save_job *job, char path[TRM_PATH_BYTES],
                                  struct trm_error *err)
{
    char stage[TRM_PATH_BYTES];
    enum trm_status status =
        trm_store_stage_path(job->plan->directory, job->state.step, job->state.attempt, stage, err);
    return status == TRM_OK ? trm_file_path(path, err, "%s/%s", stage, job->file.name) : status;
}

enum trm_status trm_save_job_lay_out(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    const struct trm_shard_group *group = &job->plan->group;
    char path[TRM_PATH_BYTES];
    if (job->early.status != TRM_OK)
        return trm_error_set(err, job->early.status, "%s", job->early.text);
    struct trm_shard_identity identity =
        trm_shard_identity_of(&job->state, job->nonce, group->shard, group->shard_count);
    enum trm_status status = shard_path(job, path, err);
    if (status == TRM_OK)
        status = trm_skeleton_write(&job->skeleton, path, job->file.bytes, err);
    if (status == TRM_OK)
        status = trm_shard_write_table(path, &identity, group->table.slices, &job->file, err);
    return status;
}

enum trm_status trm_save_job_write(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    const struct trm_save_plan *plan = job->plan;
    char path[TRM_PATH_BYTES];
    trm_failpoint("save", job->state.step, NULL, 0);
    enum trm_status status = shard_path(job, path, err);
    if (status == TRM_OK)
        status = trm_shard_write_part(path, plan->tensors[0].type, job->set, plan->group.rows,
                                      &job->file, err);
    return status;
}

enum trm_status trm_save_job_commit(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    const char *directory = job->plan->directory;

    trm_failpoint("commit", job->state.step, NULL, 0);
    char stage[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_catalog catalog =
        trm_save_plan_catalog(job->plan, &job->state, job->nonce, job->files, job->file_count);
    trm_clock_utc(catalog.written_at, sizeof(catalog.written_at));
    enum trm_status status =
        trm_store_stage_path(directory, job->state.step, job->state.attempt, stage, err);
    if (status == TRM_OK)
        status = trm_file_path(path, err, "%s/" TRM_CKPT_VIEW, stage);
    if (status == TRM_OK && job->view != NULL)
        status = trm_file_write_all(path, job->view, job->view_bytes, true, err);
    if (status == TRM_OK)
        status = trm_store_commit(directory, &catalog, err);
    return status;
}

/* This rank's part of the slices of an open shard against their checksums. */
static enum trm_status check_slices(const struct trm_save_job *job,
                                    const struct trm_ckpt_file *file,
                                    const struct trm_slice *slices, struct trm_stream *stream,
                                    struct trm_error *err)
{
    enum trm_type type = job->plan->tensors[0].type;
    const struct trm_shard_group *group = &job->plan->group;
    int64_t begin = file->slice_count * group->index / group->member_count;
    int64_t end = file->slice_count * (group->index + 1) / group->member_count;
    enum trm_status status = TRM_OK;
    for (int64_t i = begin; status == TRM_OK && i < end; i++) {
        const struct trm_slice *slice = &slices[i];
        const void *data = NULL;
        char words[256];
        size_t bytes = (size_t)trm_slice_bytes(slice, type);
        int64_t offset =
            file->data[slice->kind].offset + slice->offset * (int64_t)trm_type_bytes(type);
        status = trm_stream_read(stream, bytes, offset, &data, err);
        if (status == TRM_OK && trm_hash64(data, bytes) != slice->checksum)
            status =
                trm_error_set(err, TRM_ERR_CORRUPT, "%s: %s are not what was written", stream->path,
                              trm_slice_describe(words, sizeof(words), job->plan->tensors, slice));
    }
    return status;
}

enum trm_status trm_save_job_verify(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    struct trm_ckpt_file *file = neighbour(job);
    struct trm_catalog catalog = trm_save_plan_catalog(job->plan, &job->state, job->nonce, file, 1);
    char step[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_stream stream = {.fd = -1, .direct = -1};
    struct trm_slice *slices = malloc((size_t)file->slice_count * sizeof(*slices) + 1);
    enum trm_status status =
        slices != NULL ? trm_store_step_path(job->plan->directory, job->state.step, step, err)
                       : trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %" PRId64 " slices",
                                       file->slice_count);
    if (status == TRM_OK)
        status = trm_file_path(path, err, "%s/%s", step, file->name);
    if (status == TRM_OK)
        status = trm_stream_open_read(path, true, &stream, err);
    if (status == TRM_OK) {
        status = trm_shard_read_table(path, &catalog, file, slices, err);
        if (status == TRM_OK)
            status = check_slices(job, file, slices, &stream, err);
        (void)trm_stream_close(&stream, NULL);
    }
    free(slices);
    return status;
}

/* So that attempts to come know of it; that it is missing costs room alone. */
static void mark_verified(const struct trm_save_job *job)
{
    char step[TRM_PATH_BYTES], path[TRM_PATH_BYTES], text[MARK_BYTES + 1];
    snprintf(text, sizeof(text), "%016" PRIx64 "\n", job->nonce);
    if (trm_store_step_path(job->plan->directory, job->state.step, step, NULL) == TRM_OK &&
        trm_file_path(path, NULL, "%s/" TRM_CKPT_VERIFIED, step) == TRM_OK)
        (void)trm_file_write_all(path, text, MARK_BYTES, false, NULL);
}

/* Whether an attempt read this very save back. */
static bool is_marked(const char *step, uint64_t nonce)
{
    char path[TRM_PATH_BYTES], expected[MARK_BYTES + 1], *text = NULL;
    size_t bytes = 0;
    snprintf(expected, sizeof(expected), "%016" PRIx64 "\n", nonce);
    bool marked = trm_file_path(path, NULL, "%s/" TRM_CKPT_VERIFIED, step) == TRM_OK &&
                  trm_file_read_all(path, MARK_BYTES, &text, &bytes, NULL) == TRM_OK &&
                  bytes == MARK_BYTES && memcmp(text, expected, MARK_BYTES) == 0;
    free(text);
    return marked;
}

/* What retention knows about one checkpoint; false for one that is not this run's to remove. */
static bool describe(const struct trm_save_job *job, int64_t step, struct trm_retention_item *item)
{
    char path[TRM_PATH_BYTES];
    struct trm_catalog catalog = {0};
    bool ours = trm_store_step_path(job->plan->directory, step, path, NULL) == TRM_OK &&
                trm_stored_read_catalog(path, &catalog, NULL) == TRM_OK &&
                catalog.state.step == step &&
                strcmp(catalog.state.run_id, job->state.run_id) == 0 &&
                catalog.state.lineage <= job->state.lineage;
    bool verified = step == job->verified[0] || step == job->verified[1];
    /* Those that this attempt began behind may have been passed over. */
    if (ours && !verified && step < job->replace_from)
        verified = is_marked(path, catalog.nonce);
    *item = (struct trm_retention_item){
        .step = step, .verified = verified, .valid_loss = catalog.state.valid_loss};
    trm_catalog_destroy(&catalog);
    return ours;
}

enum trm_status trm_save_job_prune(void *context, struct trm_error *err)
{
    struct trm_save_job *job = context;
    const char *directory = job->plan->directory;
    int64_t *steps = NULL;
    int found = 0, count = 0;
    struct trm_retention_item *items = NULL;
    mark_verified(job);
    enum trm_status status = trm_store_list(directory, &steps, &found, err);
    if (status != TRM_OK)
        return status;
    items = malloc((size_t)found * sizeof(*items) + 1);
    if (items == NULL) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d checkpoints", found);
        goto cleanup;
    }
    for (int i = 0; i < found; i++)
        count += describe(job, steps[i], &items[count]);
    trm_retention_decide(&job->retention, items, count);
    /* The oldest first: what a crash leaves is the newest. */
    for (int i = count - 1; status == TRM_OK && i >= 0; i--) {
        if (items[i].keep || job->removed_count == TRM_SAVE_REMOVED_MAX)
            continue;
        status = trm_store_remove(directory, items[i].step, job->state.attempt, err);
        if (status == TRM_OK)
            job->removed[job->removed_count++] = items[i].step;
    }
cleanup:
    free(items);
    free(steps);
    return status;
}

enum trm_status trm_save_job_discard(void *context, struct trm_error *err)
{
    const struct trm_save_job *job = context;
    return trm_store_discard(job->plan->directory, job->state.step, job->state.attempt, err);
}
