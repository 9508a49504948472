#include "tests/unit/config/support.h"

#define DATA "data: {train_data_path: [a.bin]}\n"

struct bad_check {
    const char *text;
    int world_size;
    const char *sentence;
};

static const struct bad_check bad_checks[] = {
    {DATA "model: {hidden_size: 770}\n", 0,
     "hidden_size 770 is not a multiple of num_attention_heads 12; hidden_size 768 or 780 would "
     "fit"},
    {DATA "model: {hidden_size: 8}\n", 0,
     "hidden_size 8 is not a multiple of num_attention_heads 12; hidden_size 12 would fit"},
    {DATA "parallel: {tensor_model_parallel_size: 5}\n", 0,
     "tensor_model_parallel_size 5 does not divide num_attention_heads 12; "
     "tensor_model_parallel_size 4 or 6 would fit"},
    {DATA "parallel: {tensor_model_parallel_size: 24}\n", 0,
     "tensor_model_parallel_size 24 does not divide num_attention_heads 12; "
     "tensor_model_parallel_size 12 would fit"},
    {DATA "model: {ffn_hidden_size: 1001}\nparallel: {tensor_model_parallel_size: 2}\n", 0,
     "tensor_model_parallel_size 2 does not divide ffn_hidden_size 1001; "
     "tensor_model_parallel_size 1 would fit"},
    {DATA "training: {global_batch_size: 10, micro_batch_size: 4}\n", 0,
     "global_batch_size 10 is not a multiple of micro_batch_size 4; global_batch_size 8 or 12 "
     "would fit"},
    {DATA "training: {global_batch_size: 2, micro_batch_size: 4}\n", 0,
     "global_batch_size 2 is not a multiple of micro_batch_size 4; global_batch_size 4 would fit"},
    {DATA "training: {global_batch_size: 20, micro_batch_size: 2, lanes: 4}\n", 0,
     "global_batch_size 20 is not a multiple of micro_batch_size 2 x lanes 4 = 8; "
     "global_batch_size 16 or 24 would fit"},
    {DATA "parallel: {tensor_model_parallel_size: 2}\n", 7,
     "the number of ranks, 7, is not a multiple of tensor_model_parallel_size 2; 6 or 8 ranks "
     "would "
     "fit"},
    {DATA "parallel: {tensor_model_parallel_size: 4}\n", 2,
     "the number of ranks, 2, is not a multiple of tensor_model_parallel_size 4; 4 ranks would "
     "fit"},
    {DATA "parallel: {tensor_model_parallel_size: 2, data_parallel_size: 3}\n", 8,
     "data_parallel_size 3 x tensor_model_parallel_size 2 = 6 is not the number of ranks, 8; start "
     "6 ranks, or use data_parallel_size 4"},
    {DATA "model: {seq_length: 100}\n"
          "parallel: {tensor_model_parallel_size: 3, sequence_parallel: true}\n",
     0,
     "micro_batch_size 1 x seq_length 100 = 100 rows are not a multiple of "
     "tensor_model_parallel_size 3, which sequence_parallel needs; 99 or 102 rows would fit"},
    {DATA "training: {lanes: 4}\n", 8,
     "8 data-parallel ranks are more than the 4 lanes; start at most 4 ranks, or give a new run "
     "more lanes"},
    {DATA
     "training: {lanes: 4}\nparallel: {data_parallel_size: 5, tensor_model_parallel_size: 2}\n",
     0,
     "5 data-parallel ranks are more than the 4 lanes; start at most 8 ranks, or give a new run "
     "more lanes"},
    {DATA "optimizer: {lr: 0.001, min_lr: 0.01}\n", 0,
     "min_lr 0.01 is above lr 0.001; min_lr 0 to 0.001 fits"},
    {DATA "training: {train_iters: 100}\noptimizer: {lr_warmup_iters: 700}\n", 0,
     "lr_warmup_iters 700 is above lr_decay_iters 100 (0 means train_iters); warm up for at most "
     "100 steps, or decay for longer"},
    {DATA "optimizer: {lr_decay_style: wsd, lr_warmup_iters: 600, lr_wsd_decay_iters: 500}\n", 0,
     "lr_warmup_iters 600 and lr_wsd_decay_iters 500 exceed lr_decay_iters 1000; "
     "lr_wsd_decay_iters may be at most 400"},
    {DATA "guard: {loss_spike_factor: 0.5}\n", 0,
     "loss_spike_factor 0.5 would call losses of every day spikes; 0 (none) or above 1, such as "
     "1.5, would fit"},
    {"model: {num_layers: 2}\n", 0,
     "train_data_path is not set; name token files in section 'data' or with --train-data-path "
     "FILE"},
    {"data: {train_data_path: [a], split: '95'}\n", 0,
     "split '95' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: '95,5,0'}\n", 0,
     "split '95,5,0' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: '0,5'}\n", 0,
     "split '0,5' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: '95,-5'}\n", 0,
     "split '95,-5' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: '9.5.1,1'}\n", 0,
     "split '9.5.1,1' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: ''}\n", 0,
     "split '' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit"},
    {"data: {train_data_path: [a], split: '1,0'}\n", 0,
     "split '1,0' leaves nothing to validate on; give VALID above 0, valid_data_path, or "
     "eval_iters 0"},
    {DATA "run: {run_dir: ''}\n", 0, "run_dir is empty; name a directory"},
    {DATA "run: {load: ''}\n", 0, "load is empty; give auto, none or the path of a checkpoint"},
    {DATA "run: {load: none, ckpt_step: 100}\n", 0,
     "ckpt_step 100 asks for a checkpoint, but load is none; use load auto or a path, or ckpt_step "
     "-1"},
};

