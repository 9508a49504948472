#include "checkpoint/catalog.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/file.h"
#include "checkpoint/shard.h"

const char *trm_ckpt_kind_name(enum trm_ckpt_kind kind)
{
    static const char *const names[TRM_KIND_COUNT] = {
        [TRM_KIND_PARAMETER] = "parameter",
        [TRM_KIND_EXP_AVG] = "exp_avg",
        [TRM_KIND_EXP_AVG_SQ] = "exp_avg_sq",
    };
    TRM_ASSERT((unsigned)kind < TRM_KIND_COUNT);
    return names[kind];
}

struct trm_rect trm_ckpt_tensor_rect(const struct trm_ckpt_tensor *tensor)
{
    return (struct trm_rect){0, 0, tensor->rows, tensor->columns};
}

enum trm_status trm_ckpt_state_copy(const struct trm_ckpt_state *state, struct trm_ckpt_state *out,
                                    struct trm_error *err)
{
    struct trm_ckpt_state copy = *state;
    copy.config_yaml = strdup(state->config_yaml != NULL ? state->config_yaml : "");
    copy.fingerprint = strdup(state->fingerprint != NULL ? state->fingerprint : "");
    copy.skips = calloc((size_t)state->skip_count + 1, sizeof(*copy.skips));
    if (copy.config_yaml == NULL || copy.fingerprint == NULL || copy.skips == NULL) {
        trm_ckpt_state_destroy(&copy);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a copy of the training state");
    }
    if (state->skip_count > 0)
        memcpy(copy.skips, state->skips, (size_t)state->skip_count * sizeof(*copy.skips));
    *out = copy;
    return TRM_OK;
}

void trm_ckpt_state_destroy(struct trm_ckpt_state *state)
{
    if (state == NULL)
        return;
    free(state->skips);
    free(state->config_yaml);
    free(state->fingerprint);
    state->skips = NULL;
    state->config_yaml = NULL;
    state->fingerprint = NULL;
    state->skip_count = 0;
}

/* Names become file and HDF5 link names in places, so nothing that means something there. */
static bool name_is_safe(const char *name)
{
    if (name[0] == '\0' || name[0] == '.')
        return false;
    for (const char *c = name; *c != '\0'; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        bool digit = *c >= '0' && *c <= '9';
        if (!letter && !digit && *c != '.' && *c != '_' && *c != '-')
            return false;
    }
    return true;
}

static enum trm_status check_state(const struct trm_ckpt_state *state, struct trm_error *err)
{
    if (!name_is_safe(state->run_id))
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "run_id \"%.40s\" is not made of letters, digits, '.', '_' and '-'",
                             state->run_id);
    const struct {
        const char *name;
        int64_t value, minimum;
    } counters[] = {
        {"lineage", state->lineage, 0},
        {"attempt", state->attempt, 0},
        {"step", state->step, 0},
        {"next_sample", state->next_sample, 0},
        {"data_parallel_size", state->data_parallel_size, 1},
        {"tensor_model_parallel_size", state->tensor_model_parallel_size, 1},
        {"skips_in_row", state->skips_in_row, 0},
    };
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
        if (counters[i].value < counters[i].minimum)
            return trm_error_set(err, TRM_ERR_CORRUPT, "%s is %lld, below %lld", counters[i].name,
                                 (long long)counters[i].value, (long long)counters[i].minimum);
    int64_t end = 0;
    for (int i = 0; i < state->skip_count; i++) {
        struct trm_ckpt_skip skip = state->skips[i];
        if (skip.first < end || skip.count < 1 || skip.count > INT64_MAX - skip.first)
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "skip %d [%lld, %lld] is not a range behind the one before it", i,
                                 (long long)skip.first, (long long)skip.count);
        end = skip.first + skip.count;
    }
    if (state->recent_loss_count < 0 || state->recent_loss_count > TRM_CKPT_MAX_LOSSES)
        return trm_error_set(err, TRM_ERR_CORRUPT, "it keeps %d recent losses, not 0 to %d",
                             state->recent_loss_count, TRM_CKPT_MAX_LOSSES);
    for (int i = 0; i < state->recent_loss_count; i++)
        if (!isfinite(state->recent_losses[i]))
            return trm_error_set(err, TRM_ERR_CORRUPT, "recent loss %d is not finite", i);
    return TRM_OK;
}

