#include "checkpoint/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"

enum trm_status trm_manifest_seal(const char *text, char **sealed, size_t *bytes,
                                  struct trm_error *err)
{
    size_t length = strlen(text);
    char *made = malloc(length + TRM_MANIFEST_SEAL_BYTES + 1);
    if (made == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a manifest of %zu bytes",
                             length);
    memcpy(made, text, length);
    snprintf(made + length, TRM_MANIFEST_SEAL_BYTES + 1,
             TRM_MANIFEST_SEAL_HEAD "%016" PRIx64 TRM_MANIFEST_SEAL_TAIL, trm_hash64(text, length));
    *sealed = made;
    *bytes = length + TRM_MANIFEST_SEAL_BYTES;
    return TRM_OK;
}

/* A float that may be missing: JSON has no NaN. */
static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *format_file(const struct trm_ckpt_file *file)
{
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:o, s:[II], s:[II], s:[II]}", "name", file->name, "bytes",
                  (json_int_t)file->bytes, "slice_count", (json_int_t)file->slice_count,
                  "table_digest", trm_json_hex64(file->table_digest), "identity",
                  (json_int_t)file->identity.offset, (json_int_t)file->identity.bytes, "slices",
                  (json_int_t)file->slices.offset, (json_int_t)file->slices.bytes, "checksums",
                  (json_int_t)file->checksums.offset, (json_int_t)file->checksums.bytes);
    for (int kind = 0; object != NULL && kind < TRM_KIND_COUNT; kind++) {
        struct trm_ckpt_range range = file->data[kind];
        if (range.bytes > 0)
            json_object_set_new(
                object, trm_ckpt_kind_name((enum trm_ckpt_kind)kind),
                json_pack("[II]", (json_int_t)range.offset, (json_int_t)range.bytes));
    }
    return object;
}

static json_t *format_tensor(const struct trm_ckpt_tensor *tensor)
{
    json_t *object = json_pack("{s:s, s:s, s:[I]}", "name", tensor->name, "type",
                               trm_type_name(tensor->type), "shape", (json_int_t)tensor->rows);
    if (tensor->dims == 2)
        json_array_append_new(json_object_get(object, "shape"), json_integer(tensor->columns));
    return object;
}

/* What the next step is judged by; a run that keeps nothing of it has no such
 * member. */
static json_t *format_guard(const struct trm_ckpt_state *state)
{
    json_t *losses = json_array();
    for (int i = 0; i < state->recent_loss_count; i++)
        json_array_append_new(losses, json_real(state->recent_losses[i]));
    return json_pack("{s:o, s:i}", "recent_losses", losses, "skips_in_row", state->skips_in_row);
}

static json_t *format_header(const struct trm_catalog *catalog)
{
    const struct trm_ckpt_state *state = &catalog->state;
    json_t *skips = json_array();
    for (int i = 0; i < state->skip_count; i++)
        json_array_append_new(skips, json_pack("[II]", (json_int_t)state->skips[i].first,
                                               (json_int_t)state->skips[i].count));
    json_t *kinds = json_array();
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        if (catalog->kinds[kind])
            json_array_append_new(kinds, json_string(trm_ckpt_kind_name((enum trm_ckpt_kind)kind)));
    json_t *header = json_pack(
        "{s:s, s:i, s:s, s:I, s:I, s:I, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:o, "
        "s:s, s:s}",
        "format", TRM_MANIFEST_FORMAT, "format_version", TRM_CKPT_FORMAT_VERSION, "run_id",
        state->run_id, "lineage", (json_int_t)state->lineage, "attempt", (json_int_t)state->attempt,
        "step", (json_int_t)state->step, "written_at", catalog->written_at, "nonce",
        trm_json_hex64(catalog->nonce), "next_sample", (json_int_t)state->next_sample, "data_hash",
        trm_json_hex64(state->data_hash), "last_loss", real_or_null(state->last_loss), "valid_loss",
        real_or_null(state->valid_loss), "skips", skips, "data_parallel_size",
        state->data_parallel_size, "tensor_model_parallel_size", state->tensor_model_parallel_size,
        "shard_count", catalog->shard_count, "kinds", kinds, "fingerprint",
        state->fingerprint != NULL ? state->fingerprint : "", "config",
        state->config_yaml != NULL ? state->config_yaml : "");
    if (header != NULL && (state->recent_loss_count > 0 || state->skips_in_row > 0) &&
        json_object_set_new(header, "guard", format_guard(state)) != 0) {
        json_decref(header);
        header = NULL;
    }
    return header;
}

/* `,\n"name": value`; false when memory is out or a string is not UTF-8. Takes `value`. */
static bool print_member(FILE *out, const char *separator, const char *name, json_t *value)
{
    if (value == NULL)
        return false;
    if (name != NULL)
        fprintf(out, "%s\"%s\": ", separator, name);
    else
        fputs(separator, out);
    bool done = json_dumpf(value, out, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) == 0;
    json_decref(value);
    return done;
}

/* All but the digest: one member to a line, one tensor and one file to a line. */
static bool print_catalog(FILE *out, const struct trm_catalog *catalog)
{
    json_t *header = format_header(catalog);
    bool done = header != NULL;
    const char *separator = "{\n", *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        done = done && print_member(out, separator, name, json_incref(value));
        separator = ",\n";
    }
    json_decref(header);
    fputs(",\n\"tensors\": [", out);
    for (int i = 0; done && i < catalog->tensor_count; i++)
        done = print_member(out, i == 0 ? "\n" : ",\n", NULL, format_tensor(&catalog->tensors[i]));
    fputs("\n],\n\"files\": [", out);
    for (int i = 0; done && i < catalog->file_count; i++)
        done = print_member(out, i == 0 ? "\n" : ",\n", NULL, format_file(&catalog->files[i]));
    fputs("\n]", out);
    return done;
}

enum trm_status trm_manifest_format(const struct trm_catalog *catalog, char **text, size_t *bytes,
                                    struct trm_error *err)
{
    enum trm_status status;
    char *plain = NULL, *sealed = NULL;
    size_t plain_bytes = 0, sealed_bytes = 0;
    struct trm_catalog back = {0};
    FILE *out = open_memstream(&plain, &plain_bytes);
    if (out == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a manifest");
    bool done = print_catalog(out, catalog);
    if (fclose(out) != 0 || !done) {
        status = trm_error_set(err, TRM_ERR_MEMORY,
                               "could not make a manifest: out of memory, or text in the "
                               "configuration or fingerprint that is not UTF-8");
        goto cleanup;
    }
    status = trm_manifest_seal(plain, &sealed, &sealed_bytes, err);
    if (status != TRM_OK)
        goto cleanup;
    /* Nothing is written that our own reader would refuse. */
    status = trm_manifest_parse(sealed, sealed_bytes, &back, err);
    if (status != TRM_OK) {
        trm_error_prefix(err, "a manifest that could not be read back");
        goto cleanup;
    }
    *text = sealed;
    *bytes = sealed_bytes;
    sealed = NULL;
cleanup:
    trm_catalog_destroy(&back);
    free(sealed);
    free(plain);
    return status;
}
