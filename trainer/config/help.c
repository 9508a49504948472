#include <string.h>

#include "trainer/config/keys.h"
#include "trainer/config/text.h"

#define WIDTH       100
#define FLAG_COLUMN 2
#define HELP_COLUMN 36
#define TEXT_BYTES  512

/* Words of `text` in lines between `indent` and WIDTH; the cursor stands at `column`. */
static void wrap(const char *text, int indent, int column, FILE *out)
{
    bool line_start = true;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (!line_start && column + 1 + length > WIDTH) {
            fputc('\n', out);
            column = 0;
            line_start = true;
        }
        if (line_start)
            fprintf(out, "%*s", column < indent ? indent - column : 0, "");
        column = line_start ? (column < indent ? indent : column) : column + 1;
        fprintf(out, "%s%.*s", line_start ? "" : " ", length, text);
        column += length;
        line_start = false;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* "--tensor-model-parallel-size, --tp N" */
static void flag_text(const struct trm_key *key, char *text, size_t text_bytes)
{
    static const char *const placeholders[] = {
        [TRM_KEY_INT] = " N",       [TRM_KEY_FLOAT] = " X", [TRM_KEY_BOOL] = "",
        [TRM_KEY_STRING] = " TEXT", [TRM_KEY_ENUM] = " ",   [TRM_KEY_LIST] = " TEXT...",
    };
    const char *alias = trm_key_alias(key);
    int used =
        snprintf(text, text_bytes, "--%s%s%s%s%s", key->type == TRM_KEY_BOOL ? "[no-]" : "",
                 key->name, alias ? ", --" : "", alias ? alias : "", placeholders[key->type]);
    for (char *c = text; *c; c++)
        if (*c == '_')
            *c = '-';
    if (key->type == TRM_KEY_ENUM)
        snprintf(text + used, text_bytes - (size_t)used, "%s", key->choices);
}

static void print_key(const struct trm_key *key, FILE *out)
{
    char flag[TEXT_BYTES], value[TRM_SHOW_BYTES], range[TRM_RANGE_BYTES], facts[2 * TEXT_BYTES];
    flag_text(key, flag, sizeof(flag));
    trm_key_default(key, value);
    trm_key_range(key, range);
    int column = fprintf(out, "%*s%s", FLAG_COLUMN, "", flag);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    wrap(key->help, HELP_COLUMN, column, out);
    snprintf(facts, sizeof(facts), "[%s%s%s%s%s; default %s; %s]", trm_key_type_name(key),
             range[0] ? ", " : "", range, key->unit[0] ? " " : "", key->unit, value,
             trm_key_class_name(key->class_));
    wrap(facts, HELP_COLUMN, 0, out);
}

void trm_keys_print_help(const struct trm_key_table *table, FILE *out)
{
    wrap("Each key stands in a YAML file as `section: {key: value}`, and as a flag below; a flag "
         "wins over the file. --key VALUE and --key=VALUE are the same; a list takes every value "
         "up to the next flag.",
         0, 0, out);
    wrap("The last word tells what a change means for a run with checkpoints. identity: refused. "
         "numerics: gives other bits, and the load says so. schedule: allowed; it is said and "
         "recorded. layout: free, no bit depends on it.",
         0, 0, out);
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0)
            fprintf(out, "\n%s:\n", key->section);
        print_key(key, out);
    }
}