static void check_says_what_would_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_checks); i++) {
        struct trm_config *config = make_config();
        struct trm_error err = {0};
        load_text(config, bad_checks[i].text);
        char *before = yaml_of(config);
        assert_int_equal(trm_config_check(config, bad_checks[i].world_size, &err), TRM_ERR_CONFIG);
        assert_string_equal(err.text, bad_checks[i].sentence);
        char *after = yaml_of(config);
        assert_string_equal(before, after);
        free(before);
        free(after);
        trm_config_destroy(config);
    }
}

static struct trm_config *checked(const char *text, int world_size)
{
    struct trm_config *config = make_config();
    struct trm_error err = {0};
    load_text(config, text);
    if (trm_config_check(config, world_size, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return config;
}

static void check_derives_what_is_left_open(void **state)
{
    (void)state;
    struct trm_config *config = checked(
        DATA "training: {micro_batch_size: 2, global_batch_size: 24, train_iters: 500}\n", 12);
    assert_int_equal(config->ffn_hidden_size, 4 * 768);
    assert_int_equal(config->lanes, 12);
    assert_int_equal(config->accumulation, 1);
    assert_int_equal(config->lr_decay_iters, 500);
    assert_int_equal(config->lr_wsd_decay_iters, 0);
    assert_true(config->train_fraction == 0.95);
    assert_string_equal(config->save, "runs/default/checkpoints");
    assert_int_equal(config->data_parallel_size, 0);
    trm_config_destroy(config);

    config = checked(DATA "training: {micro_batch_size: 2, global_batch_size: 24, lanes: 4}\n"
                          "optimizer: {lr_decay_style: wsd}\nrun: {save: there}\n",
                     3);
    assert_int_equal(config->lanes, 4);
    assert_int_equal(config->accumulation, 3);
    assert_int_equal(config->lr_wsd_decay_iters, 100);
    assert_string_equal(config->save, "there");
    trm_config_destroy(config);
}

static void check_accepts_what_is_allowed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "data: {train_data_path: [a], valid_data_path: [b], split: '1,0'}\n",
        "data: {train_data_path: [a], split: '1.0,0'}\nevaluation: {eval_iters: 0}\n",
        "data: {train_data_path: [a], split: '.5,.5'}\n",
        DATA "training: {train_iters: 0}\noptimizer: {lr_warmup_iters: 10}\n",
        DATA "training: {train_iters: 10}\n"
             "optimizer: {lr_warmup_iters: 20, lr_decay_style: constant}\n",
        DATA "training: {train_iters: 5}\noptimizer: {lr_decay_style: wsd}\n",
        DATA "training: {global_batch_size: 16777216}\n",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        trm_config_destroy(checked(texts[i], 0));
}

static void a_checked_configuration_reads_back_and_checks_the_same(void **state)
{
    (void)state;
    struct trm_config *first = checked(
        "data: {train_data_path: [0.25 a.bin, 'b \"\\ c.bin'], split: '97,3'}\n"
        "optimizer: {lr: 3e-4, adam_eps: 1.00000001e-8, lr_decay_style: wsd, clip_grad: 0.1}\n"
        "training: {global_batch_size: 24, micro_batch_size: 2, seed: 9223372036854775807}\n"
        "run: {run_dir: 'runs/caf\xc3\xa9'}\n",
        4);
    char *once = yaml_of(first);
    struct trm_config *second = checked(once, 3);
    char *twice = yaml_of(second);
    assert_string_equal(once, twice);
    assert_true(first->accumulation == second->accumulation);
    assert_true(first->train_fraction == second->train_fraction);
    const struct trm_key_table *table = trm_config_keys();
    for (int i = 0; i < table->count; i++)
        assert_true(trm_value_equal(&table->keys[i], first, second));
    free(once);
    free(twice);
    trm_config_destroy(first);
    trm_config_destroy(second);
}

static void more_text_than_a_checkpoint_carries_is_refused(void **state)
{
    (void)state;
    struct trm_error err = {0};
    struct trm_config *config = checked(DATA, 0);
    const struct trm_key *key = trm_keys_find(trm_config_keys(), "train_data_path");
    char path[128];
    for (int i = 0; i < 8000; i++) {
        snprintf(path, sizeof(path), "/data/%0100d.bin", i);
        assert_int_equal(trm_value_set(key, config, "train_data_path", path, &err), TRM_OK);
    }
    assert_int_equal(trm_config_check(config, 0, &err), TRM_OK);
    for (int i = 8000; i < 10000; i++) {
        snprintf(path, sizeof(path), "/data/%0100d.bin", i);
        assert_int_equal(trm_value_set(key, config, "train_data_path", path, &err), TRM_OK);
    }
    assert_int_equal(trm_config_check(config, 0, &err), TRM_ERR_CONFIG);
    assert_non_null(strstr(err.text, "a checkpoint carries at most 1040384: name fewer"));
    trm_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_says_what_would_fit),
        cmocka_unit_test(check_derives_what_is_left_open),
        cmocka_unit_test(check_accepts_what_is_allowed),
        cmocka_unit_test(a_checked_configuration_reads_back_and_checks_the_same),
        cmocka_unit_test(more_text_than_a_checkpoint_carries_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