static enum trm_status check_tensor(const struct trm_catalog *catalog, int number,
                                    int64_t *total_elements, struct trm_error *err)
{
    const struct trm_ckpt_tensor *tensor = &catalog->tensors[number];
    if (!name_is_safe(tensor->name))
        return trm_error_set(
            err, TRM_ERR_CORRUPT,
            "tensor %d: name \"%.96s\" is not made of letters, digits, '.', '_' and '-'", number,
            tensor->name);
    if (tensor->dims != 1 && tensor->dims != 2)
        return trm_error_set(err, TRM_ERR_CORRUPT, "tensor \"%s\" has %d dimensions, not 1 or 2",
                             tensor->name, tensor->dims);
    if (tensor->type != catalog->tensors[0].type)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "tensor \"%s\" is %s but tensor \"%s\" is %s: all must have one type",
                             tensor->name, trm_type_name(tensor->type), catalog->tensors[0].name,
                             trm_type_name(catalog->tensors[0].type));
    int64_t sides[2] = {tensor->rows, tensor->columns};
    for (int i = 0; i < 2; i++)
        if (sides[i] < 1 || sides[i] > TRM_CKPT_MAX_SIDE)
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "tensor \"%s\": dimension %d is %lld, not between 1 and 2^36",
                                 tensor->name, i, (long long)sides[i]);
    if (tensor->dims == 1 && tensor->columns != 1)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "tensor \"%s\" has one dimension and %lld columns", tensor->name,
                             (long long)tensor->columns);
    if (tensor->columns > (TRM_CKPT_MAX_ELEMENTS - *total_elements) / tensor->rows)
        return trm_error_set(
            err, TRM_ERR_CORRUPT,
            "tensor \"%s\" of %lld x %lld brings the tensors to over 2^44 elements", tensor->name,
            (long long)tensor->rows, (long long)tensor->columns);
    *total_elements += tensor->rows * tensor->columns;
    return TRM_OK;
}

static int compare_names(const void *left, const void *right, void *context)
{
    const struct trm_ckpt_tensor *tensors = context;
    return strcmp(tensors[*(const int *)left].name, tensors[*(const int *)right].name);
}

static enum trm_status check_tensors(struct trm_catalog *catalog, struct trm_error *err)
{
    if (catalog->tensor_count < 1 || catalog->tensor_count > TRM_CKPT_MAX_TENSORS)
        return trm_error_set(err, TRM_ERR_CORRUPT, "it lists %d tensors, not between 1 and %d",
                             catalog->tensor_count, TRM_CKPT_MAX_TENSORS);
    int64_t total_elements = 0;
    for (int i = 0; i < catalog->tensor_count; i++) {
        enum trm_status status = check_tensor(catalog, i, &total_elements, err);
        if (status != TRM_OK)
            return status;
    }
    free(catalog->by_name);
    catalog->by_name = malloc((size_t)catalog->tensor_count * sizeof(*catalog->by_name));
    if (catalog->by_name == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensor names",
                             catalog->tensor_count);
    for (int i = 0; i < catalog->tensor_count; i++)
        catalog->by_name[i] = i;
    qsort_r(catalog->by_name, (size_t)catalog->tensor_count, sizeof(*catalog->by_name),
            compare_names, catalog->tensors);
    for (int i = 1; i < catalog->tensor_count; i++) {
        const char *name = catalog->tensors[catalog->by_name[i]].name;
        if (strcmp(catalog->tensors[catalog->by_name[i - 1]].name, name) == 0)
            return trm_error_set(err, TRM_ERR_CORRUPT, "tensor \"%s\" is listed twice", name);
    }
    return TRM_OK;
}

/* Inside the file, and of `expected` bytes unless that is negative. */
static enum trm_status check_range(const struct trm_ckpt_file *file, const char *name,
                                   struct trm_ckpt_range range, int64_t expected,
                                   struct trm_error *err)
{
    if (range.offset < 0 || range.bytes < 0 || range.bytes > file->bytes ||
        range.offset > file->bytes - range.bytes)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "file \"%s\": %s at [%lld, %lld] lies outside its %lld bytes",
                             file->name, name, (long long)range.offset, (long long)range.bytes,
                             (long long)file->bytes);
    if (expected >= 0 && range.bytes != expected)
        return trm_error_set(err, TRM_ERR_CORRUPT, "file \"%s\": %s has %lld bytes, not %lld",
                             file->name, name, (long long)range.bytes, (long long)expected);
    return TRM_OK;
}

