#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/config/support.h"

struct bad_text {
    const char *text;
    const char *sentence;
};

static const struct bad_text bad_texts[] = {
    /* Nothing, or not sections. */
    {"", "t.yaml: the file is empty; write sections such as 'model:' with lines of 'key: value'"},
    {"# notes\n\n", "t.yaml: there is no key in it; write sections such as 'model:' with lines of "
                    "'key: value'"},
    {"---\n", "t.yaml: there is no key in it; write sections such as 'model:' with lines of 'key: "
              "value'"},
    {"null\n", "t.yaml: there is no key in it; write sections such as 'model:' with lines of 'key: "
               "value'"},
    {"- model\n", "t.yaml:1:1: the file must hold sections such as 'model:' with lines of 'key: "
                  "value'"},
    {"model\n", "t.yaml:1:1: the file must hold sections such as 'model:' with lines of 'key: "
                "value'"},
    {"model:\n", "t.yaml:1:1: section 'model' is empty; give it keys or remove it"},
    {"model: 3\n", "t.yaml:1:1: section 'model' must hold lines of 'key: value'"},
    {"model: [a]\n", "t.yaml:1:1: section 'model' must hold lines of 'key: value'"},
    {"[model]: {}\n", "t.yaml:1:1: a list or mapping stands where a name must be; write 'name: "
                      "value'"},
    {"model:\n  ? {a: 1}\n  : 2\n",
     "t.yaml:2:5: a list or mapping stands where a name must be; write 'name: value'"},

    /* Names. */
    {"modle:\n  num_layers: 2\n", "t.yaml:1:1: unknown section 'modle'; did you mean 'model'?"},
    {"zebra:\n  num_layers: 2\n",
     "t.yaml:1:1: unknown section 'zebra'; --help lists every section"},
    {"num_layers: 2\n",
     "t.yaml:1:1: key 'num_layers' stands outside of a section; put it under 'model:'"},
    {"model:\n  num_layers: 2\n\n  hiden_size: 64\n",
     "t.yaml:4:3: unknown key 'hiden_size' in section 'model'; did you mean 'hidden_size'?"},
    {"model:\n  heads: 2\n",
     "t.yaml:2:3: unknown key 'heads' in section 'model'; did you mean 'num_attention_heads'?"},
    {"model:\n  train_itres: 2\n",
     "t.yaml:2:3: unknown key 'train_itres' in section 'model'; did you mean 'train_iters' of "
     "section 'training'?"},
    {"model:\n  colour: red\n",
     "t.yaml:2:3: unknown key 'colour' in section 'model'; --help lists every key"},
    {"model:\n  \"a\\x07b\": red\n",
     "t.yaml:2:3: unknown key 'a\\x07b' in section 'model'; --help lists every key"},
    {"model:\n  \"lr\\0\": 1\n", "t.yaml:2:3: a name has a NUL character; remove it"},
    {"model:\n  lr: 0.1\n",
     "t.yaml:2:3: key 'lr' belongs to section 'optimizer', not 'model'; move it there"},
    {"optimizer:\n  lr: 0.1\n  min_lr: 0\n  lr: 0.2\n",
     "t.yaml:4:3: key 'lr' is set twice, first on line 2; keep one"},
    {"model:\n  num_layers: 2\ntraining:\n  seed: 1\nmodel:\n  hidden_size: 64\n",
     "t.yaml:5:1: section 'model' stands twice, first on line 1; join them"},

    /* Whole numbers. */
    {"model:\n  num_layers: 3.5\n", "t.yaml:2:15: num_layers: '3.5' is not a whole number in plain "
                                    "digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: true\n", "t.yaml:2:15: num_layers: 'true' is not a whole number in "
                                     "plain digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: 0x10\n", "t.yaml:2:15: num_layers: '0x10' is not a whole number in "
                                     "plain digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: 1_0\n", "t.yaml:2:15: num_layers: '1_0' is not a whole number in plain "
                                    "digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: 1e2\n", "t.yaml:2:15: num_layers: '1e2' is not a whole number in plain "
                                    "digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: 012\n", "t.yaml:2:15: num_layers: '012' is not a whole number in plain "
                                    "digits; give a whole number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: 0\n", "t.yaml:2:15: num_layers: '0' is out of range; give a whole "
                                  "number, 1 to 1000 (layers)"},
    {"model:\n  num_layers: -1\n", "t.yaml:2:15: num_layers: '-1' is out of range; give a whole "
                                   "number, 1 to 1000 (layers)"},
    {"training:\n  seed: 9223372036854775808\n",
     "t.yaml:2:9: seed: '9223372036854775808' is out of range; give a whole number, 0 or more"},
    {"training:\n  seed: 99999999999999999999999\n",
     "t.yaml:2:9: seed: '99999999999999999999999' is out of range; give a whole number, 0 or more"},
    {"model:\n  num_layers: \"12\"\n",
     "t.yaml:2:15: num_layers: a quoted text stands where a whole "
     "number must be; remove the quotes"},
    {"model:\n  num_layers: [12]\n",
     "t.yaml:2:15: num_layers: a list stands here; give one whole number"},
    {"model:\n  num_layers:\n    deep: 12\n",
     "t.yaml:3:5: num_layers: a mapping stands here; give one whole number"},
    {"model:\n  num_layers:\n", "t.yaml:2:14: num_layers has no value; give one or remove the "
                                "line"},
    {"model:\n  num_layers: ~\n",
     "t.yaml:2:15: num_layers has no value; give one or remove the line"},

    /* Numbers. */
    {"optimizer:\n  lr: 0.1z\n",
     "t.yaml:2:7: lr: '0.1z' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: 1,5\n",
     "t.yaml:2:7: lr: '1,5' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: .nan\n",
     "t.yaml:2:7: lr: '.nan' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: nan\n",
     "t.yaml:2:7: lr: 'nan' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: inf\n",
     "t.yaml:2:7: lr: 'inf' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: 0x1p3\n",
     "t.yaml:2:7: lr: '0x1p3' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: 1e\n",
     "t.yaml:2:7: lr: '1e' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: .\n",
     "t.yaml:2:7: lr: '.' is not a decimal number; give a number, 0 to 100"},
    {"optimizer:\n  lr: 1e999\n", "t.yaml:2:7: lr: '1e999' is out of range; give a number, 0 to "
                                  "100"},
    {"optimizer:\n  lr: -0.1\n", "t.yaml:2:7: lr: '-0.1' is out of range; give a number, 0 to 100"},
    {"optimizer:\n  adam_beta1: 1\n",
     "t.yaml:2:15: adam_beta1: '1' is out of range; give a number, 0 to 0.999999"},

    /* Words, texts and lists. */
    {"optimizer:\n  lr_decay_style: cosin\n", "t.yaml:2:19: lr_decay_style: 'cosin' is not known; "
                                              "give one of: constant, linear, cosine, wsd"},
    {"run:\n  run_dir:\n", "t.yaml:2:11: run_dir has no value; give one or remove the line"},
    {"run:\n  run_dir: \"a\\0b\"\n", "t.yaml:2:12: run_dir: the text has a NUL character; remove "
                                     "it"},
    {"run:\n  run_dir: \"a\\nb\"\n",
     "t.yaml:2:12: run_dir: 'a\\x0ab' has a control character or invalid UTF-8 at byte 2; give "
     "printable text"},
    {"data:\n  train_data_path: {a: b}\n",
     "t.yaml:2:20: train_data_path: a mapping stands here; give one text or a list of texts"},
    {"data:\n  train_data_path: [a, [b]]\n", "t.yaml:2:24: train_data_path: an item is a list or "
                                             "mapping; each item must be a text"},
    {"data:\n  train_data_path: [a, ~]\n",
     "t.yaml:2:24: train_data_path has no value; give one or remove the line"},
    {"data:\n  train_data_path: [a, \"\"]\n",
     "t.yaml:2:24: train_data_path: item 2 is empty; give it a text or remove it"},

    /* YAML that is refused, and what is none. */
    {"model: &m\n  num_layers: 2\n", "t.yaml:1:8: an anchor (&name) is not supported; remove it"},
    {"model: *m\n", "t.yaml:1:8: an alias (*name) is not supported; write the value out"},
    {"model:\n  num_layers: !!int 2\n", "t.yaml:2:15: a tag (!name) is not supported; remove it"},
    {"model:\n  num_layers: 2\n---\nmodel:\n  num_layers: 3\n",
     "t.yaml:3:1: a second document begins here; keep one"},
    {"model:\n\tnum_layers: 2\n", "t.yaml:2:1: a tab stands here; indent with spaces"},
    {"\xef\xbb\xbf# \xc3\xa9\nmodel:\n\tnum_layers: 2\n",
     "t.yaml:3:1: a tab stands here; indent with spaces"},
    {"run:\n  run_dir: \"abc\n",
     "t.yaml:3:1: found unexpected end of stream while scanning a quoted scalar begun on line 2; "
     "check quotes, brackets, colons and indentation"},
    {"model:\n  num_layers: 2\n hidden_size: 64\n",
     "t.yaml:3:2: did not find expected key while parsing a block mapping begun on line 1; check "
     "quotes, brackets, colons and indentation"},
    {"model:\n  num_layers: 2: 3\n", "t.yaml:2:16: mapping values are not allowed in this context; "
                                     "check quotes, brackets, colons and indentation"},
    {"data:\n  train_data_path: [a, b\n",
     "t.yaml:3:1: did not find expected ',' or ']' while parsing a flow sequence begun on line 2; "
     "check quotes, brackets, colons and indentation"},
    {"model:\n  num_layers: 2 # \xff\n",
     "t.yaml:2:19: byte 0xff is not printable UTF-8 text; is this a configuration file?"},
    {"model:\n  num_layers: 2 # \x01\n",
     "t.yaml:2:19: byte 0x01 is not printable UTF-8 text; is this a configuration file?"},
    {"# \xc0\xaf\n",
     "t.yaml:1:3: byte 0xc0 is not printable UTF-8 text; is this a configuration file?"},
};

