#include "tools/formats/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"

#define LENGTH_BYTES  sizeof(uint64_t)
#define METADATA      "__metadata__"
#define DATA_ALIGN    64
#define MAX_DIMENSION ((int64_t)1 << 48)

static const struct {
    const char *name;
    int64_t bytes;
    enum trm_safetensors_type type;
} types[] = {
    {"F32", 4, TRM_SAFETENSORS_F32},       {"F16", 2, TRM_SAFETENSORS_F16},
    {"BF16", 2, TRM_SAFETENSORS_BF16},     {"F64", 8, TRM_SAFETENSORS_OTHER},
    {"BOOL", 1, TRM_SAFETENSORS_OTHER},    {"U8", 1, TRM_SAFETENSORS_OTHER},
    {"I8", 1, TRM_SAFETENSORS_OTHER},      {"U16", 2, TRM_SAFETENSORS_OTHER},
    {"I16", 2, TRM_SAFETENSORS_OTHER},     {"U32", 4, TRM_SAFETENSORS_OTHER},
    {"I32", 4, TRM_SAFETENSORS_OTHER},     {"U64", 8, TRM_SAFETENSORS_OTHER},
    {"I64", 8, TRM_SAFETENSORS_OTHER},     {"C64", 8, TRM_SAFETENSORS_OTHER},
    {"F8_E4M3", 1, TRM_SAFETENSORS_OTHER}, {"F8_E5M2", 1, TRM_SAFETENSORS_OTHER},
    {"F8_E8M0", 1, TRM_SAFETENSORS_OTHER},
};

/* What base/json.h calls corrupt is an unusable input here. `err` is not NULL. */
static enum trm_status as_input(struct trm_error *err)
{
    if (err->status == TRM_ERR_CORRUPT)
        err->status = TRM_ERR_INPUT;
    return err->status;
}

static enum trm_status read_type(const json_t *value, struct trm_safetensors_entry *entry,
                                 int64_t *element_bytes, struct trm_error *err)
{
    const char *text = NULL;
    if (trm_json_get_string(value, "dtype", &text, err) != TRM_OK)
        return as_input(err);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(text, types[i].name) != 0)
            continue;
        entry->type = types[i].type;
        *element_bytes = types[i].bytes;
        return TRM_OK;
    }
    return trm_error_set(err, TRM_ERR_INPUT, "dtype \"%.40s\" is not known", text);
}

static enum trm_status read_shape(const json_t *value, struct trm_safetensors_entry *entry,
                                  int64_t *elements, struct trm_error *err)
{
    json_t *shape = NULL;
    if (trm_json_get_array(value, "shape", TRM_SAFETENSORS_MAX_DIMS, &shape, err) != TRM_OK)
        return as_input(err);
    entry->dims = (int)json_array_size(shape);
    *elements = 1;
    for (int i = 0; i < entry->dims; i++) {
        const json_t *side = json_array_get(shape, (size_t)i);
        int64_t n = json_is_integer(side) ? json_integer_value(side) : -1;
        if (n < 0 || n > MAX_DIMENSION)
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "dimension %d of its shape is not a number from 0 to 2^48", i);
        if (__builtin_mul_overflow(*elements, n, elements) || *elements > MAX_DIMENSION)
            return trm_error_set(err, TRM_ERR_INPUT, "its shape has over 2^48 elements");
        entry->shape[i] = n;
    }
    return TRM_OK;
}

/* `data_bytes` is what lies behind the header. The offset is counted from there. */
static enum trm_status read_place(const json_t *value, int64_t expected_bytes, int64_t data_bytes,
                                  struct trm_safetensors_entry *entry, struct trm_error *err)
{
    json_t *offsets = NULL;
    if (trm_json_get_array(value, "data_offsets", 2, &offsets, err) != TRM_OK)
        return as_input(err);
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (!json_is_integer(first) || !json_is_integer(last))
        return trm_error_set(err, TRM_ERR_INPUT, "its data_offsets are not two whole numbers");
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || end > data_bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "its data_offsets [%" PRId64 ", %" PRId64 "] lie outside the %" PRId64
                             " bytes behind the header",
                             begin, end, data_bytes);
    if (end - begin != expected_bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "its data_offsets [%" PRId64 ", %" PRId64 "] hold %" PRId64
                             " bytes, its type and shape %" PRId64,
                             begin, end, end - begin, expected_bytes);
    entry->offset = begin;
    entry->bytes = end - begin;
    return TRM_OK;
}