static enum trm_status check_file_name(const struct trm_catalog *catalog, int number,
                                       struct trm_error *err)
{
    const struct trm_ckpt_file *file = &catalog->files[number];
    char expected[64];
    snprintf(expected, sizeof(expected), "shard-%05d.h5", file->shard);
    if (!trm_file_name_is_plain(file->name))
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "file name \"%s\" is not a plain name inside the checkpoint",
                             file->name);
    if (file->shard < 0 || file->shard >= catalog->shard_count)
        return trm_error_set(err, TRM_ERR_CORRUPT, "file \"%s\": shard %d is not between 0 and %d",
                             file->name, file->shard, catalog->shard_count - 1);
    if (strcmp(file->name, expected) != 0)
        return trm_error_set(err, TRM_ERR_CORRUPT, "file \"%s\" is not called \"%s\"", file->name,
                             expected);
    if (number > 0 && file->shard <= catalog->files[number - 1].shard)
        return trm_error_set(err, TRM_ERR_CORRUPT, "file \"%s\" is listed twice or out of order",
                             file->name);
    return TRM_OK;
}

static enum trm_status check_file(const struct trm_catalog *catalog, int number,
                                  int64_t *total_slices, struct trm_error *err)
{
    const struct trm_ckpt_file *file = &catalog->files[number];
    enum trm_status status = check_file_name(catalog, number, err);
    if (status != TRM_OK)
        return status;
    if (file->slice_count < 1 || file->slice_count > TRM_CKPT_MAX_SLICES - *total_slices)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "file \"%s\": %lld slices; a checkpoint has between 1 and %d",
                             file->name, (long long)file->slice_count, TRM_CKPT_MAX_SLICES);
    *total_slices += file->slice_count;
    status = check_range(file, "identity", file->identity, TRM_SHARD_IDENTITY_BYTES, err);
    if (status == TRM_OK)
        status =
            check_range(file, "slices", file->slices, file->slice_count * TRM_SLICE_ROW_BYTES, err);
    if (status == TRM_OK)
        status = check_range(file, "checksums", file->checksums, file->slice_count * 8, err);
    for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++)
        status = check_range(file, trm_ckpt_kind_name((enum trm_ckpt_kind)kind), file->data[kind],
                             -1, err);
    return status;
}

enum trm_status trm_catalog_check(struct trm_catalog *catalog, struct trm_error *err)
{
    enum trm_status status = check_state(&catalog->state, err);
    if (status == TRM_OK)
        status = check_tensors(catalog, err);
    if (status != TRM_OK)
        return status;
    if (!catalog->kinds[TRM_KIND_PARAMETER])
        return trm_error_set(err, TRM_ERR_CORRUPT, "kinds: \"parameter\" is missing");
    if (catalog->shard_count < 1 || catalog->shard_count > TRM_CKPT_MAX_FILES)
        return trm_error_set(err, TRM_ERR_CORRUPT, "shard_count is %d, not between 1 and %d",
                             catalog->shard_count, TRM_CKPT_MAX_FILES);
    int64_t total_slices = 0;
    for (int i = 0; status == TRM_OK && i < catalog->file_count; i++)
        status = check_file(catalog, i, &total_slices, err);
    return status;
}

int trm_catalog_find(const struct trm_catalog *catalog, const char *name)
{
    int low = 0, high = catalog->tensor_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(name, catalog->tensors[catalog->by_name[middle]].name);
        if (order == 0)
            return catalog->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int64_t trm_catalog_bytes(const struct trm_catalog *catalog)
{
    int64_t bytes = 0;
    for (int i = 0; i < catalog->tensor_count; i++)
        bytes += trm_rect_elements(trm_ckpt_tensor_rect(&catalog->tensors[i])) *
                 (int64_t)trm_type_bytes(catalog->tensors[i].type);
    int kinds = 0;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        kinds += catalog->kinds[kind];
    return bytes * kinds;
}

void trm_catalog_destroy(struct trm_catalog *catalog)
{
    if (catalog == NULL)
        return;
    trm_ckpt_state_destroy(&catalog->state);
    free(catalog->tensors);
    free(catalog->files);
    free(catalog->by_name);
    catalog->tensors = NULL;
    catalog->files = NULL;
    catalog->by_name = NULL;
}