static void yaml_names_place_and_remedy_of_each_bad_text(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    char *before = yaml_of(config);
    for (size_t i = 0; i < COUNT_OF(bad_texts); i++) {
        struct trm_error err = {0};
        const char *text = bad_texts[i].text;
        enum trm_status status = trm_config_load_text(config, text, strlen(text), "t.yaml", &err);
        assert_int_equal(status, TRM_ERR_CONFIG);
        assert_int_equal(err.status, TRM_ERR_CONFIG);
        assert_string_equal(err.text, bad_texts[i].sentence);
    }
    char *after = yaml_of(config);
    assert_string_equal(before, after);
    free(before);
    free(after);
    trm_config_destroy(config);
}

static void yaml_reads_what_it_should(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    load_text(config, "\xef\xbb\xbf# a comment \xc3\xa9\r\n"
                      "model: {num_layers: 2, hidden_size: 64}\r\n"
                      "optimizer:\r\n"
                      "  lr: +.5e-1\r\n"
                      "  min_lr: -0\r\n"
                      "  lr_decay_style: \"wsd\"\r\n"
                      "data:\r\n"
                      "  train_data_path:\r\n"
                      "    - 0.3 a.bin\r\n"
                      "    - 'b \"c\" \\ d.bin'\r\n"
                      "  valid_data_path: one.bin\r\n"
                      "run:\r\n"
                      "  run_dir: runs/\xc3\xa9\r\n"
                      "  ckpt_step: -1\r\n");
    assert_int_equal(config->num_layers, 2);
    assert_int_equal(config->hidden_size, 64);
    assert_true(config->lr == 0.05);
    assert_string_equal(config->run_dir, "runs/\xc3\xa9");
    assert_int_equal(config->lr_decay_style, TRM_DECAY_WSD);
    assert_int_equal(config->train_data_path.count, 2);
    assert_string_equal(config->train_data_path.items[0], "0.3 a.bin");
    assert_string_equal(config->train_data_path.items[1], "b \"c\" \\ d.bin");
    assert_int_equal(config->valid_data_path.count, 1);
    assert_string_equal(config->valid_data_path.items[0], "one.bin");

    load_text(config, "data: {train_data_path: [z.bin]}\n");
    assert_int_equal(config->train_data_path.count, 1);
    assert_int_equal(config->num_layers, 2);
    trm_config_destroy(config);
}

