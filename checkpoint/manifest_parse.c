#include "checkpoint/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"

static enum trm_status check_seal(const char *text, size_t bytes, struct trm_error *err)
{
    const char *seal =
        bytes > TRM_MANIFEST_SEAL_BYTES ? text + bytes - TRM_MANIFEST_SEAL_BYTES : NULL;
    if (seal == NULL ||
        memcmp(seal, TRM_MANIFEST_SEAL_HEAD, sizeof(TRM_MANIFEST_SEAL_HEAD) - 1) != 0 ||
        memcmp(text + bytes - (sizeof(TRM_MANIFEST_SEAL_TAIL) - 1), TRM_MANIFEST_SEAL_TAIL,
               sizeof(TRM_MANIFEST_SEAL_TAIL) - 1) != 0)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "it does not end in its digest: cut short or not a manifest");
    char expected[17];
    snprintf(expected, sizeof(expected), "%016" PRIx64,
             trm_hash64(text, bytes - TRM_MANIFEST_SEAL_BYTES));
    const char *digest = seal + sizeof(TRM_MANIFEST_SEAL_HEAD) - 1;
    if (memcmp(digest, expected, 16) != 0)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "its text has digest %s, but it says %.16s: damaged", expected,
                             digest);
    return TRM_OK;
}

static enum trm_status read_name(const json_t *object, const char *key, char *out, size_t out_bytes,
                                 struct trm_error *err)
{
    const char *text = NULL;
    enum trm_status status = trm_json_get_string(object, key, &text, err);
    if (status != TRM_OK)
        return status;
    if (strlen(text) >= out_bytes)
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"%s\" has %zu characters, over %zu", key,
                             strlen(text), out_bytes - 1);
    memcpy(out, text, strlen(text) + 1);
    return TRM_OK;
}

static enum trm_status read_text(const json_t *object, const char *key, char **out,
                                 struct trm_error *err)
{
    const char *text = NULL;
    enum trm_status status = trm_json_get_string(object, key, &text, err);
    if (status != TRM_OK)
        return status;
    if (strlen(text) > TRM_CKPT_MAX_TEXT_BYTES)
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"%s\" has %zu bytes, over %d", key,
                             strlen(text), TRM_CKPT_MAX_TEXT_BYTES);
    *out = strdup(text);
    return *out != NULL ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "out of memory");
}

static enum trm_status read_real_or_null(const json_t *object, const char *key, double *out,
                                         struct trm_error *err)
{
    if (json_is_null(json_object_get(object, key))) {
        *out = NAN;
        return TRM_OK;
    }
    return trm_json_get_double(object, key, out, err);
}

/* A pair of integers: a range, a skip. */
static enum trm_status read_pair(const json_t *value, const char *what, int64_t *first,
                                 int64_t *second, struct trm_error *err)
{
    if (!json_is_array(value) || json_array_size(value) != 2 ||
        !json_is_integer(json_array_get(value, 0)) || !json_is_integer(json_array_get(value, 1)))
        return trm_error_set(err, TRM_ERR_CORRUPT, "%s is not a pair of integers", what);
    *first = json_integer_value(json_array_get(value, 0));
    *second = json_integer_value(json_array_get(value, 1));
    return TRM_OK;
}

