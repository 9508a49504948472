#include <dirent.h>

#include "tests/unit/config/support.h"

struct example {
    const char *file;
    int64_t parameters;
    int64_t tokens_per_step, steps;
    double lr, min_lr;
};

static const struct example examples[] = {
    {"quickstart.yaml", 842496, 2048, 600, 3e-3, 3e-4},
    {"gpt2-124m.yaml", 124439808, 524288, 18865, 6e-4, 0},
    {"gpt2-350m.yaml", 354823168, 524288, 60000, 3e-4, 0},
    {"gpt2-774m.yaml", 774030080, 524288, 286102, 2.5e-4, 0},
    {"gpt2-1558m.yaml", 1557611200, 1048576, 32000, 6e-4, 6e-5},
};

/* GPT-2 with a tied embedding: two norms, attention and MLP per layer, all with biases. */
static int64_t count_parameters(const struct trm_config *config)
{
    int64_t hidden = config->hidden_size, ffn = config->ffn_hidden_size;
    int64_t layer =
        4 * hidden + (3 * hidden + hidden) * hidden + 4 * hidden + 2 * hidden * ffn + ffn + hidden;
    return config->num_layers * layer + (config->vocab_size + config->seq_length) * hidden +
           2 * hidden;
}

static struct trm_config *load_example(const char *file)
{
    char path[1024], name[256];
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    snprintf(name, sizeof(name), "examples/configs/%s", file);
    if (trm_config_load_file(config, source_path(path, name), &err) != TRM_OK ||
        trm_config_check(config, 2, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return config;
}

static void examples_have_the_published_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct trm_config *config = load_example(examples[i].file);
        assert_int_equal(count_parameters(config), examples[i].parameters);
        assert_int_equal(config->global_batch_size * config->seq_length,
                         examples[i].tokens_per_step);
        assert_int_equal(config->train_iters, examples[i].steps);
        assert_int_equal(config->lr_decay_iters, examples[i].steps);
        assert_true(config->lr == examples[i].lr);
        assert_true(config->min_lr == examples[i].min_lr);
        trm_config_destroy(config);
    }
}

static void every_example_loads_and_checks(void **state)
{
    (void)state;
    char path[1024];
    int count = 0;
    DIR *directory = opendir(source_path(path, "examples/configs"));
    assert_non_null(directory);
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        const char *ending = strrchr(entry->d_name, '.');
        if (!ending || strcmp(ending, ".yaml") != 0)
            continue;
        trm_config_destroy(load_example(entry->d_name));
        count++;
    }
    closedir(directory);
    assert_true(count >= (int)COUNT_OF(examples));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_have_the_published_sizes),
        cmocka_unit_test(every_example_loads_and_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