static void yaml_ends_deep_nesting_at_once(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    size_t bytes = 1 << 20;
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, '[', bytes);
    struct trm_error err = {0};
    assert_int_equal(trm_config_load_text(config, text, bytes, "t.yaml", &err), TRM_ERR_CONFIG);
    free(text);
    trm_config_destroy(config);
}

static void text_with_nul_bytes_is_refused(void **state)
{
    (void)state;
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    assert_int_equal(trm_config_load_text(config, "model:\n\0", 8, "t.yaml", &err), TRM_ERR_CONFIG);
    assert_string_equal(
        err.text, "t.yaml:2:1: byte 0x00 is not printable UTF-8 text; is this a configuration "
                  "file?");
    assert_int_equal(trm_config_load_text(config, "", 0, "t.yaml", NULL), TRM_ERR_CONFIG);
    trm_config_destroy(config);
}

/* Writes `bytes` of noise (or of `text`) into a new file of `directory`. */
static void write_file(const char *path, const char *text, size_t bytes)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    uint32_t noise = 1;
    for (size_t i = 0; i < bytes; i++) {
        noise = noise * 1664525u + 1013904223u;
        fputc(text ? text[i] : (int)(noise >> 24), out);
    }
    assert_int_equal(fclose(out), 0);
}

static void expect_file_error(const char *path, const char *sentence)
{
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    assert_int_equal(trm_config_load_file(config, path, &err), TRM_ERR_CONFIG);
    assert_int_equal(err.status, TRM_ERR_CONFIG);
    assert_string_equal(err.text, sentence);
    assert_int_equal(trm_config_load_file(config, path, NULL), TRM_ERR_CONFIG);
    trm_config_destroy(config);
}

