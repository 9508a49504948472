#include "checkpoint/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "checkpoint/stored.h"

#define STEP_DIGITS 8

enum trm_status trm_store_step_path(const char *directory, int64_t step, char path[TRM_PATH_BYTES],
                                    struct trm_error *err)
{
    return trm_file_path(path, err, "%s/step-%08" PRId64, directory, step);
}

enum trm_status trm_store_stage_path(const char *directory, int64_t step, int64_t attempt,
                                     char path[TRM_PATH_BYTES], struct trm_error *err)
{
    return trm_file_path(path, err, "%s/.step-%08" PRId64 ".a%" PRId64 ".tmp", directory, step,
                         attempt);
}

/* Where a checkpoint is hidden that is to go: for good, or for one that takes its place. */
#define REMOVED  ".removed.tmp"
#define REPLACED ".replaced.tmp"

static enum trm_status hidden_path(const char *directory, int64_t step, int64_t attempt,
                                   const char *suffix, char path[TRM_PATH_BYTES],
                                   struct trm_error *err)
{
    return trm_file_path(path, err, "%s/.step-%08" PRId64 ".a%" PRId64 "%s", directory, step,
                         attempt, suffix);
}

/* Digits at `text`, exactly as %0*lld prints them; moves *end behind them. */
static bool read_number(const char *text, int minimum_digits, int64_t *value, const char **end)
{
    int digits = 0;
    int64_t read = 0;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        if (digits >= 18)
            return false;
        read = read * 10 + (text[digits] - '0');
    }
    if (digits < minimum_digits || (digits > minimum_digits && text[0] == '0'))
        return false;
    *value = read;
    *end = text + digits;
    return true;
}

static bool is_step_name(const char *name, int64_t *step)
{
    const char *end = NULL;
    return strncmp(name, "step-", 5) == 0 && read_number(name + 5, STEP_DIGITS, step, &end) &&
           *end == '\0';
}

/* A hidden name of this module: of which step, and which attempt left it. */
static bool is_hidden_name(const char *name, int64_t *step, int64_t *attempt, const char **suffix)
{
    if (strncmp(name, ".step-", 6) != 0 || !read_number(name + 6, STEP_DIGITS, step, suffix) ||
        strncmp(*suffix, ".a", 2) != 0 || !read_number(*suffix + 2, 1, attempt, suffix))
        return false;
    return strcmp(*suffix, ".tmp") == 0 || strcmp(*suffix, REMOVED) == 0 ||
           strcmp(*suffix, REPLACED) == 0;
}

static int newest_first(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a < b) - (a > b);
}

