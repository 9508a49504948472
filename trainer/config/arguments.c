#include <string.h>

#include "base/assert.h"
#include "trainer/config/keys.h"
#include "trainer/config/text.h"

#define FLAG_BYTES 96

struct arguments {
    const struct trm_key_table *table;
    void *values;
    int count, position;                /* the next argument to look at */
    char **items;                       /* borrowed */
    const char *set_by[TRM_KEYS_LIMIT]; /* the argument that set a key, or NULL */
    struct trm_error *err;
};

static bool is_flag(const char *argument)
{
    return strncmp(argument, "--", 2) == 0;
}

/* "tensor-model-parallel-size" for "tensor_model_parallel_size", and the other way round. */
static void exchange(char *word, char from, char to)
{
    for (; *word; word++)
        if (*word == from)
            *word = to;
}

/* The key of a flag in its one spelling, NULL when there is none. *negated for --no-NAME. */
static const struct trm_key *find(const struct trm_key_table *table, const char *flag,
                                  bool *negated)
{
    const char *word = flag + 2;
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        const char *alias = trm_key_alias(key);
        char name[FLAG_BYTES];
        snprintf(name, sizeof(name), "%s", key->name);
        exchange(name, '_', '-');
        *negated = key->type == TRM_KEY_BOOL && strncmp(word, "no-", 3) == 0 &&
                   strcmp(word + 3, name) == 0;
        if (*negated || strcmp(word, name) == 0 || (alias && strcmp(word, alias) == 0))
            return key;
    }
    return NULL;
}

static enum trm_status unknown_flag(struct arguments *arguments, const char *flag)
{
    char word[FLAG_BYTES], name[FLAG_BYTES], shown[TRM_SHOW_BYTES];
    snprintf(word, sizeof(word), "%s", flag + strspn(flag, "-"));
    exchange(word, '-', '_');
    const struct trm_key *near = trm_keys_nearest(arguments->table, NULL, word);
    trm_text_show(shown, flag);
    if (!near)
        return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                             "unknown flag '%s'; --help lists every flag", shown);
    snprintf(name, sizeof(name), "%s", near->name);
    exchange(name, '_', '-');
    return trm_error_set(arguments->err, TRM_ERR_CONFIG, "unknown flag '%s'; did you mean '--%s'?",
                         shown, name);
}

/* True for a weight that stands before its path as an argument of its own, as Megatron has it. */
static bool is_weight(const char *argument)
{
    return argument[0] != '\0' && strspn(argument, "0123456789.") == strlen(argument);
}

/* Values up to the next flag. `0.3 a.bin` in two arguments becomes one item. */
static enum trm_status read_list(struct arguments *arguments, const struct trm_key *key,
                                 const char *flag)
{
    enum trm_status status = TRM_OK;
    trm_value_clear(key, arguments->values);
    while (status == TRM_OK && arguments->position < arguments->count &&
           !is_flag(arguments->items[arguments->position])) {
        const char *item = arguments->items[arguments->position++];
        if (!is_weight(item)) {
            status = trm_value_set(key, arguments->values, flag, item, arguments->err);
            continue;
        }
        char joined[TRM_STRING_LIMIT + 64];
        if (arguments->position == arguments->count ||
            is_flag(arguments->items[arguments->position]))
            return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                                 "%s: no path follows the weight '%.40s'; give WEIGHT PATH, or "
                                 "./%.40s for a file of that name",
                                 flag, item, item);
        snprintf(joined, sizeof(joined), "%s %s", item, arguments->items[arguments->position++]);
        status = trm_value_set(key, arguments->values, flag, joined, arguments->err);
    }
    return status;
}

/* The value of `flag`, which stands behind its '=' or in the next arguments. */
static enum trm_status read_value(struct arguments *arguments, const struct trm_key *key,
                                  const char *flag, bool negated, const char *attached)
{
    if (key->type == TRM_KEY_BOOL && attached && negated)
        return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                             "%s takes no value; write --%s=true or --%s=false", flag, flag + 5,
                             flag + 5);
    if (key->type == TRM_KEY_BOOL && !attached)
        attached = negated ? "false" : "true";
    if (key->type == TRM_KEY_LIST && attached) {
        trm_value_clear(key, arguments->values);
        if (attached[0] == '\0')
            return TRM_OK;
    }
    if (attached)
        return trm_value_set(key, arguments->values, flag, attached, arguments->err);
    if (arguments->position == arguments->count || is_flag(arguments->items[arguments->position]))
        return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                             "%s needs a value; write %s VALUE or %s=VALUE", flag, flag, flag);
    if (key->type == TRM_KEY_LIST)
        return read_list(arguments, key, flag);
    return trm_value_set(key, arguments->values, flag, arguments->items[arguments->position++],
                         arguments->err);
}

static enum trm_status read_flag(struct arguments *arguments)
{
    char shown[TRM_SHOW_BYTES], flag[FLAG_BYTES];
    const char *argument = arguments->items[arguments->position++];
    const char *equals = strchr(argument, '=');
    bool negated = false;
    if (argument[0] != '-' || argument[1] == '\0')
        return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                             "argument '%s' belongs to no flag; write --name VALUE",
                             trm_text_show(shown, argument));
    snprintf(flag, sizeof(flag), "%.*s", equals ? (int)(equals - argument) : FLAG_BYTES, argument);
    const struct trm_key *key = is_flag(flag) ? find(arguments->table, flag, &negated) : NULL;
    if (!key)
        return unknown_flag(arguments, flag);
    const char **set_by = &arguments->set_by[key - arguments->table->keys];
    if (*set_by)
        return trm_error_set(arguments->err, TRM_ERR_CONFIG,
                             "%s is set twice, by '%s' and by '%s'; keep one", key->name,
                             trm_text_show(shown, *set_by), flag);
    *set_by = argument;
    return read_value(arguments, key, flag, negated, equals ? equals + 1 : NULL);
}

enum trm_status trm_arguments_read(const struct trm_key_table *table, void *values, int argc,
                                   char **argv, struct trm_error *err)
{
    struct arguments arguments = {
        .table = table, .values = values, .count = argc, .items = argv, .err = err};
    TRM_ASSERT(table->count <= TRM_KEYS_LIMIT && err != NULL);
    enum trm_status status = TRM_OK;
    while (status == TRM_OK && arguments.position < argc)
        status = read_flag(&arguments);
    return status;
}
