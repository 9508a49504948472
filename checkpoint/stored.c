#include "checkpoint/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"

#define PEEK_BYTES 4096 /* of a manifest, whose counters come first */

void trm_stored_close(struct trm_stored *stored)
{
    if (stored == NULL)
        return;
    trm_catalog_destroy(&stored->catalog);
    free(stored->slices);
    free(stored->file_begin);
    free(stored->manifest);
    free(stored);
}

/* Reads and parses the manifest; *text is returned owned. */
static enum trm_status read_manifest(const char *path, struct trm_catalog *catalog, char **text,
                                     size_t *bytes, struct trm_error *err)
{
    char manifest[TRM_PATH_BYTES];
    char *read = NULL;
    size_t read_bytes = 0;
    enum trm_status status = trm_file_path(manifest, err, "%s/" TRM_CKPT_MANIFEST, path);
    if (status == TRM_OK)
        status = trm_file_read_all(manifest, TRM_MANIFEST_MAX_BYTES, &read, &read_bytes, err);
    if (status != TRM_OK)
        return status;
    status = trm_manifest_parse(read, read_bytes, catalog, err);
    if (status != TRM_OK) {
        free(read);
        return trm_error_prefix(err, "%s", manifest);
    }
    *text = read;
    *bytes = read_bytes;
    return TRM_OK;
}

enum trm_status trm_stored_read_catalog(const char *path, struct trm_catalog *catalog,
                                        struct trm_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    enum trm_status status = read_manifest(path, catalog, &text, &bytes, err);
    free(text);
    return status;
}

/* Room for the tables that the catalog announces. */
static enum trm_status allocate_tables(struct trm_stored *stored, struct trm_error *err)
{
    int file_count = stored->catalog.file_count;
    stored->file_begin = calloc((size_t)file_count + 1, sizeof(*stored->file_begin));
    if (stored->file_begin == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d files", file_count);
    for (int i = 0; i < file_count; i++)
        stored->file_begin[i + 1] = stored->file_begin[i] + stored->catalog.files[i].slice_count;
    stored->slice_count = stored->file_begin[file_count];
    stored->slices = malloc((size_t)stored->slice_count * sizeof(*stored->slices) + 1);
    if (stored->slices == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld slices",
                             (long long)stored->slice_count);
    return TRM_OK;
}

/* Every tensor exactly once in every kind, over all shards. */
static enum trm_status check_cover(const struct trm_stored *stored, struct trm_error *err)
{
    const struct trm_catalog *catalog = &stored->catalog;
    enum trm_status status = TRM_OK;
    struct trm_cover *covers =
        calloc((size_t)catalog->tensor_count * TRM_KIND_COUNT, sizeof(*covers));
    if (covers == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensors",
                             catalog->tensor_count);
    for (int64_t i = 0; i < stored->slice_count; i++) {
        const struct trm_slice *slice = &stored->slices[i];
        trm_cover_add(&covers[slice->tensor * TRM_KIND_COUNT + slice->kind],
                      catalog->tensors[slice->tensor].columns, slice->rect);
    }
    for (int t = 0; status == TRM_OK && t < catalog->tensor_count; t++) {
        const struct trm_ckpt_tensor *tensor = &catalog->tensors[t];
        struct trm_cover whole = {0};
        trm_cover_add(&whole, tensor->columns, trm_ckpt_tensor_rect(tensor));
        for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++)
            if (catalog->kinds[kind] && !trm_cover_equal(covers[t * TRM_KIND_COUNT + kind], whole))
                status = trm_error_set(
                    err, TRM_ERR_CORRUPT, "%s: its slices do not cover %s of \"%s\" exactly once",
                    stored->path, trm_ckpt_kind_name((enum trm_ckpt_kind)kind), tensor->name);
    }
    free(covers);
    return status;
}

static enum trm_status read_tables(struct trm_stored *stored, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int i = 0; status == TRM_OK && i < stored->catalog.file_count; i++) {
        const struct trm_ckpt_file *file = &stored->catalog.files[i];
        char path[TRM_PATH_BYTES];
        status = trm_file_path(path, err, "%s/%s", stored->path, file->name);
        if (status == TRM_OK)
            status = trm_shard_read_table(path, &stored->catalog, file,
                                          &stored->slices[stored->file_begin[i]], err);
    }
    return status;
}

