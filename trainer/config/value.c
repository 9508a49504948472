#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "trainer/config/keys.h"
#include "trainer/config/text.h"

static void *field(const struct trm_key *key, void *values)
{
    return (char *)values + key->offset;
}

static const void *field_of(const struct trm_key *key, const void *values)
{
    return (const char *)values + key->offset;
}

static enum trm_status out_of_memory(struct trm_error *err)
{
    return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the configuration");
}

static enum trm_status string_set(char **string, const char *text, struct trm_error *err)
{
    char *owned = strdup(text);
    if (!owned)
        return out_of_memory(err);
    free(*string);
    *string = owned;
    return TRM_OK;
}

static enum trm_status list_append(struct trm_string_list *list, const char *text,
                                   struct trm_error *err)
{
    bool full = (list->count & (list->count - 1)) == 0; /* room doubles at powers of two */
    if (full) {
        size_t room = list->count == 0 ? 1 : 2 * (size_t)list->count;
        char **items = realloc(list->items, room * sizeof(*items));
        if (!items)
            return out_of_memory(err);
        list->items = items;
    }
    list->items[list->count] = NULL;
    enum trm_status status = string_set(&list->items[list->count], text, err);
    if (status == TRM_OK)
        list->count++;
    return status;
}

static enum trm_status default_set(const struct trm_key *key, void *values, struct trm_error *err)
{
    switch (key->type) {
    case TRM_KEY_INT:
        *(int64_t *)field(key, values) = key->int_default;
        return TRM_OK;
    case TRM_KEY_FLOAT:
        *(double *)field(key, values) = key->float_default;
        return TRM_OK;
    case TRM_KEY_BOOL:
        *(bool *)field(key, values) = key->int_default != 0;
        return TRM_OK;
    case TRM_KEY_ENUM:
        *(int *)field(key, values) = (int)key->int_default;
        return TRM_OK;
    case TRM_KEY_STRING:
        return string_set(field(key, values), key->string_default, err);
    case TRM_KEY_LIST:
        return TRM_OK;
    }
    return TRM_OK;
}

enum trm_status trm_values_init(const struct trm_key_table *table, void *values,
                                struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int i = 0; i < table->count && status == TRM_OK; i++)
        status = default_set(&table->keys[i], values, err);
    return status;
}

static enum trm_status copy_one(const struct trm_key *key, void *values, const void *from,
                                struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    switch (key->type) {
    case TRM_KEY_INT:
        *(int64_t *)field(key, values) = *(const int64_t *)field_of(key, from);
        break;
    case TRM_KEY_FLOAT:
        *(double *)field(key, values) = *(const double *)field_of(key, from);
        break;
    case TRM_KEY_BOOL:
        *(bool *)field(key, values) = *(const bool *)field_of(key, from);
        break;
    case TRM_KEY_ENUM:
        *(int *)field(key, values) = *(const int *)field_of(key, from);
        break;
    case TRM_KEY_STRING:
        status = string_set(field(key, values), *(char *const *)field_of(key, from), err);
        break;
    case TRM_KEY_LIST: {
        const struct trm_string_list *list = field_of(key, from);
        for (int i = 0; i < list->count && status == TRM_OK; i++)
            status = list_append(field(key, values), list->items[i], err);
        break;
    }
    }
    return status;
}

enum trm_status trm_values_copy(const struct trm_key_table *table, void *values, const void *from,
                                struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int i = 0; i < table->count && status == TRM_OK; i++)
        status = copy_one(&table->keys[i], values, from, err);
    return status;
}

void trm_value_clear(const struct trm_key *key, void *values)
{
    TRM_ASSERT(key->type == TRM_KEY_LIST);
    struct trm_string_list *list = field(key, values);
    for (int i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct trm_string_list){0};
}

void trm_values_free(const struct trm_key_table *table, void *values)
{
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (key->type == TRM_KEY_STRING) {
            char **string = field(key, values);
            free(*string);
            *string = NULL;
        } else if (key->type == TRM_KEY_LIST) {
            trm_value_clear(key, values);
        }
    }
}

