/* `trireme ckpt export CKPT -o DIR`: the parameters as a Hugging Face GPT-2 directory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/restore.h"
#include "tools/ckpt.h"
#include "tools/ckpt_options.h"
#include "tools/formats/gpt2_names.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/safetensors.h"
#include "trainer/model/model.h"

#define CHUNK_BYTES ((int64_t)64 << 20) /* of a tensor at a time, and as much again to turn it */
#define PARTS_MAX   3

/* A tensor of the file: `parts` of ours from `numbers` on, turned and side by side if transposed.
 */
struct part_list {
    int numbers[PARTS_MAX]; /* in the checkpoint's catalog */
    int parts;
    bool transposed;
    int64_t rows, columns; /* of the file's matrix; a vector counts as one row */
};

struct export
{
    const struct trm_stored *stored;
    struct trm_config *config;
    struct trm_restore *restore;
    struct trm_source **sources;
    struct trm_safetensors_entry *entries; /* [count] */
    struct part_list *lists;               /* [count] */
    int count;
    char path[TRM_PATH_BYTES], temporary[TRM_PATH_BYTES];
    int fd;
    struct trm_ckpt_progress progress;
    int64_t bytes;
};

/* Our tensor as a part of the newest entry, or of a new one. */
static enum trm_status add_tensor(struct export *export, const struct trm_tensor_spec *spec,
                                  struct trm_error *err)
{
    const struct trm_catalog *catalog = &export->stored->catalog;
    int layer = -1, number = trm_catalog_find(catalog, spec->name);
    const struct trm_gpt2_name *name = trm_gpt2_name_find(spec->name, &layer);
    if (name == NULL)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "Hugging Face's GPT-2 has no \"%s\"",
                             spec->name);
    if (number < 0)
        return trm_error_set(err, TRM_ERR_MISMATCH, "\"%s\" has no tensor \"%s\"",
                             export->stored->path, spec->name);
    const struct trm_ckpt_tensor *tensor = &catalog->tensors[number];
    if (tensor->type != TRM_F32 || tensor->rows != spec->rows || tensor->columns != spec->columns)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "tensor \"%s\" is %" PRId64 " x %" PRId64 " %s; by the checkpoint's "
                             "configuration it is %" PRId64 " x %" PRId64 " float32",
                             spec->name, tensor->rows, tensor->columns, trm_type_name(tensor->type),
                             spec->rows, spec->columns);
    if (name->part == 0)
        export->count++;
    struct trm_safetensors_entry *entry = &export->entries[export->count - 1];
    struct part_list *list = &export->lists[export->count - 1];
    list->numbers[list->parts++] = number;
    if (name->part > 0)
        return TRM_OK;
    char text[TRM_TENSOR_NAME_BYTES];
    snprintf(entry->name, sizeof entry->name, TRM_HUGGINGFACE_PREFIX "%s",
             trm_gpt2_name_huggingface(name, layer, text, sizeof text));
    int64_t out_size = spec->rows * name->parts;
    list->transposed = name->transposed || spec->dims == 1;
    list->rows = list->transposed ? spec->columns : out_size;
    list->columns = list->transposed ? out_size : spec->columns;
    entry->dims = spec->dims;
    entry->shape[0] = spec->dims == 1 ? list->columns : list->rows;
    entry->shape[1] = list->columns;
    return TRM_OK;
}

static enum trm_status plan(struct export *export, struct trm_error *err)
{
    int count = trm_model_declare(export->config, 1, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);
    enum trm_status status = TRM_OK;
    export->entries = calloc((size_t)count, sizeof *export->entries);
    export->lists = calloc((size_t)count, sizeof *export->lists);
    if (specs == NULL || export->entries == NULL || export->lists == NULL) {
        free(specs);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", count);
    }
    trm_model_declare(export->config, 1, specs, count);
    for (int i = 0; status == TRM_OK && i < count; i++)
        status = add_tensor(export, &specs[i], err);
    free(specs);
    return status;
}

/* Rows [begin, end) of a matrix of the file into `out`; `turned` has as much room. */
static enum trm_status read_rows(const struct export *export, const struct part_list *list,
                                 int64_t begin, int64_t end, float *out, float *turned,
                                 struct trm_error *err)
{
    const struct trm_ckpt_tensor *tensors = export->stored->catalog.tensors;
    int64_t rows = end - begin, first = 0;
    if (!list->transposed) {
        struct trm_ckpt_piece piece = {
            list->numbers[0], TRM_KIND_PARAMETER, {begin, 0, rows, list->columns}, out};
        return trm_restore_run(export->restore, &piece, 1, NULL, err);
    }
    for (int p = 0; p < list->parts; p++) {
        int64_t width = tensors[list->numbers[p]].rows;
        struct trm_ckpt_piece piece = {
            list->numbers[p], TRM_KIND_PARAMETER, {0, begin, width, rows}, turned};
        enum trm_status status = trm_restore_run(export->restore, &piece, 1, NULL, err);
        if (status != TRM_OK)
            return status;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 0; column < width; column++)
                out[row * list->columns + first + column] = turned[column * rows + row];
        first += width;
    }
    return TRM_OK;
}