static void file_errors_name_the_file(void **state)
{
    (void)state;
    char directory[] = "/tmp/trm-config-XXXXXX";
    assert_non_null(mkdtemp(directory));
    assert_int_equal(chdir(directory), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    write_file("noise.yaml", NULL, 10000000);
    write_file("small-noise.yaml", NULL, 1000);
    write_file("empty.yaml", "", 0);
    const char *good = "model:\n  num_layers: 3\n", *bad = "model:\n  num_layers: x\n";
    write_file("good.yaml", good, strlen(good));
    write_file("bad.yaml", bad, strlen(bad));

    expect_file_error("missing.yaml",
                      "missing.yaml: there is no such file; give the path of a YAML file");
    expect_file_error("folder", "folder: this is a directory; give the path of a YAML file");
    expect_file_error("pipe", "pipe: this is not a regular file; give the path of a YAML file");
    expect_file_error("good.yaml/x", "good.yaml/x: the file cannot be reached: not a directory");
    expect_file_error("noise.yaml",
                      "noise.yaml: the file has 10000000 bytes; a configuration has at most "
                      "1048576");
    expect_file_error("small-noise.yaml", "small-noise.yaml:1:3: byte 0x81 is not printable UTF-8 "
                                          "text; is this a configuration file?");
    expect_file_error("empty.yaml",
                      "empty.yaml: the file is empty; write sections such as 'model:' with lines "
                      "of 'key: value'");
    expect_file_error("bad.yaml", "bad.yaml:2:15: num_layers: 'x' is not a whole number in plain "
                                  "digits; give a whole number, 1 to 1000 (layers)");
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    assert_int_equal(trm_config_load_file(config, "good.yaml", &err), TRM_OK);
    assert_int_equal(config->num_layers, 3);
    trm_config_destroy(config);

    static const char *const names[] = {"noise.yaml", "small-noise.yaml", "empty.yaml",
                                        "good.yaml",  "bad.yaml",         "pipe"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(names[i]);
    rmdir("folder");
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_names_place_and_remedy_of_each_bad_text),
        cmocka_unit_test(yaml_reads_what_it_should),
        cmocka_unit_test(yaml_ends_deep_nesting_at_once),
        cmocka_unit_test(text_with_nul_bytes_is_refused),
        cmocka_unit_test(file_errors_name_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