enum trm_status trm_stored_open(const char *path, struct trm_stored **out, struct trm_error *err)
{
    struct trm_stored *stored = calloc(1, sizeof(*stored));
    if (stored == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for opening \"%s\"", path);
    enum trm_status status = trm_file_path(stored->path, err, "%s", path);
    if (status == TRM_OK)
        status =
            read_manifest(path, &stored->catalog, &stored->manifest, &stored->manifest_bytes, err);
    if (status == TRM_OK)
        status = allocate_tables(stored, err);
    if (status == TRM_OK)
        status = read_tables(stored, err);
    if (status == TRM_OK)
        status = check_cover(stored, err);
    /* "Not found" makes a program start afresh; a checkpoint with something missing must not. */
    if (status == TRM_ERR_NOT_FOUND && trm_file_exists(path)) {
        status = TRM_ERR_CORRUPT;
        if (err != NULL)
            err->status = status;
    }
    if (status != TRM_OK) {
        trm_stored_close(stored);
        return status;
    }
    *out = stored;
    return TRM_OK;
}

enum trm_status trm_stored_rebuild(const char *path, const char *manifest, size_t manifest_bytes,
                                   const struct trm_slice *slices, int64_t slice_count,
                                   struct trm_stored **out, struct trm_error *err)
{
    struct trm_stored *stored = calloc(1, sizeof(*stored));
    if (stored == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for \"%s\"", path);
    enum trm_status status = trm_file_path(stored->path, err, "%s", path);
    if (status == TRM_OK)
        status = trm_manifest_parse(manifest, manifest_bytes, &stored->catalog, err);
    if (status == TRM_OK)
        status = allocate_tables(stored, err);
    if (status == TRM_OK && stored->slice_count != slice_count)
        status = trm_error_set(err, TRM_ERR_INTERNAL, "\"%s\" arrived with %lld slices, not %lld",
                               path, (long long)slice_count, (long long)stored->slice_count);
    if (status == TRM_OK && (stored->manifest = malloc(manifest_bytes + 1)) == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for \"%s\"", path);
    if (status != TRM_OK) {
        trm_stored_close(stored);
        return status;
    }
    memcpy(stored->manifest, manifest, manifest_bytes);
    stored->manifest[manifest_bytes] = '\0';
    stored->manifest_bytes = manifest_bytes;
    memcpy(stored->slices, slices, (size_t)slice_count * sizeof(*slices));
    *out = stored;
    return TRM_OK;
}

/* A member of a directory of checkpoints: it must be of the step that its name says. */
static enum trm_status open_step(const char *directory, int64_t step, struct trm_stored **out,
                                 struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    struct trm_stored *stored = NULL;
    enum trm_status status = trm_store_step_path(directory, step, path, err);
    if (status == TRM_OK)
        status = trm_stored_open(path, &stored, err);
    if (status != TRM_OK)
        return status;
    if (stored->catalog.state.step != step) {
        status = trm_error_set(err, TRM_ERR_MISMATCH, "%s: its manifest is of step %lld", path,
                               (long long)stored->catalog.state.step);
        trm_stored_close(stored);
        return status;
    }
    *out = stored;
    return TRM_OK;
}

/* The lineage that a manifest claims, unchecked: for telling cheaply which ones to read. One that
 * doesn't say it in its first lines may be of any. */
