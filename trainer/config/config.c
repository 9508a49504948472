#include "trainer/config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "trainer/config/keys.h"
#include "trainer/config/text.h"

static enum trm_status allocate(struct trm_config **out, struct trm_error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the configuration");
    return TRM_OK;
}

enum trm_status trm_config_create(struct trm_config **out, struct trm_error *err)
{
    struct trm_config *config = NULL;
    enum trm_status status = allocate(&config, err);
    if (status == TRM_OK)
        status = trm_values_init(trm_config_keys(), config, err);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return status;
    }
    *out = config;
    return TRM_OK;
}

void trm_config_destroy(struct trm_config *config)
{
    if (!config)
        return;
    trm_values_free(trm_config_keys(), config);
    free(config);
}

/* A copy to read into, so that a failure leaves the original whole. Derived fields stay 0. */
static enum trm_status begin_draft(const struct trm_config *config, struct trm_config **draft,
                                   struct trm_error *err)
{
    enum trm_status status = allocate(draft, err);
    if (status == TRM_OK)
        status = trm_values_copy(trm_config_keys(), *draft, config, err);
    return status;
}

/* Keeps the draft when all went well; frees the other. */
static void end_draft(struct trm_config *config, struct trm_config *draft, enum trm_status status)
{
    if (status == TRM_OK) {
        struct trm_config before = *config;
        *config = *draft;
        *draft = before;
    }
    trm_config_destroy(draft);
}

enum trm_status trm_config_load_text(struct trm_config *config, const char *text, size_t bytes,
                                     const char *name, struct trm_error *err)
{
    struct trm_error unwanted;
    struct trm_config *draft = NULL;
    err = err ? err : &unwanted;
    enum trm_status status = begin_draft(config, &draft, err);
    if (status == TRM_OK)
        status = trm_yaml_read(trm_config_keys(), draft, text, bytes, name, err);
    end_draft(config, draft, status);
    return status;
}

enum trm_status trm_config_load_arguments(struct trm_config *config, int argc, char **argv,
                                          struct trm_error *err)
{
    struct trm_error unwanted;
    struct trm_config *draft = NULL;
    err = err ? err : &unwanted;
    enum trm_status status = begin_draft(config, &draft, err);
    if (status == TRM_OK)
        status = trm_arguments_read(trm_config_keys(), draft, argc, argv, err);
    end_draft(config, draft, status);
    return status;
}

enum trm_status trm_config_load_file(struct trm_config *config, const char *path,
                                     struct trm_error *err)
{
    struct trm_error unwanted;
    struct stat file;
    char shown[TRM_SHOW_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    err = err ? err : &unwanted;
    trm_text_show(shown, path);
    if (stat(path, &file) != 0) {
        if (errno == ENOENT)
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "%s: there is no such file; give the path of a YAML file", shown);
        trm_error_set_errno(err, errno, "%s: the file cannot be reached", shown);
        return err->status = TRM_ERR_CONFIG;
    }
    if (S_ISDIR(file.st_mode))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: this is a directory; give the path of a YAML file", shown);
    if (!S_ISREG(file.st_mode))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: this is not a regular file; give the path of a YAML file", shown);
    if (file.st_size > TRM_CONFIG_TEXT_BYTES)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: the file has %lld bytes; a configuration has at most %d", shown,
                             (long long)file.st_size, TRM_CONFIG_TEXT_BYTES);
    if (trm_file_read_all(path, TRM_CONFIG_TEXT_BYTES, &text, &bytes, err) != TRM_OK)
        return err->status = TRM_ERR_CONFIG;
    enum trm_status status = trm_config_load_text(config, text, bytes, shown, err);
    free(text);
    return status;
}

char *trm_config_to_yaml(const struct trm_config *config)
{
    const struct trm_key_table *table = trm_config_keys();
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0)
            fprintf(out, "%s:\n", key->section);
        fprintf(out, "  %s: ", key->name);
        trm_value_print(key, config, out);
        fputc('\n', out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* The value as text, returned owned; NULL when out of memory. */
static char *value_text(const struct trm_key *key, const struct trm_config *config)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    trm_value_print(key, config, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

void trm_config_compare(const struct trm_config *before, const struct trm_config *after,
                        trm_config_difference_fn report, void *context)
{
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (trm_value_equal(key, before, after))
            continue;
        char *old_text = value_text(key, before), *new_text = value_text(key, after);
        const char *unknown = "(out of memory)";
        report(context, key->name, key->class_, old_text ? old_text : unknown,
               new_text ? new_text : unknown);
        free(old_text);
        free(new_text);
    }
}

void trm_config_print_help(FILE *out)
{
    trm_keys_print_help(trm_config_keys(), out);
}