/* "; give a whole number, 1 to 1000 (layers)" */
static enum trm_status refuse_number(const struct trm_key *key, const char *label, const char *text,
                                     const char *what, struct trm_error *err)
{
    char shown[TRM_SHOW_BYTES], range[TRM_RANGE_BYTES];
    bool has_unit = key->unit[0] != '\0';
    return trm_error_set(err, TRM_ERR_CONFIG, "%s: '%s' is %s; give a %s, %s%s%s%s", label,
                         trm_text_show(shown, text), what, trm_key_type_name(key),
                         trm_key_range(key, range), has_unit ? " (" : "", key->unit,
                         has_unit ? ")" : "");
}

/* -?(0|[1-9][0-9]*): neither octal nor 0x10, 1_000 or 1e3, which readers of YAML disagree about. */
static enum trm_status set_int(const struct trm_key *key, void *values, const char *label,
                               const char *text, struct trm_error *err)
{
    bool negative = text[0] == '-';
    const char *digits = text + negative;
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || digits[count] != '\0' || (digits[0] == '0' && count > 1))
        return refuse_number(key, label, text, "not a whole number in plain digits", err);
    uint64_t magnitude = 0;
    bool fits = count <= 19; /* 19 digits fit uint64_t */
    for (size_t i = 0; i < count && fits; i++)
        magnitude = magnitude * 10 + (uint64_t)(digits[i] - '0');
    fits = fits && magnitude <= INT64_MAX;
    int64_t value = !fits ? 0 : negative ? -(int64_t)magnitude : (int64_t)magnitude;
    if (!fits || value < key->int_minimum || value > key->int_maximum)
        return refuse_number(key, label, text, "out of range", err);
    *(int64_t *)field(key, values) = value;
    return TRM_OK;
}

/* Decimal with optional fraction and exponent, nothing else that strtod takes. */
static bool is_decimal(const char *text)
{
    text += text[0] == '-' || text[0] == '+';
    size_t whole = strspn(text, "0123456789"), fraction = 0;
    text += whole;
    if (*text == '.') {
        fraction = strspn(text + 1, "0123456789");
        text += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text += 1 + (text[1] == '-' || text[1] == '+');
        if (!isdigit((unsigned char)*text))
            return false;
        text += strspn(text, "0123456789");
    }
    return *text == '\0';
}

static enum trm_status set_float(const struct trm_key *key, void *values, const char *label,
                                 const char *text, struct trm_error *err)
{
    if (!is_decimal(text))
        return refuse_number(key, label, text, "not a decimal number", err);
    double value = strtod(text, NULL);
    if (value < key->float_minimum || value > key->float_maximum)
        return refuse_number(key, label, text, "out of range", err);
    *(double *)field(key, values) = value + 0.0; /* -0 becomes 0 */
    return TRM_OK;
}

static enum trm_status set_bool(const struct trm_key *key, void *values, const char *label,
                                const char *text, struct trm_error *err)
{
    char shown[TRM_SHOW_BYTES];
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return trm_error_set(err, TRM_ERR_CONFIG, "%s: '%s' is neither true nor false", label,
                             trm_text_show(shown, text));
    *(bool *)field(key, values) = yes;
    return TRM_OK;
}

static enum trm_status set_enum(const struct trm_key *key, void *values, const char *label,
                                const char *text, struct trm_error *err)
{
    char word[TRM_CHOICE_BYTES], all[TRM_SHOW_BYTES] = "", shown[TRM_SHOW_BYTES];
    size_t used = 0;
    for (int i = 0; trm_key_choice(key, i, word); i++) {
        if (strcmp(word, text) == 0) {
            *(int *)field(key, values) = i;
            return TRM_OK;
        }
        if (used < sizeof(all))
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", word);
    }
    return trm_error_set(err, TRM_ERR_CONFIG, "%s: '%s' is not known; give one of: %s", label,
                         trm_text_show(shown, text), all);
}

