/* `trireme ckpt inspect CKPT [--json]`: what a checkpoint says about itself. Manifest and slice
 * tables are checked, tensors are not read. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/ckpt.h"
#include "tools/ckpt_options.h"

static int kind_count(const struct trm_catalog *catalog)
{
    int count = 0;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        count += catalog->kinds[kind];
    return count;
}

static int64_t tensor_bytes(const struct trm_ckpt_tensor *tensor)
{
    return trm_rect_elements(trm_ckpt_tensor_rect(tensor)) * (int64_t)trm_type_bytes(tensor->type);
}

static int64_t disk_bytes(const struct trm_catalog *catalog)
{
    int64_t bytes = 0;
    for (int i = 0; i < catalog->file_count; i++)
        bytes += catalog->files[i].bytes;
    return bytes;
}

static int64_t skipped_samples(const struct trm_ckpt_state *state)
{
    int64_t count = 0;
    for (int i = 0; i < state->skip_count; i++)
        count += state->skips[i].count;
    return count;
}

static char *shape_text(const struct trm_ckpt_tensor *tensor, char *text, size_t text_bytes)
{
    if (tensor->dims == 2)
        snprintf(text, text_bytes, "%" PRId64 " x %" PRId64, tensor->rows, tensor->columns);
    else
        snprintf(text, text_bytes, "%" PRId64, tensor->rows);
    return text;
}

static void print_loss(const char *name, double loss)
{
    if (isnan(loss))
        printf("%-12s none\n", name);
    else
        printf("%-12s %.6f\n", name, loss);
}

/* The lines of one section of a configuration, as "key: value, ...". */
static void print_section(const char *yaml, const char *section)
{
    size_t length = strlen(section);
    bool inside = false;
    const char *between = "";
    printf("%-12s ", section);
    for (const char *line = yaml, *next; *line != '\0'; line = next) {
        size_t bytes = strcspn(line, "\n");
        next = line + bytes + (line[bytes] == '\n');
        if (line[0] != ' ') {
            inside = strncmp(line, section, length) == 0 && line[length] == ':';
            continue;
        }
        size_t indent = strspn(line, " ");
        if (!inside || indent >= bytes)
            continue;
        printf("%s%.*s", between, (int)(bytes - indent), line + indent);
        between = ", ";
    }
    printf("%s\n", *between ? "" : "-");
}

static void print_summary(const struct trm_stored *stored)
{
    const struct trm_catalog *catalog = &stored->catalog;
    const struct trm_ckpt_state *state = &catalog->state;
    char size[32], count[32];
    uint64_t elements = (uint64_t)(trm_catalog_bytes(catalog) / kind_count(catalog)) /
                        trm_type_bytes(catalog->tensors[0].type);
    printf("%-12s %s\n", "checkpoint", stored->path);
    printf("%-12s %" PRId64 "\n", "step", state->step);
    printf("%-12s %s, lineage %" PRId64 ", attempt %" PRId64 "\n", "run", state->run_id,
           state->lineage, state->attempt);
    printf("%-12s %s\n", "written", catalog->written_at);
    printf("%-12s data-parallel %d x tensor-parallel %d\n", "layout", state->data_parallel_size,
           state->tensor_model_parallel_size);
    printf("%-12s %" PRId64 " consumed, %" PRId64 " skipped, hash %016" PRIx64 "\n", "samples",
           state->next_sample, skipped_samples(state), state->data_hash);
    print_loss("loss", state->last_loss);
    print_loss("validation", state->valid_loss);
    /* In words: what may follow in a second line is not for reading. */
    printf("%-12s %.*s\n", "fingerprint",
           *state->fingerprint ? (int)strcspn(state->fingerprint, "\n") : 1,
           *state->fingerprint ? state->fingerprint : "-");
    print_section(state->config_yaml, "model");
    print_section(state->config_yaml, "training");
    print_section(state->config_yaml, "optimizer");
    printf("%-12s %s in %d file%s, %" PRId64 " slices\n", "size",
           trm_human_bytes(size, sizeof size, (uint64_t)disk_bytes(catalog)), catalog->file_count,
           catalog->file_count == 1 ? "" : "s", stored->slice_count);
    printf("%-12s %d, %s elements, each as", "tensors", catalog->tensor_count,
           trm_human_count(count, sizeof count, elements));
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        if (catalog->kinds[kind])
            printf(" %s", trm_ckpt_kind_name((enum trm_ckpt_kind)kind));
    printf("\n");
}

