/* docs/configuration.md ends in tables made from keys.def. With TRIREME_UPDATE set this program
 * writes them anew; else it fails when they are stale. */
#include "base/file.h"
#include "tests/unit/config/support.h"

#define MARK "ctest -R test_config_documentation -->\n"

static char *read_page(const char *name)
{
    char path[1024];
    char *text = NULL;
    size_t bytes = 0;
    struct trm_error err = {0};
    if (trm_file_read_all(source_path(path, name), 1 << 20, &text, &bytes, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return text;
}

static void print_row(const struct trm_key *key, FILE *out)
{
    char range[TRM_RANGE_BYTES], value[TRM_SHOW_BYTES], word[TRM_CHOICE_BYTES];
    const char *alias = trm_key_alias(key);
    trm_key_range(key, range);
    fprintf(out, "| `%s`%s%s%s | ", key->name, alias ? " (`--" : "", alias ? alias : "",
            alias ? "`)" : "");
    if (key->type == TRM_KEY_ENUM)
        for (int i = 0; trm_key_choice(key, i, word); i++)
            fprintf(out, "%s`%s`", i ? ", " : "", word);
    else
        fprintf(out, "%s%s%s", trm_key_type_name(key), range[0] ? ", " : "", range);
    fprintf(out, " | %s | %s | %s | %s |\n", key->unit, trm_key_default(key, value),
            trm_key_class_name(key->class_), key->help);
}

/* The tables, returned owned. */
static char *make_tables(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        if (i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0)
            fprintf(out,
                    "\n## %s\n\n| key | value | unit | default | class | meaning |\n"
                    "| --- | --- | --- | --- | --- | --- |\n",
                    key->section);
        print_row(key, out);
    }
    assert_int_equal(fclose(out), 0);
    return text;
}

static void configuration_page_matches_the_table(void **state)
{
    (void)state;
    char path[1024];
    char *page = read_page("docs/configuration.md"), *tables = make_tables();
    char *mark = strstr(page, MARK);
    assert_non_null(mark);
    char *place = mark + strlen(MARK);
    if (getenv("TRIREME_UPDATE")) {
        struct trm_error err = {0};
        size_t prose = (size_t)(place - page), bytes = prose + strlen(tables);
        char *whole = malloc(bytes + 1);
        assert_non_null(whole);
        snprintf(whole, bytes + 1, "%.*s%s", (int)prose, page, tables);
        assert_int_equal(trm_file_write_all(source_path(path, "docs/configuration.md"), whole,
                                            bytes, false, &err),
                         TRM_OK);
        free(whole);
    } else if (strcmp(place, tables) != 0) {
        fail_msg("docs/configuration.md is stale: run TRIREME_UPDATE=1 ctest -R "
                 "test_config_documentation");
    }
    free(page);
    free(tables);
}

static void exit_code_page_lists_every_code(void **state)
{
    (void)state;
    char *page = read_page("docs/exit-codes.md");
    static const int codes[] = {TRM_EXIT_OK,       TRM_EXIT_DIFFERENT, TRM_EXIT_USAGE,
                                TRM_EXIT_CORRUPT,  TRM_EXIT_NOT_FOUND, TRM_EXIT_UNAVAILABLE,
                                TRM_EXIT_SOFTWARE, TRM_EXIT_OS,        TRM_EXIT_IO,
                                TRM_EXIT_REQUEUE,  TRM_EXIT_NUMERICS,  TRM_EXIT_CONFIG,
                                TRM_EXIT_DIVERGED};
    char row[16];
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        snprintf(row, sizeof(row), "\n| %d | ", codes[i]);
        assert_non_null(strstr(page, row));
    }
    for (int status = 0; status < TRM_STATUS_COUNT; status++) {
        snprintf(row, sizeof(row), "\n| %d | ", trm_status_exit_code((enum trm_status)status));
        assert_non_null(strstr(page, row));
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_page_matches_the_table),
        cmocka_unit_test(exit_code_page_lists_every_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