enum trm_status trm_store_list(const char *directory, int64_t **steps, int *count,
                               struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int used = 0, room = 64;
    int64_t *found = NULL;
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return trm_error_set_errno(err, errno, "could not open the directory \"%s\"", directory);
    found = malloc((size_t)room * sizeof(*found));
    errno = 0;
    for (struct dirent *entry; found != NULL && (entry = readdir(stream)) != NULL; errno = 0) {
        int64_t step = 0;
        if (!is_step_name(entry->d_name, &step))
            continue;
        if (used == room) {
            room *= 2;
            int64_t *larger = realloc(found, (size_t)room * sizeof(*found));
            if (larger == NULL)
                free(found);
            found = larger;
            if (found == NULL)
                break;
        }
        found[used++] = step;
    }
    if (found == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for listing \"%s\"", directory);
    else if (errno != 0)
        status = trm_error_set_errno(err, errno, "could not read the directory \"%s\"", directory);
    closedir(stream);
    if (status != TRM_OK) {
        free(found);
        return status;
    }
    qsort(found, (size_t)used, sizeof(*found), newest_first);
    *steps = found;
    *count = used;
    return TRM_OK;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool same_state(const struct trm_ckpt_state *a, const struct trm_ckpt_state *b)
{
    return a->step == b->step && a->lineage == b->lineage && a->next_sample == b->next_sample &&
           a->data_hash == b->data_hash && same_text(a->config_yaml, b->config_yaml) &&
           same_text(a->fingerprint, b->fingerprint);
}

enum trm_status trm_store_holds(const char *directory, const struct trm_ckpt_state *state,
                                bool *holds, struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    struct trm_stored *stored = NULL;
    enum trm_status status = trm_store_step_path(directory, state->step, path, err);
    if (status != TRM_OK)
        return status;
    *holds = false;
    if (!trm_file_exists(path))
        return TRM_OK;
    struct trm_catalog catalog = {0};
    if (trm_stored_read_catalog(path, &catalog, NULL) != TRM_OK)
        return TRM_OK; /* not sound: to be replaced */
    if (strcmp(catalog.state.run_id, state->run_id) != 0)
        status = trm_error_set(err, TRM_ERR_MISMATCH,
                               "\"%s\" is there already and belongs to run %s, this is run %s: "
                               "save to another directory",
                               path, catalog.state.run_id, state->run_id);
    else if (catalog.state.lineage > state->lineage) {
        /* One that a later attempt, which began from something older, found and could not load is
         * nobody's future any more. */
        if (catalog.state.attempt >= state->attempt &&
            trm_stored_open(path, &stored, NULL) == TRM_OK)
            status = trm_error_set(err, TRM_ERR_MISMATCH,
                                   "\"%s\" is there already, of lineage %" PRId64
                                   "; this attempt is of the older lineage %" PRId64,
                                   path, catalog.state.lineage, state->lineage);
    } else if (same_state(&catalog.state, state))
        *holds = trm_stored_open(path, &stored, NULL) == TRM_OK;
    trm_stored_close(stored);
    trm_catalog_destroy(&catalog);
    return status;
}

/* What was hidden while it was being replaced, and is the only one of its step: a checkpoint. */
static bool is_the_only_one(const char *directory, int64_t step, const char *suffix)
{
    char path[TRM_PATH_BYTES];
    return strcmp(suffix, REPLACED) == 0 &&
           (trm_store_step_path(directory, step, path, NULL) != TRM_OK || !trm_file_exists(path));
}

/* Removes hidden leftovers of attempts up to `attempt`; later attempts are none of our business. */
static enum trm_status remove_stale(const char *directory, int64_t attempt, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return trm_error_set_errno(err, errno, "could not open the directory \"%s\"", directory);
    for (struct dirent *entry; status == TRM_OK && (entry = readdir(stream)) != NULL;) {
        int64_t step = 0, left_by = 0;
        const char *suffix = NULL;
        char path[TRM_PATH_BYTES];
        if (!is_hidden_name(entry->d_name, &step, &left_by, &suffix) || left_by > attempt ||
            is_the_only_one(directory, step, suffix))
            continue;
        status = trm_file_path(path, err, "%s/%s", directory, entry->d_name);
        if (status == TRM_OK)
            status = trm_file_remove_tree(path, err);
    }
    closedir(stream);
    return status;
}

void trm_store_recover(const char *directory)
{
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        int64_t step = 0, left_by = 0;
        const char *suffix = NULL;
        char hidden[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
        if (!is_hidden_name(entry->d_name, &step, &left_by, &suffix) ||
            strcmp(suffix, REPLACED) != 0 ||
            trm_file_path(hidden, NULL, "%s/%s", directory, entry->d_name) != TRM_OK ||
            trm_store_step_path(directory, step, path, NULL) != TRM_OK)
            continue;
        if (!trm_file_exists(path))
            (void)rename(hidden, path);
    }
    closedir(stream);
}

/* The folder that holds `path`, in its place. */
static void to_parent(char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    if (end == 0)
        path[end++] = '.';
    path[end] = '\0';
}

/* mkdir -p. The names of the directory and of what was made above it are durable then: a
 * checkpoint that is committed below a name that a crash undoes is lost. */
static enum trm_status make_directory(const char *directory, struct trm_error *err)
{
    char there[TRM_PATH_BYTES], parent[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(there, err, "%s", directory);
    if (status == TRM_OK)
        status = trm_file_path(parent, err, "%s", directory);
    if (status != TRM_OK)
        return status;
    do
        to_parent(there);
    while (!trm_file_exists(there) && strcmp(there, ".") != 0 && strcmp(there, "/") != 0);
    status = trm_file_make_directories(directory, err);
    while (status == TRM_OK && strcmp(parent, there) != 0) {
        to_parent(parent);
        /* A folder that may be written and not read cannot be synced. */
        if (access(parent, R_OK) == 0)
            status = trm_file_sync_directory(parent, err);
    }
    return status;
}

enum trm_status trm_store_stage(const char *directory, int64_t step, int64_t attempt,
                                struct trm_error *err)
{
    char stage[TRM_PATH_BYTES];
    enum trm_status status = trm_store_stage_path(directory, step, attempt, stage, err);
    if (status == TRM_OK)
        status = make_directory(directory, err);
    /* What a crash hid in the middle of a replacement is a checkpoint, not a leftover. */
    if (status == TRM_OK)
        trm_store_recover(directory);
    if (status == TRM_OK)
        status = remove_stale(directory, attempt, err);
    if (status == TRM_OK && mkdir(stage, 0777) != 0)
        status = trm_error_set_errno(err, errno, "could not make the directory \"%s\"", stage);
    return status;
}

static enum trm_status write_manifest(const char *stage, const struct trm_catalog *catalog,
                                      struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    enum trm_status status = trm_file_path(path, err, "%s/" TRM_CKPT_MANIFEST, stage);
    if (status == TRM_OK)
        status = trm_manifest_format(catalog, &text, &bytes, err);
    if (status == TRM_OK)
        status = trm_file_write_all(path, text, bytes, true, err);
    free(text);
    return status;
}

/* True when the checkpoint at `path` is the one of this very save. */
static bool is_ours(const char *path, uint64_t nonce)
{
    struct trm_catalog catalog = {0};
    bool ours = trm_stored_read_catalog(path, &catalog, NULL) == TRM_OK && catalog.nonce == nonce;
    trm_catalog_destroy(&catalog);
    return ours;
}

/* Makes `stage` the checkpoint `final`; one that is there already ends up at `aside`, or at
 * `stage` where the file system can exchange two names in one go. */
static enum trm_status put_in_place(const char *stage, const char *final, const char *aside,
                                    uint64_t nonce, struct trm_error *err)
{
    if (renameat2(AT_FDCWD, stage, AT_FDCWD, final, RENAME_EXCHANGE) == 0)
        return TRM_OK;
    bool replaced = rename(final, aside) == 0;
    if (!replaced && errno != ENOENT)
        return trm_error_set_errno(err, errno, "could not put \"%s\" aside", final);
    if (rename(stage, final) == 0)
        return TRM_OK;
    int reason = errno;
    if (is_ours(final, nonce))
        return TRM_OK;
    if (replaced)
        (void)rename(aside, final);
    return trm_error_set_errno(err, reason, "could not rename \"%s\" to \"%s\"", stage, final);
}

enum trm_status trm_store_commit(const char *directory, const struct trm_catalog *catalog,
                                 struct trm_error *err)
{
    int64_t step = catalog->state.step, attempt = catalog->state.attempt;
    char stage[TRM_PATH_BYTES], final[TRM_PATH_BYTES], aside[TRM_PATH_BYTES];
    enum trm_status status = trm_store_stage_path(directory, step, attempt, stage, err);
    if (status == TRM_OK)
        status = trm_store_step_path(directory, step, final, err);
    if (status == TRM_OK)
        status = hidden_path(directory, step, attempt, REPLACED, aside, err);
    if (status == TRM_OK)
        status = trm_file_remove_tree(aside, err);
    /* The shards' names are durable before a manifest that promises them can be. */
    if (status == TRM_OK)
        status = trm_file_sync_directory(stage, err);
    if (status == TRM_OK)
        status = write_manifest(stage, catalog, err);
    if (status == TRM_OK)
        status = trm_file_sync_directory(stage, err);
    if (status == TRM_OK)
        status = put_in_place(stage, final, aside, catalog->nonce, err);
    if (status == TRM_OK)
        status = trm_file_sync_directory(directory, err);
    /* What was replaced goes last; if that fails, the next save tries again. */
    if (status == TRM_OK) {
        (void)trm_file_remove_tree(stage, NULL);
        (void)trm_file_remove_tree(aside, NULL);
    }
    return status;
}

enum trm_status trm_store_discard(const char *directory, int64_t step, int64_t attempt,
                                  struct trm_error *err)
{
    char stage[TRM_PATH_BYTES];
    enum trm_status status = trm_store_stage_path(directory, step, attempt, stage, err);
    return status == TRM_OK ? trm_file_remove_tree(stage, err) : status;
}

enum trm_status trm_store_remove(const char *directory, int64_t step, int64_t attempt,
                                 struct trm_error *err)
{
    char path[TRM_PATH_BYTES], aside[TRM_PATH_BYTES];
    enum trm_status status = trm_store_step_path(directory, step, path, err);
    if (status == TRM_OK)
        status = hidden_path(directory, step, attempt, REMOVED, aside, err);
    if (status == TRM_OK)
        status = trm_file_remove_tree(aside, err);
    if (status == TRM_OK && rename(path, aside) != 0)
        status = trm_error_set_errno(err, errno, "could not put \"%s\" aside", path);
    if (status == TRM_OK)
        status = trm_file_sync_directory(directory, err);
    if (status == TRM_OK)
        status = trm_file_remove_tree(aside, err);
    return status;
}