static int64_t peek_lineage(const char *path)
{
    static const char key[] = "\"lineage\": ";
    char manifest[TRM_PATH_BYTES], text[PEEK_BYTES + 1] = "", *found;
    if (trm_file_path(manifest, NULL, "%s/" TRM_CKPT_MANIFEST, path) != TRM_OK)
        return INT64_MIN;
    int fd = open(manifest, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? pread(fd, text, PEEK_BYTES, 0) : -1;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return INT64_MIN;
    found = strstr(text, key);
    return found != NULL ? strtoll(found + sizeof(key) - 1, NULL, 10) : INT64_MAX;
}

/* Whether a rollback to `back` left `state` behind, and nobody went on from there. */
static bool goes_back_behind(const struct trm_ckpt_state *back, const struct trm_ckpt_state *state)
{
    return back->lineage > state->lineage && back->attempt >= state->attempt &&
           memcmp(back->run_id, state->run_id, sizeof(back->run_id)) == 0;
}

bool trm_stored_is_given_up(const char *directory, const struct trm_catalog *catalog,
                            const int64_t *steps, int count, int64_t *by)
{
    const struct trm_ckpt_state *state = &catalog->state;
    bool given_up = false;
    for (int i = count - 1; !given_up && i >= 0; i--) {
        char path[TRM_PATH_BYTES];
        struct trm_stored *other = NULL;
        if (steps[i] >= state->step ||
            trm_store_step_path(directory, steps[i], path, NULL) != TRM_OK ||
            peek_lineage(path) <= state->lineage ||
            open_step(directory, steps[i], &other, NULL) != TRM_OK)
            continue;
        const struct trm_ckpt_state *back = &other->catalog.state;
        given_up = goes_back_behind(back, state);
        if (given_up && by != NULL)
            *by = steps[i];
        trm_stored_close(other);
    }
    return given_up;
}

/* Opens steps[number], unless it was given up for an older one. */
static enum trm_status open_current(const char *directory, const int64_t *steps, int count,
                                    int number, struct trm_stored **out, struct trm_error *err)
{
    struct trm_stored *stored = NULL;
    int64_t by = 0;
    enum trm_status status = open_step(directory, steps[number], &stored, err);
    if (status != TRM_OK)
        return status;
    if (trm_stored_is_given_up(directory, &stored->catalog, steps, count, &by)) {
        status = trm_error_set(err, TRM_ERR_MISMATCH,
                               "%s: it is of lineage %" PRId64
                               ", which was given up: a rollback went back to step %" PRId64,
                               stored->path, stored->catalog.state.lineage, by);
        trm_stored_close(stored);
        return status;
    }
    *out = stored;
    return TRM_OK;
}

static enum trm_status open_newest_of(const char *directory, trm_passed_over_fn passed_over,
                                      void *context, struct trm_stored **out, struct trm_error *err)
{
    int64_t *steps = NULL;
    int count = 0;
    enum trm_status status = trm_store_list(directory, &steps, &count, err);
    if (status != TRM_OK)
        return status;
    if (count == 0)
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "no checkpoint in \"%s\"", directory);
    struct trm_error first = {0};
    for (int i = 0; i < count; i++) {
        struct trm_error reason = {0};
        status = open_current(directory, steps, count, i, out, &reason);
        if (status == TRM_OK)
            goto cleanup;
        if (status == TRM_ERR_MEMORY) {
            status = trm_error_set(err, status, "%s", reason.text);
            goto cleanup;
        }
        char path[TRM_PATH_BYTES];
        if (passed_over != NULL && trm_store_step_path(directory, steps[i], path, NULL) == TRM_OK)
            passed_over(context, path, reason.text);
        if (i == 0)
            first = reason;
    }
    if (count > 0)
        status = trm_error_set(err, TRM_ERR_CORRUPT,
                               "none of the %d checkpoints in \"%s\" is sound; the newest: %s",
                               count, directory, first.text);
cleanup:
    free(steps);
    return status;
}

/* What can't be looked at may well be there: no reason to start afresh. */
static enum trm_status look_for(const char *path, struct trm_error *err)
{
    struct stat info;
    if (stat(path, &info) == 0)
        return TRM_OK;
    if (errno == ENOENT || errno == ENOTDIR)
        return trm_error_set(err, TRM_ERR_NOT_FOUND, "there is no \"%s\"", path);
    return trm_error_set_errno(err, errno, "could not look at \"%s\"", path);
}

enum trm_status trm_stored_open_newest(const char *where, int64_t step,
                                       trm_passed_over_fn passed_over, void *context,
                                       struct trm_stored **out, struct trm_error *err)
{
    char manifest[TRM_PATH_BYTES];
    struct trm_stored *stored = NULL;
    enum trm_status status = trm_file_path(manifest, err, "%s/" TRM_CKPT_MANIFEST, where);
    if (status == TRM_OK)
        status = look_for(where, err);
    if (status != TRM_OK)
        return status;
    if (!trm_file_exists(manifest)) {
        if (step >= 0)
            return open_step(where, step, out, err);
        return open_newest_of(where, passed_over, context, out, err);
    }
    status = trm_stored_open(where, &stored, err);
    if (status != TRM_OK)
        return status;
    if (step >= 0 && stored->catalog.state.step != step) {
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "\"%s\" is of step %lld, not of step %lld",
                               where, (long long)stored->catalog.state.step, (long long)step);
        trm_stored_close(stored);
        return status;
    }
    *out = stored;
    return TRM_OK;
}