static enum trm_status read_skips(const json_t *root, struct trm_ckpt_state *state,
                                  struct trm_error *err)
{
    json_t *skips = NULL;
    enum trm_status status = trm_json_get_array(root, "skips", TRM_CKPT_MAX_SKIPS, &skips, err);
    if (status != TRM_OK)
        return status;
    size_t count = json_array_size(skips);
    state->skips = calloc(count + 1, sizeof(*state->skips));
    if (state->skips == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory");
    for (size_t i = 0; status == TRM_OK && i < count; i++)
        status = read_pair(json_array_get(skips, i), "a skip", &state->skips[i].first,
                           &state->skips[i].count, err);
    state->skip_count = (int)count;
    return status;
}

/* Not there in checkpoints of runs that keep no losses, and of programs that knew none. */
static enum trm_status read_guard(const json_t *root, struct trm_ckpt_state *state,
                                  struct trm_error *err)
{
    json_t *guard = NULL, *losses = NULL;
    int64_t skips = 0;
    if (json_object_get(root, "guard") == NULL)
        return TRM_OK;
    enum trm_status status = trm_json_get_object(root, "guard", &guard, err);
    if (status == TRM_OK)
        status = trm_json_get_int(guard, "skips_in_row", 0, INT32_MAX, &skips, err);
    if (status == TRM_OK)
        status = trm_json_get_array(guard, "recent_losses", TRM_CKPT_MAX_LOSSES, &losses, err);
    if (status != TRM_OK)
        return status;
    for (size_t i = 0; i < json_array_size(losses); i++) {
        const json_t *loss = json_array_get(losses, i);
        if (!json_is_number(loss))
            return trm_error_set(err, TRM_ERR_CORRUPT, "recent loss %zu is not a number", i);
        state->recent_losses[i] = json_number_value(loss);
    }
    state->recent_loss_count = (int)json_array_size(losses);
    state->skips_in_row = (int)skips;
    return TRM_OK;
}

static enum trm_status read_kinds(const json_t *root, struct trm_catalog *catalog,
                                  struct trm_error *err)
{
    json_t *kinds = NULL, *value;
    size_t i;
    enum trm_status status = trm_json_get_array(root, "kinds", TRM_KIND_COUNT, &kinds, err);
    if (status != TRM_OK)
        return status;
    json_array_foreach(kinds, i, value)
    {
        int kind = 0;
        const char *name = json_string_value(value);
        while (name != NULL && kind < TRM_KIND_COUNT &&
               strcmp(name, trm_ckpt_kind_name((enum trm_ckpt_kind)kind)) != 0)
            kind++;
        if (name == NULL || kind == TRM_KIND_COUNT)
            return trm_error_set(err, TRM_ERR_CORRUPT, "kinds: \"%.40s\" is not a kind of state",
                                 name != NULL ? name : "(no string)");
        catalog->kinds[kind] = true;
    }
    return TRM_OK;
}

static enum trm_status read_int(const json_t *root, const char *key, int *out,
                                struct trm_error *err)
{
    int64_t value = 0;
    enum trm_status status = trm_json_get_int(root, key, 1, INT32_MAX, &value, err);
    *out = (int)value;
    return status;
}

static enum trm_status read_header(const json_t *root, struct trm_catalog *catalog,
                                   struct trm_error *err)
{
    struct trm_ckpt_state *state = &catalog->state;
    const struct {
        const char *key;
        int64_t *out;
    } counters[] = {{"lineage", &state->lineage},
                    {"attempt", &state->attempt},
                    {"step", &state->step},
                    {"next_sample", &state->next_sample}};
    enum trm_status status = read_name(root, "run_id", state->run_id, sizeof(state->run_id), err);
    for (size_t i = 0; status == TRM_OK && i < sizeof(counters) / sizeof(counters[0]); i++)
        status = trm_json_get_int(root, counters[i].key, 0, INT64_MAX, counters[i].out, err);
    if (status == TRM_OK)
        status =
            read_name(root, "written_at", catalog->written_at, sizeof(catalog->written_at), err);
    if (status == TRM_OK)
        status = trm_json_get_hex64(root, "nonce", &catalog->nonce, err);
    if (status == TRM_OK)
        status = trm_json_get_hex64(root, "data_hash", &state->data_hash, err);
    if (status == TRM_OK)
        status = read_real_or_null(root, "last_loss", &state->last_loss, err);
    if (status == TRM_OK)
        status = read_real_or_null(root, "valid_loss", &state->valid_loss, err);
    if (status == TRM_OK)
        status = read_skips(root, state, err);
    if (status == TRM_OK)
        status = read_guard(root, state, err);
    if (status == TRM_OK)
        status = read_int(root, "data_parallel_size", &state->data_parallel_size, err);
    if (status == TRM_OK)
        status =
            read_int(root, "tensor_model_parallel_size", &state->tensor_model_parallel_size, err);
    if (status == TRM_OK)
        status = read_int(root, "shard_count", &catalog->shard_count, err);
    if (status == TRM_OK)
        status = read_kinds(root, catalog, err);
    if (status == TRM_OK)
        status = read_text(root, "fingerprint", &state->fingerprint, err);
    if (status == TRM_OK)
        status = read_text(root, "config", &state->config_yaml, err);
    return status;
}

static enum trm_status read_tensor(const json_t *object, struct trm_ckpt_tensor *tensor,
                                   struct trm_error *err)
{
    json_t *shape = NULL;
    const char *type = NULL;
    enum trm_status status = read_name(object, "name", tensor->name, sizeof(tensor->name), err);
    if (status == TRM_OK)
        status = trm_json_get_string(object, "type", &type, err);
    if (status == TRM_OK)
        status = trm_json_get_array(object, "shape", 2, &shape, err);
    if (status != TRM_OK)
        return status;
    int number = 0;
    while (number < TRM_TYPE_COUNT && strcmp(type, trm_type_name((enum trm_type)number)) != 0)
        number++;
    if (number == TRM_TYPE_COUNT)
        return trm_error_set(err, TRM_ERR_CORRUPT, "type \"%.40s\" is not known", type);
    tensor->type = (enum trm_type)number;
    tensor->dims = (int)json_array_size(shape);
    int64_t sides[2] = {0, 1};
    for (int i = 0; i < tensor->dims; i++) {
        if (!json_is_integer(json_array_get(shape, (size_t)i)))
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "\"shape\" holds something else than integers");
        sides[i] = json_integer_value(json_array_get(shape, (size_t)i));
    }
    tensor->rows = sides[0];
    tensor->columns = sides[1];
    return TRM_OK;
}