static enum trm_status read_entry(const char *name, const json_t *value, int64_t data_bytes,
                                  struct trm_safetensors_entry *entry, struct trm_error *err)
{
    int64_t element_bytes = 0, elements = 0;
    if (strlen(name) >= sizeof entry->name)
        return trm_error_set(err, TRM_ERR_INPUT, "a name of %zu bytes, over %zu", strlen(name),
                             sizeof entry->name - 1);
    snprintf(entry->name, sizeof entry->name, "%s", name);
    enum trm_status status = read_type(value, entry, &element_bytes, err);
    if (status == TRM_OK)
        status = read_shape(value, entry, &elements, err);
    /* At most 2^48 elements of 8 bytes: no overflow. */
    if (status == TRM_OK)
        status = read_place(value, elements * element_bytes, data_bytes, entry, err);
    return status == TRM_OK ? TRM_OK : trm_error_prefix(err, "tensor \"%.100s\"", name);
}

static int by_place(const void *left, const void *right)
{
    const struct trm_safetensors_entry *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int by_name(const void *left, const void *right)
{
    const struct trm_safetensors_entry *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* The tensors are all of the data, one behind the other. */
static enum trm_status check_places(struct trm_safetensors *tensors, int64_t data_bytes,
                                    struct trm_error *err)
{
    const struct trm_safetensors_entry *entries = tensors->entries;
    int64_t end = 0;
    qsort(tensors->entries, (size_t)tensors->count, sizeof *entries, by_place);
    for (int64_t i = 0; i < tensors->count; i++) {
        if (entries[i].offset < end)
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "tensors \"%.100s\" and \"%.100s\" overlap at byte %" PRId64,
                                 entries[i - 1].name, entries[i].name, entries[i].offset);
        if (entries[i].offset > end)
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "bytes %" PRId64 " to %" PRId64
                                 " before tensor \"%.100s\" belong to none",
                                 end, entries[i].offset, entries[i].name);
        end += entries[i].bytes;
    }
    if (end != data_bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "the tensors end at byte %" PRId64 " of the %" PRId64
                             " behind the header",
                             end, data_bytes);
    return TRM_OK;
}

static enum trm_status check_metadata(const json_t *metadata, struct trm_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return trm_error_set(err, TRM_ERR_INPUT, METADATA " is not an object");
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return trm_error_set(err, TRM_ERR_INPUT, METADATA ": \"%.100s\" is not a text", key);
    }
    return TRM_OK;
}

/* The entries of a parsed header, whose tensors' data begins at byte `begin` of the file. */
static enum trm_status read_entries(const json_t *header, int64_t begin, int64_t file_bytes,
                                    struct trm_safetensors *out, struct trm_error *err)
{
    struct trm_safetensors made = {0};
    enum trm_status status = TRM_OK;
    const char *name;
    json_t *value;
    made.entries = calloc(json_object_size(header) + 1, sizeof *made.entries);
    if (made.entries == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %zu tensors",
                             json_object_size(header));
    json_object_foreach((json_t *)header, name, value)
    {
        if (strcmp(name, METADATA) == 0)
            status = check_metadata(value, err);
        else
            status = read_entry(name, value, file_bytes - begin, &made.entries[made.count++], err);
        if (status != TRM_OK)
            break;
    }
    if (status == TRM_OK)
        status = check_places(&made, file_bytes - begin, err);
    if (status != TRM_OK) {
        free(made.entries);
        return status;
    }
    for (int64_t i = 0; i < made.count; i++)
        made.entries[i].offset += begin;
    qsort(made.entries, (size_t)made.count, sizeof *made.entries, by_name);
    *out = made;
    return TRM_OK;
}

/* The length of the header that a file of `file_bytes` begins with. */
static enum trm_status read_length(const void *data, int64_t file_bytes, size_t *length,
                                   struct trm_error *err)
{
    uint64_t stored;
    memcpy(&stored, data, sizeof stored);
    stored = le64toh(stored);
    if (stored > TRM_SAFETENSORS_MAX_HEADER_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "its header claims %" PRIu64 " bytes, over the %zu that are read; it "
                             "is no safetensors file, or damaged",
                             stored, TRM_SAFETENSORS_MAX_HEADER_BYTES);
    if (stored > (uint64_t)file_bytes - LENGTH_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "its header claims %" PRIu64 " bytes, and the file has %" PRId64,
                             stored, file_bytes);
    *length = (size_t)stored;
    return TRM_OK;
}

static enum trm_status read_header(const char *data, size_t bytes, int64_t file_bytes,
                                   const char *name, struct trm_safetensors *out,
                                   struct trm_error *err)
{
    json_t *header = NULL;
    size_t length = 0;
    if (bytes < LENGTH_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT, "%zu bytes are too few for a safetensors file",
                             bytes);
    enum trm_status status = read_length(data, file_bytes, &length, err);
    if (status != TRM_OK)
        return status;
    if (length > bytes - LENGTH_BYTES || length == 0 || data[LENGTH_BYTES] != '{')
        return trm_error_set(err, TRM_ERR_INPUT, "its header does not begin with '{'");
    if (trm_json_parse(data + LENGTH_BYTES, length, name, &header, err) != TRM_OK)
        return as_input(err);
    status = read_entries(header, (int64_t)(LENGTH_BYTES + length), file_bytes, out, err);
    json_decref(header);
    return status;
}