static enum trm_status check_string(const char *label, const char *text, struct trm_error *err)
{
    char shown[TRM_SHOW_BYTES];
    size_t offset = 0, bytes = strlen(text);
    if (bytes > TRM_STRING_LIMIT)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: the text has %zu bytes; at most %d are allowed", label, bytes,
                             TRM_STRING_LIMIT);
    if (!trm_text_check(text, bytes, false, &offset))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: '%s' has a control character or invalid UTF-8 at byte %zu; "
                             "give printable text",
                             label, trm_text_show(shown, text), offset + 1);
    return TRM_OK;
}

static enum trm_status add_item(const struct trm_key *key, void *values, const char *label,
                                const char *text, struct trm_error *err)
{
    struct trm_string_list *list = field(key, values);
    if (text[0] == '\0')
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: item %d is empty; give it a text or remove it", label,
                             list->count + 1);
    if (list->count == TRM_LIST_LIMIT)
        return trm_error_set(err, TRM_ERR_CONFIG, "%s: more than %d items", label, TRM_LIST_LIMIT);
    return list_append(list, text, err);
}

enum trm_status trm_value_set(const struct trm_key *key, void *values, const char *label,
                              const char *text, struct trm_error *err)
{
    switch (key->type) {
    case TRM_KEY_INT:
        return set_int(key, values, label, text, err);
    case TRM_KEY_FLOAT:
        return set_float(key, values, label, text, err);
    case TRM_KEY_BOOL:
        return set_bool(key, values, label, text, err);
    case TRM_KEY_ENUM:
        return set_enum(key, values, label, text, err);
    case TRM_KEY_STRING:
    case TRM_KEY_LIST:
        break;
    }
    enum trm_status status = check_string(label, text, err);
    if (status != TRM_OK)
        return status;
    return key->type == TRM_KEY_LIST ? add_item(key, values, label, text, err)
                                     : string_set(field(key, values), text, err);
}

static bool list_equal(const struct trm_string_list *a, const struct trm_string_list *b)
{
    bool equal = a->count == b->count;
    for (int i = 0; i < a->count && equal; i++)
        equal = strcmp(a->items[i], b->items[i]) == 0;
    return equal;
}

bool trm_value_equal(const struct trm_key *key, const void *values, const void *others)
{
    const void *a = field_of(key, values), *b = field_of(key, others);
    switch (key->type) {
    case TRM_KEY_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case TRM_KEY_FLOAT:
        return *(const double *)a == *(const double *)b;
    case TRM_KEY_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case TRM_KEY_ENUM:
        return *(const int *)a == *(const int *)b;
    case TRM_KEY_STRING:
        return strcmp(*(char *const *)a, *(char *const *)b) == 0;
    case TRM_KEY_LIST:
        return list_equal(a, b);
    }
    return false;
}

static void print_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void trm_value_print(const struct trm_key *key, const void *values, FILE *out)
{
    const void *value = field_of(key, values);
    char word[TRM_CHOICE_BYTES], number[TRM_DOUBLE_BYTES];
    switch (key->type) {
    case TRM_KEY_INT:
        fprintf(out, "%lld", (long long)*(const int64_t *)value);
        break;
    case TRM_KEY_FLOAT:
        fputs(trm_text_double(number, *(const double *)value), out);
        break;
    case TRM_KEY_BOOL:
        fputs(*(const bool *)value ? "true" : "false", out);
        break;
    case TRM_KEY_ENUM:
        fputs(trm_key_choice(key, *(const int *)value, word) ? word : "", out);
        break;
    case TRM_KEY_STRING:
        print_string(*(char *const *)value, out);
        break;
    case TRM_KEY_LIST: {
        const struct trm_string_list *list = value;
        for (int i = 0; i < list->count; i++) {
            fputs(i ? ", " : "[", out);
            print_string(list->items[i], out);
        }
        fputs(list->count ? "]" : "[]", out);
        break;
    }
    }
}