static enum trm_status read_tensors(const json_t *root, struct trm_catalog *catalog,
                                    struct trm_error *err)
{
    json_t *tensors = NULL;
    enum trm_status status =
        trm_json_get_array(root, "tensors", TRM_CKPT_MAX_TENSORS, &tensors, err);
    if (status != TRM_OK)
        return status;
    int count = (int)json_array_size(tensors);
    catalog->tensors = calloc((size_t)count + 1, sizeof(*catalog->tensors));
    if (catalog->tensors == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensors", count);
    catalog->tensor_count = count;
    for (int i = 0; i < count; i++)
        if (read_tensor(json_array_get(tensors, (size_t)i), &catalog->tensors[i], err) != TRM_OK)
            return trm_error_prefix(err, "tensor %d", i);
    return TRM_OK;
}

static enum trm_status read_range(const json_t *object, const char *key,
                                  struct trm_ckpt_range *range, struct trm_error *err)
{
    return read_pair(json_object_get(object, key), key, &range->offset, &range->bytes, err);
}

static enum trm_status read_file(const json_t *object, struct trm_ckpt_file *file,
                                 struct trm_error *err)
{
    enum trm_status status = read_name(object, "name", file->name, sizeof(file->name), err);
    if (status == TRM_OK)
        status = trm_json_get_int(object, "bytes", 1, INT64_MAX, &file->bytes, err);
    if (status == TRM_OK)
        status = trm_json_get_int(object, "slice_count", 1, TRM_CKPT_MAX_SLICES, &file->slice_count,
                                  err);
    if (status == TRM_OK)
        status = trm_json_get_hex64(object, "table_digest", &file->table_digest, err);
    if (status == TRM_OK)
        status = read_range(object, "identity", &file->identity, err);
    if (status == TRM_OK)
        status = read_range(object, "slices", &file->slices, err);
    if (status == TRM_OK)
        status = read_range(object, "checksums", &file->checksums, err);
    for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++) {
        const char *name = trm_ckpt_kind_name((enum trm_ckpt_kind)kind);
        if (json_object_get(object, name) != NULL)
            status = read_range(object, name, &file->data[kind], err);
    }
    /* A name that does not parse gets a number that no name has; the catalog's check says so. */
    int length = 0;
    if (sscanf(file->name, "shard-%9d%n", &file->shard, &length) != 1 || length == 0)
        file->shard = 0;
    return status;
}

static enum trm_status read_files(const json_t *root, struct trm_catalog *catalog,
                                  struct trm_error *err)
{
    json_t *files = NULL;
    enum trm_status status = trm_json_get_array(root, "files", TRM_CKPT_MAX_FILES, &files, err);
    if (status != TRM_OK)
        return status;
    int count = (int)json_array_size(files);
    catalog->files = calloc((size_t)count + 1, sizeof(*catalog->files));
    if (catalog->files == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d files", count);
    catalog->file_count = count;
    for (int i = 0; i < count; i++)
        if (read_file(json_array_get(files, (size_t)i), &catalog->files[i], err) != TRM_OK)
            return trm_error_prefix(err, "file %d", i);
    return TRM_OK;
}

static enum trm_status check_format(const json_t *root, struct trm_error *err)
{
    const char *format = NULL;
    int64_t version = 0;
    enum trm_status status = trm_json_get_string(root, "format", &format, err);
    if (status == TRM_OK)
        status = trm_json_get_int(root, "format_version", 0, INT64_MAX, &version, err);
    if (status != TRM_OK)
        return status;
    if (strcmp(format, TRM_MANIFEST_FORMAT) != 0)
        return trm_error_set(err, TRM_ERR_MISMATCH, "its format is \"%.40s\", not \"%s\"", format,
                             TRM_MANIFEST_FORMAT);
    if (version != TRM_CKPT_FORMAT_VERSION)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "it has format version %" PRId64 "; this program reads version %d",
                             version, TRM_CKPT_FORMAT_VERSION);
    return TRM_OK;
}

enum trm_status trm_manifest_parse(const char *text, size_t bytes, struct trm_catalog *catalog,
                                   struct trm_error *err)
{
    struct trm_catalog made = {0};
    json_t *root = NULL;
    if (bytes > TRM_MANIFEST_MAX_BYTES)
        return trm_error_set(err, TRM_ERR_CORRUPT, "it has %zu bytes, over %zu", bytes,
                             TRM_MANIFEST_MAX_BYTES);
    enum trm_status status = check_seal(text, bytes, err);
    if (status != TRM_OK)
        return status;
    status = trm_json_parse(text, bytes, "manifest", &root, err);
    if (status == TRM_OK)
        status = check_format(root, err);
    if (status == TRM_OK)
        status = read_header(root, &made, err);
    if (status == TRM_OK)
        status = read_tensors(root, &made, err);
    if (status == TRM_OK)
        status = read_files(root, &made, err);
    if (status == TRM_OK)
        status = trm_catalog_check(&made, err);
    json_decref(root);
    if (status == TRM_OK)
        *catalog = made;
    else
        trm_catalog_destroy(&made);
    return status;
}