static enum trm_status write_tensor(struct export *export, int number, struct trm_error *err)
{
    const struct part_list *list = &export->lists[number];
    int64_t row_bytes = list->columns * (int64_t)sizeof(float);
    int64_t most = row_bytes < CHUNK_BYTES ? CHUNK_BYTES / row_bytes : 1;
    most = most < list->rows ? most : list->rows;
    float *out = malloc((size_t)(most * row_bytes)), *turned = malloc((size_t)(most * row_bytes));
    enum trm_status status = TRM_OK;
    if (out == NULL || turned == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for \"%s\"",
                               export->entries[number].name);
    for (int64_t row = 0; status == TRM_OK && row < list->rows; row += most) {
        int64_t end = row + most < list->rows ? row + most : list->rows;
        size_t bytes = (size_t)((end - row) * row_bytes);
        status = read_rows(export, list, row, end, out, turned, err);
        if (status == TRM_OK)
            status = trm_file_write_at(export->fd, out, bytes,
                                       export->entries[number].offset + row * row_bytes,
                                       export->temporary, err);
        export->bytes += (int64_t)bytes;
        trm_ckpt_progress_show(&export->progress, export->bytes);
    }
    free(out);
    free(turned);
    return status;
}

/* The tensors under a temporary name, durable. */
static enum trm_status write_tensors(struct export *export, struct trm_error *err)
{
    char *header = NULL;
    size_t header_bytes = 0;
    enum trm_status status =
        trm_safetensors_plan(export->entries, export->count, &header, &header_bytes, err);
    if (status != TRM_OK)
        return status;
    export->fd = open(export->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (export->fd < 0)
        status = trm_error_set_errno(err, errno, "could not create \"%s\"", export->temporary);
    else
        status = trm_file_write_at(export->fd, header, header_bytes, 0, export->temporary, err);
    free(header);
    for (int i = 0; status == TRM_OK && i < export->count; i++)
        status = write_tensor(export, i, err);
    if (status == TRM_OK)
        status = trm_file_sync(export->fd, export->temporary, err);
    if (export->fd >= 0 && close(export->fd) != 0 && status == TRM_OK)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", export->temporary);
    export->fd = -1;
    return status;
}

static enum trm_status make_directory(struct export *export, const char *directory,
                                      struct trm_error *err)
{
    enum trm_status status =
        trm_file_path(export->path, err, "%s/" TRM_HUGGINGFACE_TENSORS, directory);
    if (status == TRM_OK)
        status = trm_file_path(export->temporary, err, "%s.tmp", export->path);
    if (status == TRM_OK && trm_file_exists(export->path))
        return trm_error_set(err, TRM_ERR_CONFIG, "\"%s\" is there already; name another directory",
                             export->path);
    return status == TRM_OK ? trm_file_make_directories(directory, err) : status;
}

/* config.json first: a directory with tensors is a whole one. */
static enum trm_status write_directory(struct export *export, const char *directory,
                                       struct trm_error *err)
{
    char config_path[TRM_PATH_BYTES];
    char *config = trm_huggingface_config(export->config);
    enum trm_status status = make_directory(export, directory, err);
    if (status == TRM_OK && config == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a configuration");
    if (status == TRM_OK)
        status = trm_file_path(config_path, err, "%s/" TRM_HUGGINGFACE_CONFIG, directory);
    if (status == TRM_OK) {
        status = write_tensors(export, err);
        if (status == TRM_OK)
            status = trm_file_replace(config_path, config, strlen(config), err);
        if (status == TRM_OK && rename(export->temporary, export->path) != 0)
            status = trm_error_set_errno(err, errno, "could not rename \"%s\"", export->temporary);
        if (status == TRM_OK)
            status = trm_file_sync_directory(directory, err);
        else
            (void)unlink(export->temporary);
    }
    free(config);
    return status;
}

static enum trm_status run_export(struct export *export, const char *directory,
                                  struct trm_error *err)
{
    const struct trm_catalog *catalog = &export->stored->catalog;
    enum trm_status status =
        trm_foreign_config(catalog->state.config_yaml, export->stored->path, &export->config, err);
    if (status == TRM_OK)
        status = plan(export, err);
    if (status == TRM_OK)
        status = trm_sources_of_stored(export->stored, &export->sources, err);
    if (status == TRM_OK)
        status = trm_restore_create(catalog->tensors, catalog->tensor_count, export->sources,
                                    catalog->file_count, NULL, NULL, &export->restore, err);
    if (status == TRM_OK) {
        int64_t bytes = 0;
        for (int i = 0; i < export->count; i++)
            bytes += export->lists[i].rows * export->lists[i].columns * (int64_t)sizeof(float);
        trm_ckpt_progress_begin(&export->progress, "exporting", bytes);
        status = write_directory(export, directory, err);
        trm_ckpt_progress_end(&export->progress);
    }
    trm_restore_destroy(export->restore);
    trm_sources_destroy(export->sources, catalog->file_count);
    trm_config_destroy(export->config);
    return status;
}

int trm_ckpt_export(int argc, char **argv)
{
    struct trm_ckpt_options options;
    struct trm_stored *stored = NULL;
    struct export export = {.fd = -1};
    struct trm_error err = {0};
    char size[32];
    if (!trm_ckpt_parse("export", "o", argc, argv, &options))
        return TRM_EXIT_USAGE;
    enum trm_status status = trm_ckpt_open(options.source, &stored, &err);
    if (status == TRM_OK) {
        export.stored = stored;
        status = run_export(&export, options.output, &err);
    }
    if (status == TRM_OK)
        printf("%s: %d tensors, %s\n", export.path, export.count,
               trm_human_bytes(size, sizeof size, (uint64_t) export.bytes));
    free(export.entries);
    free(export.lists);
    trm_stored_close(stored);
    return status == TRM_OK ? TRM_EXIT_OK : trm_ckpt_fail(&err);
}
