#include "tests/unit/config/support.h"

static void defaults_are_those_of_the_table(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    assert_int_equal(config->num_layers, 12);
    assert_int_equal(config->vocab_size, 50257);
    assert_true(config->lr == 6e-4);
    assert_int_equal(config->lr_decay_style, TRM_DECAY_COSINE);
    assert_string_equal(config->split, "95,5");
    assert_int_equal(config->train_data_path.count, 0);
    assert_int_equal(config->reduction, TRM_REDUCTION_FIXED_ORDER);
    trm_config_destroy(config);
    trm_config_destroy(NULL);
}

/* The table's words stand in the order of config.h's enumerations. */
static void choices_match_their_enumerations(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int index;
        const char *word;
    } cases[] = {
        {"architecture", TRM_ARCHITECTURE_GPT2, "gpt2"},
        {"recompute_granularity", TRM_RECOMPUTE_NONE, "none"},
        {"recompute_granularity", TRM_RECOMPUTE_ATTENTION, "attention"},
        {"recompute_granularity", TRM_RECOMPUTE_FULL, "full"},
        {"reduction", TRM_REDUCTION_FIXED_ORDER, "fixed_order"},
        {"reduction", TRM_REDUCTION_FASTEST, "fastest"},
        {"device", TRM_DEVICE_AUTO, "auto"},
        {"device", TRM_DEVICE_CPU, "cpu"},
        {"device", TRM_DEVICE_CUDA, "cuda"},
        {"lr_decay_style", TRM_DECAY_CONSTANT, "constant"},
        {"lr_decay_style", TRM_DECAY_LINEAR, "linear"},
        {"lr_decay_style", TRM_DECAY_COSINE, "cosine"},
        {"lr_decay_style", TRM_DECAY_WSD, "wsd"},
        {"raw_token_type", TRM_RAW_UINT16, "uint16"},
        {"raw_token_type", TRM_RAW_UINT32, "uint32"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char word[TRM_CHOICE_BYTES];
        const struct trm_key *key = trm_keys_find(trm_config_keys(), cases[i].name);
        assert_non_null(key);
        assert_true(trm_key_choice(key, cases[i].index, word));
        assert_string_equal(word, cases[i].word);
    }
    char word[TRM_CHOICE_BYTES];
    assert_false(trm_key_choice(trm_keys_find(trm_config_keys(), "device"), 3, word));
}

static void the_table_is_sound(void **state)
{
    (void)state;
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        assert_ptr_equal(trm_keys_find(table, key->name), key); /* unique */
        assert_true(strlen(key->help) > 5);
        bool first = i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0;
        assert_int_equal(trm_keys_section(table, key->section) == key, first); /* together */
        if (key->type == TRM_KEY_INT)
            assert_in_range(key->int_default - key->int_minimum, 0,
                            key->int_maximum - key->int_minimum);
        if (key->type == TRM_KEY_FLOAT) {
            assert_true(key->float_default >= key->float_minimum);
            assert_true(key->float_default <= key->float_maximum);
        }
    }
}

static void yaml_of_a_configuration_reads_back_equal(void **state)
{
    (void)state;
    struct trm_config *config = make_config(), *again = make_config();
    char *text = yaml_of(config);
    load_text(again, text);
    free(text);
    load_text(config, "optimizer: {lr: 0.30000000000000004, adam_eps: 1.23456789012345678e-17}\n"
                      "data: {train_data_path: [' a b ', '\"', '\\', \"#\", 'x: y', '~'],\n"
                      "       valid_data_path: []}\n"
                      "run: {run_dir: 'null', load: '', save: '\xf0\x9f\x9a\xa3'}\n");
    text = yaml_of(config);
    load_text(again, text);
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++)
        assert_true(trm_value_equal(&table->keys[i], config, again));
    free(text);
    trm_config_destroy(config);
    trm_config_destroy(again);
}

static void note_difference(void *context, const char *name, enum trm_key_class class_,
                            const char *before, const char *after)
{
    char *notes = context;
    size_t used = strlen(notes);
    snprintf(notes + used, 1000 - used, "%s %s %s -> %s\n", trm_key_class_name(class_), name,
             before, after);
}

static void compare_reports_each_difference_with_its_class(void **state)
{
    (void)state;
    struct trm_config *before = make_config(), *after = make_config();
    char notes[1000] = "";
    trm_config_compare(before, after, note_difference, notes);
    assert_string_equal(notes, "");
    load_text(after, "model: {num_layers: 3}\ntraining: {lanes: 4}\n"
                     "optimizer: {lr: 3e-4, lr_decay_style: wsd}\n"
                     "data: {train_data_path: [a, b]}\nrun: {save: here}\n");
    trm_config_compare(before, after, note_difference, notes);
    assert_string_equal(notes, "identity num_layers 12 -> 3\n"
                               "numerics lanes 0 -> 4\n"
                               "schedule lr 0.0006 -> 0.0003\n"
                               "schedule lr_decay_style cosine -> wsd\n"
                               "schedule train_data_path [] -> [\"a\", \"b\"]\n"
                               "layout save \"\" -> \"here\"\n");
    trm_config_destroy(before);
    trm_config_destroy(after);
}

static void help_lists_every_key_within_100_columns(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    trm_config_print_help(out);
    assert_int_equal(fclose(out), 0);
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++) {
        const struct trm_key *key = &table->keys[i];
        char flag[100], fact[TRM_SHOW_BYTES + 20], value[TRM_SHOW_BYTES];
        snprintf(flag, sizeof(flag), "\n  --%s%s", key->type == TRM_KEY_BOOL ? "[no-]" : "",
                 key->name);
        for (char *c = flag; *c; c++)
            *c = *c == '_' ? '-' : *c;
        const char *place = strstr(text, flag);
        while (place && strchr(" ,\n", place[strlen(flag)]) == NULL)
            place = strstr(place + 1, flag);
        assert_non_null(place);
        snprintf(fact, sizeof(fact), "default %s;", trm_key_default(key, value));
        const char *found = strstr(place, fact), *end = strstr(place, "]\n");
        assert_non_null(found);
        assert_true(found < end);
    }
    assert_non_null(strstr(text, "--tensor-model-parallel-size, --tp N\n"));
    assert_non_null(strstr(text, "[whole number, 1 to 1000 layers; default 12; identity]"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_in_range(strcspn(line, "\n"), 0, 100);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(choices_match_their_enumerations),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(yaml_of_a_configuration_reads_back_equal),
        cmocka_unit_test(compare_reports_each_difference_with_its_class),
        cmocka_unit_test(help_lists_every_key_within_100_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
