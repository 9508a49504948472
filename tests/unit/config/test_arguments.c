#include "tests/unit/config/support.h"

#define MOST 8

struct bad_arguments {
    char *items[MOST]; /* ends in NULL */
    const char *sentence;
};

static int count_of(char *const items[MOST])
{
    int count = 0;
    while (count < MOST && items[count])
        count++;
    return count;
}

static struct bad_arguments bad_arguments[] = {
    {{"--hiden-size", "64"}, "unknown flag '--hiden-size'; did you mean '--hidden-size'?"},
    {{"--hiden-size=64"}, "unknown flag '--hiden-size'; did you mean '--hidden-size'?"},
    {{"--num_layers", "2"}, "unknown flag '--num_layers'; did you mean '--num-layers'?"},
    {{"-lr", "2"}, "unknown flag '-lr'; did you mean '--lr'?"},
    {{"--layers", "2"}, "unknown flag '--layers'; did you mean '--num-layers'?"},
    {{"--colour", "red"}, "unknown flag '--colour'; --help lists every flag"},
    {{"--"}, "unknown flag '--'; --help lists every flag"},
    {{"--\x01"}, "unknown flag '--\\x01'; --help lists every flag"},
    {{"--=3"}, "unknown flag '--'; --help lists every flag"},
    {{"stray"}, "argument 'stray' belongs to no flag; write --name VALUE"},
    {{""}, "argument '' belongs to no flag; write --name VALUE"},
    {{"-"}, "argument '-' belongs to no flag; write --name VALUE"},
    {{"--lr", "0.1", "0.2"}, "argument '0.2' belongs to no flag; write --name VALUE"},
    {{"--lr"}, "--lr needs a value; write --lr VALUE or --lr=VALUE"},
    {{"--lr", "--seed", "3"}, "--lr needs a value; write --lr VALUE or --lr=VALUE"},
    {{"--train-data-path"},
     "--train-data-path needs a value; write --train-data-path VALUE or --train-data-path=VALUE"},
    {{"--lr="}, "--lr: '' is not a decimal number; give a number, 0 to 100"},
    {{"--lr", "0.1z"}, "--lr: '0.1z' is not a decimal number; give a number, 0 to 100"},
    {{"--lr", "-1"}, "--lr: '-1' is out of range; give a number, 0 to 100"},
    {{"--lr", " 1"}, "--lr: ' 1' is not a decimal number; give a number, 0 to 100"},
    {{"--num-layers", "3.5"},
     "--num-layers: '3.5' is not a whole number in plain digits; give a "
     "whole number, 1 to 1000 (layers)"},
    {{"--tp", "0"}, "--tp: '0' is out of range; give a whole number, 1 to 1024 (ranks)"},
    {{"--lr-decay-style", "cosin"},
     "--lr-decay-style: 'cosin' is not known; give one of: constant, linear, cosine, wsd"},
    {{"--lr", "1", "--lr", "2"}, "lr is set twice, by '--lr' and by '--lr'; keep one"},
    {{"--dp", "1", "--data-parallel-size=2"},
     "data_parallel_size is set twice, by '--dp' and by '--data-parallel-size'; keep one"},
    {{"--train-data-path", "a", "--train-data-path", "b"},
     "train_data_path is set twice, by '--train-data-path' and by '--train-data-path'; keep one"},
    {{"--train-data-path", "a", ""},
     "--train-data-path: item 2 is empty; give it a text or remove it"},
    {{"--train-data-path", "a", "0.3"},
     "--train-data-path: no path follows the weight '0.3'; give WEIGHT PATH, or ./0.3 for a file "
     "of "
     "that name"},
    {{"--train-data-path", "0.3", "--lr", "1"},
     "--train-data-path: no path follows the weight '0.3'; give WEIGHT PATH, or ./0.3 for a file "
     "of "
     "that name"},
    {{"--run-dir", "a\xff"},
     "--run-dir: 'a\\xff' has a control character or invalid UTF-8 at byte "
     "2; give printable text"},
    {{"--run-dir", "a\nb"},
     "--run-dir: 'a\\x0ab' has a control character or invalid UTF-8 at byte "
     "2; give printable text"},
};

static void arguments_name_the_flag_and_the_remedy(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    char *before = yaml_of(config);
    for (size_t i = 0; i < COUNT_OF(bad_arguments); i++) {
        struct trm_error err = {0};
        char **items = bad_arguments[i].items;
        assert_int_equal(trm_config_load_arguments(config, count_of(items), items, &err),
                         TRM_ERR_CONFIG);
        assert_string_equal(err.text, bad_arguments[i].sentence);
    }
    char *after = yaml_of(config);
    assert_string_equal(before, after);
    free(before);
    free(after);
    trm_config_destroy(config);
}

