#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define DEPTH_LIMIT 64

/* Refuses deep nesting before the parser recurses into it. Brackets inside strings don't count. */
static enum trm_status check_depth(const char *text, size_t bytes, const char *name,
                                   struct trm_error *err)
{
    int depth = 0, line = 1;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n')
            line++;
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > DEPTH_LIMIT)
                return trm_error_set(err, TRM_ERR_CORRUPT,
                                     "\"%s\", line %d: nested deeper than %d levels", name, line,
                                     DEPTH_LIMIT);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return TRM_OK;
}

enum trm_status trm_json_parse(const char *text, size_t bytes, const char *name, json_t **value,
                               struct trm_error *err)
{
    enum trm_status status = check_depth(text, bytes, name, err);
    if (status != TRM_OK)
        return status;
    json_error_t reason;
    json_t *parsed = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &reason);
    if (!parsed && json_error_code(&reason) == json_error_out_of_memory)
        return trm_error_set(err, TRM_ERR_MEMORY, "\"%s\": out of memory while parsing", name);
    if (!parsed)
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"%s\", line %d, column %d: %s", name,
                             reason.line, reason.column, reason.text);
    *value = parsed;
    return TRM_OK;
}

enum trm_status trm_json_load(const char *path, size_t limit_bytes, json_t **value,
                              struct trm_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    enum trm_status status = trm_file_read_all(path, limit_bytes, &text, &bytes, err);
    if (status == TRM_OK)
        status = trm_json_parse(text, bytes, path, value, err);
    free(text);
    return status;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_NULL:
        return "null";
    default:
        return "a truth value";
    }
}

static enum trm_status find(const json_t *object, const char *key, const json_t **value,
                            struct trm_error *err)
{
    if (!json_is_object(object))
        return trm_error_set(err, TRM_ERR_CORRUPT, "%s stands where an object with \"%s\" should",
                             object ? type_name(object) : "nothing", key);
    const json_t *found = json_object_get(object, key);
    if (!found)
        return trm_error_set(err, TRM_ERR_CORRUPT, "the key \"%s\" is missing", key);
    *value = found;
    return TRM_OK;
}

static enum trm_status wrong_type(const json_t *value, const char *key, const char *wanted,
                                  struct trm_error *err)
{
    return trm_error_set(err, TRM_ERR_CORRUPT, "the key \"%s\" holds %s, but needs %s", key,
                         type_name(value), wanted);
}

enum trm_status trm_json_get_int(const json_t *object, const char *key, int64_t minimum,
                                 int64_t maximum, int64_t *out, struct trm_error *err)
{
    const json_t *value = NULL;
    enum trm_status status = find(object, key, &value, err);
    if (status != TRM_OK)
        return status;
    if (!json_is_integer(value))
        return wrong_type(value, key, "an integer", err);
    int64_t number = json_integer_value(value);
    if (number < minimum || number > maximum)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "the key \"%s\" is %" PRId64 ", outside %" PRId64 " to %" PRId64, key,
                             number, minimum, maximum);
    *out = number;
    return TRM_OK;
}

enum trm_status trm_json_get_double(const json_t *object, const char *key, double *out,
                                    struct trm_error *err)
{
    const json_t *value = NULL;
    enum trm_status status = find(object, key, &value, err);
    if (status != TRM_OK)
        return status;
    if (!json_is_number(value))
        return wrong_type(value, key, "a number", err);
    *out = json_number_value(value);
    return TRM_OK;
}

enum trm_status trm_json_get_string(const json_t *object, const char *key, const char **out,
                                    struct trm_error *err)
{
    const json_t *value = NULL;
    enum trm_status status = find(object, key, &value, err);
    if (status != TRM_OK)
        return status;
    if (!json_is_string(value))
        return wrong_type(value, key, "a string", err);
    *out = json_string_value(value);
    return TRM_OK;
}

enum trm_status trm_json_get_array(const json_t *object, const char *key, size_t maximum_length,
                                   json_t **out, struct trm_error *err)
{
    const json_t *value = NULL;
    enum trm_status status = find(object, key, &value, err);
    if (status != TRM_OK)
        return status;
    if (!json_is_array(value))
        return wrong_type(value, key, "an array", err);
    if (json_array_size(value) > maximum_length)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "the key \"%s\" holds %zu entries, more than the %zu allowed", key,
                             json_array_size(value), maximum_length);
    *out = json_object_get(object, key);
    return TRM_OK;
}

enum trm_status trm_json_get_object(const json_t *object, const char *key, json_t **out,
                                    struct trm_error *err)
{
    const json_t *value = NULL;
    enum trm_status status = find(object, key, &value, err);
    if (status != TRM_OK)
        return status;
    if (!json_is_object(value))
        return wrong_type(value, key, "an object", err);
    *out = json_object_get(object, key);
    return TRM_OK;
}

enum trm_status trm_json_get_hex64(const json_t *object, const char *key, uint64_t *out,
                                   struct trm_error *err)
{
    const char *text = NULL;
    enum trm_status status = trm_json_get_string(object, key, &text, err);
    if (status != TRM_OK)
        return status;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "the key \"%s\" is \"%.40s\", not 16 hexadecimal digits in lower case",
                             key, text);
    *out = strtoull(text, NULL, 16);
    return TRM_OK;
}

json_t *trm_json_hex64(uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}