static void print_tensors(const struct trm_catalog *catalog)
{
    int width = 0;
    for (int i = 0; i < catalog->tensor_count; i++) {
        int length = (int)strlen(catalog->tensors[i].name);
        width = length > width ? length : width;
    }
    printf("\n%-*s  %-8s  %18s  %9s\n", width, "tensor", "type", "shape", "size");
    for (int i = 0; i < catalog->tensor_count; i++) {
        const struct trm_ckpt_tensor *tensor = &catalog->tensors[i];
        char shape[48], size[32];
        printf("%-*s  %-8s  %18s  %9s\n", width, tensor->name, trm_type_name(tensor->type),
               shape_text(tensor, shape, sizeof shape),
               trm_human_bytes(size, sizeof size, (uint64_t)tensor_bytes(tensor)));
    }
}

static json_t *number_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *kinds_json(const struct trm_catalog *catalog)
{
    json_t *kinds = json_array();
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        if (catalog->kinds[kind])
            json_array_append_new(kinds, json_string(trm_ckpt_kind_name((enum trm_ckpt_kind)kind)));
    return kinds;
}

static json_t *tensors_json(const struct trm_catalog *catalog)
{
    json_t *tensors = json_array();
    for (int i = 0; i < catalog->tensor_count; i++) {
        const struct trm_ckpt_tensor *t = &catalog->tensors[i];
        json_t *shape = t->dims == 2
                            ? json_pack("[I, I]", (json_int_t)t->rows, (json_int_t)t->columns)
                            : json_pack("[I]", (json_int_t)t->rows);
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "type",
                                                 trm_type_name(t->type), "shape", shape, "bytes",
                                                 (json_int_t)tensor_bytes(t)));
    }
    return tensors;
}

static json_t *files_json(const struct trm_catalog *catalog)
{
    json_t *files = json_array();
    for (int i = 0; i < catalog->file_count; i++) {
        const struct trm_ckpt_file *file = &catalog->files[i];
        json_array_append_new(files, json_pack("{s:s, s:I, s:I}", "name", file->name, "bytes",
                                               (json_int_t)file->bytes, "slice_count",
                                               (json_int_t)file->slice_count));
    }
    return files;
}

static json_t *skips_json(const struct trm_ckpt_state *state)
{
    json_t *skips = json_array();
    for (int i = 0; i < state->skip_count; i++)
        json_array_append_new(skips, json_pack("[I, I]", (json_int_t)state->skips[i].first,
                                               (json_int_t)state->skips[i].count));
    return skips;
}

static enum trm_status print_json(const struct trm_stored *stored, struct trm_error *err)
{
    const struct trm_catalog *catalog = &stored->catalog;
    const struct trm_ckpt_state *state = &catalog->state;
    json_t *root = json_pack(
        "{s:s, s:I, s:s, s:I, s:I, s:s, s:i, s:i, s:I, s:o, s:o}", "path", stored->path, "step",
        (json_int_t)state->step, "run_id", state->run_id, "lineage", (json_int_t)state->lineage,
        "attempt", (json_int_t)state->attempt, "written_at", catalog->written_at,
        "data_parallel_size", state->data_parallel_size, "tensor_model_parallel_size",
        state->tensor_model_parallel_size, "next_sample", (json_int_t)state->next_sample,
        "data_hash", trm_json_hex64(state->data_hash), "skips", skips_json(state));
    json_t *rest = json_pack(
        "{s:o, s:o, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "last_loss",
        number_or_null(state->last_loss), "valid_loss", number_or_null(state->valid_loss),
        "fingerprint", state->fingerprint, "config", state->config_yaml, "bytes",
        (json_int_t)disk_bytes(catalog), "slice_count", (json_int_t)stored->slice_count, "kinds",
        kinds_json(catalog), "tensors", tensors_json(catalog), "files", files_json(catalog));
    char *text = NULL;
    if (root != NULL && rest != NULL && json_object_update(root, rest) == 0)
        text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    json_decref(rest);
    if (text == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to print \"%s\"", stored->path);
    printf("%s\n", text);
    free(text);
    return TRM_OK;
}

int trm_ckpt_inspect(int argc, char **argv)
{
    struct trm_ckpt_options options;
    struct trm_stored *stored = NULL;
    struct trm_error err = {0};
    if (!trm_ckpt_parse("inspect", "j", argc, argv, &options))
        return TRM_EXIT_USAGE;
    enum trm_status status = trm_ckpt_open(options.source, &stored, &err);
    if (status == TRM_OK && options.json)
        status = print_json(stored, &err);
    else if (status == TRM_OK) {
        print_summary(stored);
        print_tensors(&stored->catalog);
    }
    trm_stored_close(stored);
    return status == TRM_OK ? TRM_EXIT_OK : trm_ckpt_fail(&err);
}