static void a_text_that_is_too_long_is_refused(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    static char text[TRM_STRING_LIMIT + 2];
    memset(text, 'a', TRM_STRING_LIMIT + 1);
    char *items[] = {"--train-data-path", "0.5", text};
    struct trm_error err = {0};
    assert_int_equal(trm_config_load_arguments(config, 3, items, &err), TRM_ERR_CONFIG);
    assert_string_equal(err.text,
                        "--train-data-path: the text has 4100 bytes; at most 4095 are allowed");
    text[TRM_STRING_LIMIT] = '\0';
    char *flag[] = {"--run-dir", text};
    assert_int_equal(trm_config_load_arguments(config, 2, flag, &err), TRM_OK);
    trm_config_destroy(config);
}

static void arguments_win_over_the_file(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    load_text(config, "model: {num_layers: 2}\ndata: {train_data_path: [file.bin]}\n");
    char *items[] = {"--num-layers=3",
                     "--train-data-path",
                     "0.3",
                     "a",
                     "b c",
                     ".7 d",
                     "--ckpt-step",
                     "-1",
                     "--tp",
                     "2",
                     "--dp=3",
                     "--mbs",
                     "4",
                     "--gbs",
                     "24",
                     "--save=--odd=name",
                     "--valid-data-path=v"};
    assert_int_equal(trm_config_load_arguments(config, (int)COUNT_OF(items), items, &err), TRM_OK);
    assert_int_equal(config->num_layers, 3);
    assert_int_equal(config->train_data_path.count, 3);
    assert_string_equal(config->train_data_path.items[0], "0.3 a");
    assert_string_equal(config->train_data_path.items[1], "b c");
    assert_string_equal(config->train_data_path.items[2], ".7 d");
    assert_int_equal(config->ckpt_step, -1);
    assert_int_equal(config->tensor_model_parallel_size, 2);
    assert_int_equal(config->data_parallel_size, 3);
    assert_int_equal(config->micro_batch_size, 4);
    assert_int_equal(config->global_batch_size, 24);
    assert_string_equal(config->save, "--odd=name");
    assert_int_equal(config->valid_data_path.count, 1);

    char *emptying[] = {"--valid-data-path=", "--save="};
    assert_int_equal(trm_config_load_arguments(config, 2, emptying, &err), TRM_OK);
    assert_int_equal(config->valid_data_path.count, 0);
    assert_string_equal(config->save, "");
    assert_int_equal(trm_config_load_arguments(config, 0, NULL, &err), TRM_OK);
    trm_config_destroy(config);
}

/* The configuration may have no switch; the reader still knows them. */
struct toy {
    bool fast_start;
    char *name;
};

static const struct trm_key toy_keys[] = {
    {.section = "toy",
     .name = "fast_start",
     .type = TRM_KEY_BOOL,
     .class_ = TRM_CLASS_LAYOUT,
     .offset = offsetof(struct toy, fast_start),
     .unit = "",
     .help = "a switch"},
    {.section = "toy",
     .name = "name",
     .type = TRM_KEY_STRING,
     .class_ = TRM_CLASS_LAYOUT,
     .offset = offsetof(struct toy, name),
     .string_default = "",
     .unit = "",
     .help = "a text"},
};
static const struct trm_key_table toy_table = {toy_keys, 2};

static void switches_take_no_or_an_attached_value(void **state)
{
    (void)state;
    static const struct {
        char *argument;
        bool before, after;
        const char *sentence;
    } cases[] = {
        {"--fast-start", false, true, NULL},
        {"--no-fast-start", true, false, NULL},
        {"--fast-start=true", false, true, NULL},
        {"--fast-start=false", true, false, NULL},
        {"--fast-start=yes", false, false, "--fast-start: 'yes' is neither true nor false"},
        {"--no-fast-start=true", false, false,
         "--no-fast-start takes no value; write --fast-start=true or --fast-start=false"},
        {"--no-name", false, false, "unknown flag '--no-name'; --help lists every flag"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct toy toy = {0};
        struct trm_error err = {0};
        char *argument = cases[i].argument;
        assert_int_equal(trm_values_init(&toy_table, &toy, &err), TRM_OK);
        toy.fast_start = cases[i].before;
        enum trm_status status = trm_arguments_read(&toy_table, &toy, 1, &argument, &err);
        assert_int_equal(status, cases[i].sentence ? TRM_ERR_CONFIG : TRM_OK);
        if (cases[i].sentence)
            assert_string_equal(err.text, cases[i].sentence);
        assert_int_equal(toy.fast_start, cases[i].after);
        trm_values_free(&toy_table, &toy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_name_the_flag_and_the_remedy),
        cmocka_unit_test(a_text_that_is_too_long_is_refused),
        cmocka_unit_test(arguments_win_over_the_file),
        cmocka_unit_test(switches_take_no_or_an_attached_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
