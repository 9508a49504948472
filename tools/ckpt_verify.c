/* `trireme ckpt verify CKPT`: every byte that a reader relies on, against its checksum. */
#include "checkpoint/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/shard.h"
#include "checkpoint/store.h"
#include "tools/ckpt.h"
#include "tools/ckpt_options.h"

struct verification {
    struct trm_ckpt_progress progress;
    int64_t faults;
};

static void print_fault(void *context, const char *reason)
{
    struct verification *v = context;
    v->faults++;
    printf("%s\n", reason);
}

static void show_progress(void *context, int64_t bytes)
{
    struct verification *v = context;
    trm_ckpt_progress_show(&v->progress, bytes);
}

/* What can be opened of a checkpoint that as a whole cannot: the shards whose tables are sound, the
 * others being named. *out is returned owned. */
static enum trm_status open_partly(const char *path, struct verification *v,
                                   struct trm_stored **out, struct trm_error *err)
{
    struct trm_stored *stored = calloc(1, sizeof *stored);
    if (stored == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for opening \"%s\"", path);
    struct trm_catalog *catalog = &stored->catalog;
    enum trm_status status = trm_file_path(stored->path, err, "%s", path);
    if (status == TRM_OK)
        status = trm_stored_read_catalog(path, catalog, err);
    int listed = catalog->file_count, sound = 0;
    int64_t slices = 0;
    for (int i = 0; status == TRM_OK && i < listed; i++)
        slices += catalog->files[i].slice_count;
    if (status == TRM_OK) {
        stored->file_begin = calloc((size_t)listed + 1, sizeof *stored->file_begin);
        stored->slices = calloc((size_t)slices + 1, sizeof *stored->slices);
        if (stored->file_begin == NULL || stored->slices == NULL)
            status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for %" PRId64 " slices", slices);
    }
    for (int i = 0; status == TRM_OK && i < listed; i++) {
        struct trm_ckpt_file file = catalog->files[i];
        struct trm_error reason = {0};
        char shard[TRM_PATH_BYTES];
        status = trm_file_path(shard, err, "%s/%s", path, file.name);
        if (status != TRM_OK)
            break;
        if (trm_shard_read_table(shard, catalog, &file, &stored->slices[stored->slice_count],
                                 &reason) != TRM_OK) {
            print_fault(v, reason.text);
            continue;
        }
        stored->slice_count += file.slice_count;
        catalog->files[sound++] = file;
        stored->file_begin[sound] = stored->slice_count;
    }
    catalog->file_count = sound;
    if (status != TRM_OK) {
        trm_stored_close(stored);
        return status;
    }
    *out = stored;
    return TRM_OK;
}

/* One checkpoint, of `step` by its name (-1: of any); what is wrong with it is printed and counted.
 * Only what keeps this process from looking is an error. */
static enum trm_status verify_one(const char *path, int64_t step, int64_t *faults,
                                  struct trm_error *err)
{
    struct verification v = {.faults = 0};
    struct trm_error reason = {0};
    struct trm_stored *stored = NULL;
    enum trm_status opened = trm_stored_open(path, &stored, &reason);
    enum trm_status status = TRM_OK;
    if (opened == TRM_ERR_NOT_FOUND || opened == TRM_ERR_MEMORY)
        return trm_error_set(err, opened, "%s", reason.text);
    if (opened != TRM_OK) {
        status = open_partly(path, &v, &stored, err);
        if (status == TRM_ERR_MEMORY)
            return status;
        if (v.faults == 0) /* it is the manifest, or the shards together */
            print_fault(&v, reason.text);
    }
    if (stored != NULL && step >= 0 && stored->catalog.state.step != step) {
        printf("%s: its manifest is of step %" PRId64 "\n", path, stored->catalog.state.step);
        v.faults++;
    }
    if (stored != NULL) {
        int64_t bytes = 0;
        for (int64_t i = 0; i < stored->slice_count; i++)
            bytes += trm_slice_bytes(&stored->slices[i], stored->catalog.tensors[0].type);
        const struct trm_verify_report report = {&v, print_fault, show_progress};
        trm_ckpt_progress_begin(&v.progress, "verifying", bytes);
        status = trm_verify(stored, &report, err);
        trm_ckpt_progress_end(&v.progress);
        char size[32];
        if (v.faults == 0 && status == TRM_OK)
            printf("%s: sound (%s in %d file%s, %" PRId64 " slices)\n", path,
                   trm_human_bytes(size, sizeof size, (uint64_t)bytes), stored->catalog.file_count,
                   stored->catalog.file_count == 1 ? "" : "s", stored->slice_count);
    }
    if (v.faults > 0)
        printf("%s: %" PRId64 " fault%s\n", path, v.faults, v.faults == 1 ? "" : "s");
    trm_stored_close(stored);
    *faults += v.faults;
    return v.faults > 0 ? TRM_OK : status;
}

/* A directory: each of its checkpoints, newest first. */
static enum trm_status verify_all(const char *directory, int64_t *faults, struct trm_error *err)
{
    int64_t *steps = NULL;
    int count = 0;
    char path[TRM_PATH_BYTES];
    enum trm_status status = trm_store_list(directory, &steps, &count, err);
    if (status == TRM_OK && count == 0)
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "no checkpoint in \"%s\"", directory);
    for (int i = 0; status == TRM_OK && i < count; i++) {
        status = trm_store_step_path(directory, steps[i], path, err);
        if (status == TRM_OK)
            status = verify_one(path, steps[i], faults, err);
    }
    free(steps);
    return status;
}

int trm_ckpt_verify(int argc, char **argv)
{
    struct trm_ckpt_options options;
    struct trm_error err = {0};
    char manifest[TRM_PATH_BYTES];
    int64_t faults = 0;
    if (!trm_ckpt_parse("verify", "", argc, argv, &options))
        return TRM_EXIT_USAGE;
    enum trm_status status = trm_file_path(manifest, &err, "%s/" TRM_CKPT_MANIFEST, options.source);
    if (status == TRM_OK && !trm_file_exists(options.source))
        status = trm_error_set(&err, TRM_ERR_NOT_FOUND, "there is no \"%s\"", options.source);
    if (status == TRM_OK)
        status = trm_file_exists(manifest) ? verify_one(options.source, -1, &faults, &err)
                                           : verify_all(options.source, &faults, &err);
    if (faults > 0)
        return TRM_EXIT_DIFFERENT;
    return status == TRM_OK ? TRM_EXIT_OK : trm_ckpt_fail(&err);
}
