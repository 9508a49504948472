#include "trainer/config/keys.h"

#include <assert.h>
#include <string.h>

#include "trainer/config/text.h"

#define HEAD(section_, name_, type_, class__)                                                     \
    .section = #section_, .name = #name_, .type = TRM_KEY_##type_, .class_ = TRM_CLASS_##class__, \
    .offset = offsetof(struct trm_config, name_)
#define KEY_INT(section_, name_, default_, minimum_, maximum_, unit_, class__, help_)           \
    {HEAD(section_, name_, INT, class__), .int_default = (default_), .int_minimum = (minimum_), \
     .int_maximum = (maximum_),           .unit = (unit_),           .help = (help_)},
#define KEY_FLOAT(section_, name_, default_, minimum_, maximum_, unit_, class__, help_) \
    {HEAD(section_, name_, FLOAT, class__),                                             \
     .float_default = (default_),                                                       \
     .float_minimum = (minimum_),                                                       \
     .float_maximum = (maximum_),                                                       \
     .unit = (unit_),                                                                   \
     .help = (help_)},
#define KEY_BOOL(section_, name_, default_, class__, help_) \
    {HEAD(section_, name_, BOOL, class__), .int_default = (default_), .unit = "", .help = (help_)},
#define KEY_STRING(section_, name_, default_, class__, help_)                          \
    {HEAD(section_, name_, STRING, class__), .string_default = (default_), .unit = "", \
     .help = (help_)},
#define KEY_ENUM(section_, name_, default_, choices_, class__, help_)                        \
    {HEAD(section_, name_, ENUM, class__), .int_default = (default_), .choices = (choices_), \
     .unit = "", .help = (help_)},
#define KEY_LIST(section_, name_, class__, help_) \
    {HEAD(section_, name_, LIST, class__), .unit = "", .help = (help_)},

static const struct trm_key config_keys[] = {
#include "trainer/config/keys.def"
};

#define CONFIG_KEY_COUNT (sizeof(config_keys) / sizeof(config_keys[0]))
static_assert(CONFIG_KEY_COUNT <= TRM_KEYS_LIMIT, "readers keep one note per key");

const struct trm_key_table *trm_config_keys(void)
{
    static const struct trm_key_table table = {config_keys, (int)CONFIG_KEY_COUNT};
    return &table;
}

const struct trm_key *trm_keys_find(const struct trm_key_table *table, const char *name)
{
    for (int i = 0; i < table->count; i++)
        if (strcmp(table->keys[i].name, name) == 0)
            return &table->keys[i];
    return NULL;
}

const struct trm_key *trm_keys_section(const struct trm_key_table *table, const char *section)
{
    for (int i = 0; i < table->count; i++)
        if (strcmp(table->keys[i].section, section) == 0)
            return &table->keys[i];
    return NULL;
}

const struct trm_key *trm_keys_nearest(const struct trm_key_table *table, const char *section,
                                       const char *word)
{
    struct trm_suggestion here, anywhere;
    trm_suggestion_begin(&here, word);
    trm_suggestion_begin(&anywhere, word);
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (section && strcmp(key->section, section) == 0)
            trm_suggestion_consider(&here, key->name);
        trm_suggestion_consider(&anywhere, key->name);
    }
    const char *name = trm_suggestion_end(&here);
    if (!name)
        name = trm_suggestion_end(&anywhere);
    return name ? trm_keys_find(table, name) : NULL;
}

const char *trm_key_type_name(const struct trm_key *key)
{
    static const char *const names[] = {
        [TRM_KEY_INT] = "whole number",   [TRM_KEY_FLOAT] = "number",
        [TRM_KEY_BOOL] = "true or false", [TRM_KEY_STRING] = "text",
        [TRM_KEY_ENUM] = "one word",      [TRM_KEY_LIST] = "list of texts",
    };
    return names[key->type];
}

const char *trm_key_class_name(enum trm_key_class class_)
{
    static const char *const names[] = {
        [TRM_CLASS_IDENTITY] = "identity",
        [TRM_CLASS_NUMERICS] = "numerics",
        [TRM_CLASS_SCHEDULE] = "schedule",
        [TRM_CLASS_LAYOUT] = "layout",
    };
    return names[class_];
}

const char *trm_key_alias(const struct trm_key *key)
{
    static const char *const aliases[][2] = {
        {"data_parallel_size", "dp"},
        {"tensor_model_parallel_size", "tp"},
        {"micro_batch_size", "mbs"},
        {"global_batch_size", "gbs"},
    };
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if (strcmp(key->name, aliases[i][0]) == 0)
            return aliases[i][1];
    return NULL;
}

const char *trm_key_range(const struct trm_key *key, char out[TRM_RANGE_BYTES])
{
    char low[TRM_DOUBLE_BYTES], high[TRM_DOUBLE_BYTES];
    out[0] = '\0';
    if (key->type == TRM_KEY_INT && key->int_maximum == INT64_MAX)
        snprintf(out, TRM_RANGE_BYTES, "%lld or more", (long long)key->int_minimum);
    else if (key->type == TRM_KEY_INT)
        snprintf(out, TRM_RANGE_BYTES, "%lld to %lld", (long long)key->int_minimum,
                 (long long)key->int_maximum);
    else if (key->type == TRM_KEY_FLOAT)
        snprintf(out, TRM_RANGE_BYTES, "%s to %s", trm_text_double(low, key->float_minimum),
                 trm_text_double(high, key->float_maximum));
    return out;
}

bool trm_key_choice(const struct trm_key *key, int index, char out[TRM_CHOICE_BYTES])
{
    const char *word = key->choices;
    for (int i = 0; i < index && word; i++) {
        word = strchr(word, '|');
        word = word ? word + 1 : NULL;
    }
    if (!word)
        return false;
    snprintf(out, TRM_CHOICE_BYTES, "%.*s", (int)strcspn(word, "|"), word);
    return true;
}

const char *trm_key_default(const struct trm_key *key, char out[TRM_SHOW_BYTES])
{
    char number[TRM_DOUBLE_BYTES], word[TRM_CHOICE_BYTES];
    const char *text = "empty";
    switch (key->type) {
    case TRM_KEY_INT:
        snprintf(number, sizeof(number), "%lld", (long long)key->int_default);
        text = number;
        break;
    case TRM_KEY_FLOAT:
        text = trm_text_double(number, key->float_default);
        break;
    case TRM_KEY_BOOL:
        text = key->int_default ? "true" : "false";
        break;
    case TRM_KEY_ENUM:
        text = trm_key_choice(key, (int)key->int_default, word) ? word : "";
        break;
    case TRM_KEY_STRING:
        text = key->string_default[0] ? key->string_default : text;
        break;
    case TRM_KEY_LIST:
        break;
    }
    snprintf(out, TRM_SHOW_BYTES, "%s", text);
    return out;
}
