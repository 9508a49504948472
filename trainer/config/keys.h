/*
 * The table that keys.def makes, and the values it describes.
 *
 * `values` is always a struct whose fields the table's offsets name: struct trm_config for
 * trm_config_keys(). Constant data and functions of their arguments: any thread. A failed set
 * leaves the value as it was. Strings and list items are owned by the values.
 */
#ifndef TRM_TRAINER_CONFIG_KEYS_H
#define TRM_TRAINER_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "trainer/config/config.h"
#include "trainer/config/text.h"

#define TRM_KEYS_LIMIT   256 /* keys of a table */
#define TRM_CHOICE_BYTES 32  /* one word of an enum */
#define TRM_RANGE_BYTES  64
#define TRM_STRING_LIMIT 4095 /* bytes of a string value */
#define TRM_LIST_LIMIT   65536

enum trm_key_type {
    TRM_KEY_INT,    /* int64_t */
    TRM_KEY_FLOAT,  /* double */
    TRM_KEY_BOOL,   /* bool */
    TRM_KEY_STRING, /* char * */
    TRM_KEY_ENUM,   /* int: index into `choices` */
    TRM_KEY_LIST    /* struct trm_string_list */
};

struct trm_key {
    const char *section, *name;
    enum trm_key_type type;
    enum trm_key_class class_;
    size_t offset;
    int64_t int_default, int_minimum, int_maximum; /* INT; the default of BOOL and ENUM */
    double float_default, float_minimum, float_maximum;
    const char *string_default;
    const char *choices; /* ENUM: "a|b|c" */
    const char *unit;    /* "" for none */
    const char *help;
};

struct trm_key_table {
    const struct trm_key *keys; /* those of a section follow each other */
    int count;
};

/* keys.def. */
const struct trm_key_table *trm_config_keys(void);

/* NULL when there is none. Names are unique over all sections. */
const struct trm_key *trm_keys_find(const struct trm_key_table *table, const char *name);

/* The first key of a section, or NULL. */
const struct trm_key *trm_keys_section(const struct trm_key_table *table, const char *section);

/* The key that an unknown `word` was meant to be, keys of `section` first (NULL: any), or NULL. */
const struct trm_key *trm_keys_nearest(const struct trm_key_table *table, const char *section,
                                       const char *word);

/* "whole number", "number", ...; static. */
const char *trm_key_type_name(const struct trm_key *key);

/* "identity", "numerics", ...; static. */
const char *trm_key_class_name(enum trm_key_class class_);

/* The short flag ("tp"), or NULL; static. */
const char *trm_key_alias(const struct trm_key *key);

/* "1 to 1000", "0 or more"; "" for types without a range. Returns `out`. */
const char *trm_key_range(const struct trm_key *key, char out[TRM_RANGE_BYTES]);

/* The default as a person writes it, "empty" for an empty text or list. Returns `out`. */
const char *trm_key_default(const struct trm_key *key, char out[TRM_SHOW_BYTES]);

/* The word with number `index`; false behind the last. */
bool trm_key_choice(const struct trm_key *key, int index, char out[TRM_CHOICE_BYTES]);

/* Values (value.c). */

/* All defaults into zeroed `values`. TRM_ERR_MEMORY leaves them fit for trm_values_free. */
enum trm_status trm_values_init(const struct trm_key_table *table, void *values,
                                struct trm_error *err);

/* The same with the values of another struct. */
enum trm_status trm_values_copy(const struct trm_key_table *table, void *values, const void *from,
                                struct trm_error *err);
void trm_values_free(const struct trm_key_table *table, void *values);

/* Parses `text` into the value; a LIST gets one item more. `label` is what messages call the key
 * ("lr", "--lr"). TRM_ERR_CONFIG says what would fit. */
enum trm_status trm_value_set(const struct trm_key *key, void *values, const char *label,
                              const char *text, struct trm_error *err);

/* Empties a LIST. */
void trm_value_clear(const struct trm_key *key, void *values);

bool trm_value_equal(const struct trm_key *key, const void *values, const void *others);

/* As it stands in YAML: `0.1`, `"text"`, `["a", "b"]`. */
void trm_value_print(const struct trm_key *key, const void *values, FILE *out);

/* Readers (yaml.c, arguments.c): `err` is not NULL; on failure some values may be set already. */

enum trm_status trm_yaml_read(const struct trm_key_table *table, void *values, const char *text,
                              size_t bytes, const char *name, struct trm_error *err);
enum trm_status trm_arguments_read(const struct trm_key_table *table, void *values, int argc,
                                   char **argv, struct trm_error *err);

/* The whole table for --help, at most 100 columns wide (help.c). */
void trm_keys_print_help(const struct trm_key_table *table, FILE *out);

#endif