enum trm_status trm_safetensors_open(const void *data, size_t bytes, int64_t file_bytes,
                                     const char *name, struct trm_safetensors *out,
                                     struct trm_error *err)
{
    struct trm_error reason = {0};
    enum trm_status status = read_header(data, bytes, file_bytes, name, out, &reason);
    if (status == TRM_OK)
        return TRM_OK;
    return trm_error_set(err, status, "could not read \"%s\": %s", name, reason.text);
}

enum trm_status trm_safetensors_open_file(int fd, const char *path, struct trm_safetensors *out,
                                          struct trm_error *err)
{
    char first[LENGTH_BYTES];
    char *data = NULL;
    size_t length = 0;
    struct stat info;
    if (fstat(fd, &info) != 0)
        return trm_error_set_errno(err, errno, "could not stat \"%s\"", path);
    if (info.st_size < (off_t)LENGTH_BYTES)
        return trm_safetensors_open(first, (size_t)info.st_size, info.st_size, path, out, err);
    enum trm_status status = trm_file_read_at(fd, first, sizeof first, 0, path, err);
    if (status == TRM_OK && read_length(first, info.st_size, &length, err) != TRM_OK)
        return trm_error_prefix(err, "could not read \"%s\"", path);
    if (status == TRM_OK && (data = malloc(LENGTH_BYTES + length)) == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for the header of \"%s\"", path);
    if (status == TRM_OK)
        status = trm_file_read_at(fd, data, LENGTH_BYTES + length, 0, path, err);
    if (status == TRM_OK)
        status = trm_safetensors_open(data, LENGTH_BYTES + length, info.st_size, path, out, err);
    free(data);
    return status;
}

void trm_safetensors_destroy(struct trm_safetensors *tensors)
{
    if (tensors == NULL)
        return;
    free(tensors->entries);
    *tensors = (struct trm_safetensors){0};
}

const struct trm_safetensors_entry *trm_safetensors_find(const struct trm_safetensors *tensors,
                                                         const char *name)
{
    struct trm_safetensors_entry key;
    if (strlen(name) >= sizeof key.name)
        return NULL;
    snprintf(key.name, sizeof key.name, "%s", name);
    return bsearch(&key, tensors->entries, (size_t)tensors->count, sizeof key, by_name);
}

/* One tensor of a header, its offsets counted from the end of the header. */
static json_t *describe(const struct trm_safetensors_entry *entry)
{
    json_t *shape = json_array();
    for (int i = 0; shape != NULL && i < entry->dims; i++)
        json_array_append_new(shape, json_integer(entry->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                     (json_int_t)entry->offset, (json_int_t)(entry->offset + entry->bytes));
}

/* "pt" is what readers of this format ask for; the tensors are the same for all. */
static char *format_header(struct trm_safetensors_entry *entries, int count)
{
    json_t *header = json_pack("{s:{s:s}}", METADATA, "format", "pt");
    int64_t end = 0;
    char *text = NULL;
    for (int i = 0; header != NULL && i < count; i++) {
        struct trm_safetensors_entry *entry = &entries[i];
        entry->type = TRM_SAFETENSORS_F32;
        entry->offset = end;
        entry->bytes = (int64_t)sizeof(float);
        for (int d = 0; d < entry->dims; d++)
            entry->bytes *= entry->shape[d];
        end += entry->bytes;
        if (json_object_set_new(header, entry->name, describe(entry)) != 0) {
            json_decref(header);
            header = NULL;
        }
    }
    if (header != NULL)
        text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

enum trm_status trm_safetensors_plan(struct trm_safetensors_entry *entries, int count,
                                     char **header, size_t *header_bytes, struct trm_error *err)
{
    char *text = format_header(entries, count), *made = NULL;
    size_t length = text != NULL ? strlen(text) : 0;
    size_t bytes = (LENGTH_BYTES + length + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
    if (text != NULL)
        made = malloc(bytes);
    if (made == NULL) {
        free(text);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the header of %d tensors", count);
    }
    uint64_t stored = htole64((uint64_t)(bytes - LENGTH_BYTES));
    memset(made, ' ', bytes);
    memcpy(made, &stored, sizeof stored);
    memcpy(made + LENGTH_BYTES, text, length);
    free(text);
    for (int i = 0; i < count; i++)
        entries[i].offset += (int64_t)bytes;
    *header = made;
    *header_bytes = bytes;
    return TRM_OK;
}
