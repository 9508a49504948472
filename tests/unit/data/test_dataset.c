#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static struct trm_dataset *open_dataset(const struct trm_dataset_settings *settings)
{
    struct trm_dataset *dataset = NULL;
    struct trm_error err = {0};
    if (trm_dataset_open(settings, &dataset, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return dataset;
}

static void a_sample_is_the_window_that_its_place_names(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    write_raw16(*state, "a.bin", 4 * 50 + 1, value_index);
    struct trm_dataset_settings settings = plain_settings(&item, 1);
    struct trm_dataset *dataset = open_dataset(&settings);
    assert_int_equal(trm_dataset_samples(dataset), 50);
    for (int64_t number = 0; number < 120; number++) {
        struct trm_sample_place place = trm_dataset_place(dataset, number);
        int32_t tokens[5];
        assert_int_equal(trm_dataset_read(dataset, number, tokens, NULL), TRM_OK);
        for (int i = 0; i < 5; i++)
            assert_int_equal(tokens[i], place.index * 4 + i);
    }
    trm_dataset_close(dataset);
}

static void a_file_one_token_short_has_a_sample_less(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    static const struct {
        int64_t tokens, samples;
    } cases[] = {{5, 1}, {8, 1}, {9, 2}, {200, 49}, {201, 50}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        write_raw16(*state, "a.bin", cases[c].tokens, value_index);
        struct trm_dataset_settings settings = plain_settings(&item, 1);
        struct trm_dataset *dataset = open_dataset(&settings);
        assert_int_equal(trm_dataset_samples(dataset), cases[c].samples);
        trm_dataset_close(dataset);
    }
}

static void files_without_weights_are_one_stream(void **state)
{
    /* 10, 0 (too short for its part), 25 and 5 samples. */
    static const int64_t counts[] = {41, 5, 101, 21};
    char paths[4][TRM_PATH_BYTES], name[16];
    const char *items[4];
    for (int f = 0; f < 4; f++) {
        snprintf(name, sizeof name, "%d.bin", f);
        items[f] = scratch_path(*state, name, paths[f]);
        write_raw16(*state, name, counts[f], value_index);
    }
    struct trm_dataset_settings settings = plain_settings(items, 4);
    settings.part_end = 0.8; /* 8, 0, 20, 4 */
    struct trm_dataset *dataset = open_dataset(&settings);
    assert_int_equal(trm_dataset_samples(dataset), 32);
    int seen[4][20] = {0};
    for (int64_t number = 0; number < 64; number++) {
        struct trm_sample_place place = trm_dataset_place(dataset, number);
        assert_int_equal(place.epoch, number / 32);
        assert_int_equal(seen[place.file][place.index]++, place.epoch);
    }
    static const int used[] = {8, 0, 20, 4};
    for (int f = 0; f < 4; f++) {
        assert_int_equal(trm_dataset_file(dataset, f).samples, used[f]);
        for (int i = 0; i < used[f]; i++)
            assert_int_equal(seen[f][i], 2);
    }
    trm_dataset_close(dataset);
}

static void weights_are_respected(void **state)
{
    char paths[2][TRM_PATH_BYTES], items[2][TRM_PATH_BYTES + 8];
    const char *list[2] = {items[0], items[1]};
    write_raw16(*state, "a.bin", 4001, value_index);
    write_raw16(*state, "b.bin", 40001, value_index);
    snprintf(items[0], sizeof items[0], "3 %s", scratch_path(*state, "a.bin", paths[0]));
    snprintf(items[1], sizeof items[1], "\t1.0  %s", scratch_path(*state, "b.bin", paths[1]));
    struct trm_dataset_settings settings = plain_settings(list, 2);
    struct trm_dataset *dataset = open_dataset(&settings);
    int64_t first = 0;
    for (int64_t number = 0; number < 2 * 65536; number++)
        first += trm_dataset_place(dataset, number).file == 0;
    assert_int_equal(first, 2 * 49152);
    assert_true(trm_dataset_file(dataset, 0).share == 0.75);
    assert_string_equal(trm_dataset_file(dataset, 1).path, paths[1]);
    trm_dataset_close(dataset);
}

static void a_path_may_hold_blanks_and_start_with_a_number(void **state)
{
    char path[TRM_PATH_BYTES], item[TRM_PATH_BYTES + 8];
    const char *list = scratch_path(*state, "7 my data.bin", path);
    write_raw16(*state, "7 my data.bin", 401, value_index);
    struct trm_dataset_settings settings = plain_settings(&list, 1);
    struct trm_dataset *dataset = open_dataset(&settings);
    assert_int_equal(trm_dataset_samples(dataset), 100);
    trm_dataset_close(dataset);
    snprintf(item, sizeof item, "0.5 %s", path);
    list = item;
    dataset = open_dataset(&settings);
    assert_string_equal(trm_dataset_file(dataset, 0).path, path);
    trm_dataset_close(dataset);
}

static void parts_that_share_a_cut_are_disjoint_and_complete(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    for (int64_t samples = 2; samples <= 120; samples++) {
        int seen[120] = {0};
        write_raw16(*state, "a.bin", samples * 4 + 1, value_index);
        struct trm_dataset_settings train = plain_settings(&item, 1), valid = train;
        train.part_end = valid.part_begin = 95.0 / 100.0;
        valid.part = TRM_PART_VALID;
        struct trm_dataset *datasets[2] = {open_dataset(&train), open_dataset(&valid)};
        for (int d = 0; d < 2; d++) {
            for (int64_t number = 0; number < trm_dataset_samples(datasets[d]); number++)
                seen[trm_dataset_place(datasets[d], number).index]++;
            trm_dataset_close(datasets[d]);
        }
        for (int64_t i = 0; i < samples; i++)
            assert_int_equal(seen[i], 1);
    }
}

static void seed_and_part_key_the_order(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    write_raw16(*state, "a.bin", 4001, value_index);
    struct trm_dataset_settings settings[3];
    for (int s = 0; s < 3; s++)
        settings[s] = plain_settings(&item, 1);
    settings[1].seed = 2;
    settings[2].part = TRM_PART_VALID;
    struct trm_dataset *datasets[3];
    int same[3] = {0};
    for (int s = 0; s < 3; s++)
        datasets[s] = open_dataset(&settings[s]);
    for (int64_t number = 0; number < 1000; number++)
        for (int s = 0; s < 3; s++)
            same[s] += trm_dataset_place(datasets[s], number).index ==
                       trm_dataset_place(datasets[0], number).index;
    assert_int_equal(same[0], 1000);
    assert_in_range(same[1], 0, 20);
    assert_in_range(same[2], 0, 20);
    for (int s = 0; s < 3; s++)
        trm_dataset_close(datasets[s]);
}

static int32_t value_bad_in_the_middle(int64_t index)
{
    return index == 100000 ? 300 : 7;
}

static void a_bad_token_is_found_when_it_is_read_if_not_at_open(void **state)
{
    char path[TRM_PATH_BYTES], sentence[TRM_PATH_BYTES + 200];
    const char *item = scratch_path(*state, "a.bin", path);
    write_raw16(*state, "a.bin", 200001, value_bad_in_the_middle);
    struct trm_dataset_settings settings = plain_settings(&item, 1);
    settings.vocab_size = 256;
    struct trm_dataset *dataset = open_dataset(&settings);
    snprintf(sentence, sizeof sentence,
             "token 300 at index 100000 of \"%s\" (byte 200000) is outside the vocabulary of "
             "256; set vocab_size to its tokenizer's, or set raw_token_type if its tokens are no "
             "uint16",
             path);
    int bad = 0;
    for (int64_t number = 0; number < trm_dataset_samples(dataset); number++) {
        int32_t tokens[5];
        struct trm_error err = {0};
        if (trm_dataset_read(dataset, number, tokens, &err) == TRM_OK)
            continue;
        assert_int_equal(err.status, TRM_ERR_INPUT);
        assert_string_equal(err.text, sentence);
        bad++;
    }
    assert_int_equal(bad, 2); /* the last target of one sample, the first input of the next */
    trm_dataset_close(dataset);
}

static void bad_tokens_near_either_end_are_found_at_open(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    static const struct {
        int64_t index;
        enum trm_status status;
    } cases[] = {{65535, TRM_ERR_INPUT},
                 {65536, TRM_OK},
                 {200000 - 65537, TRM_OK},
                 {200000 - 65536, TRM_ERR_INPUT},
                 {199999, TRM_ERR_INPUT}};
    uint16_t *tokens = calloc(200000, sizeof *tokens);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct trm_dataset *dataset = NULL;
        tokens[cases[c].index] = 256;
        write_file(*state, "a.bin", tokens, 400000);
        tokens[cases[c].index] = 0;
        struct trm_dataset_settings settings = plain_settings(&item, 1);
        settings.vocab_size = 256;
        assert_int_equal(trm_dataset_open(&settings, &dataset, NULL), cases[c].status);
        trm_dataset_close(dataset);
    }
    free(tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(a_sample_is_the_window_that_its_place_names),
        SCRATCH_TEST(a_file_one_token_short_has_a_sample_less),
        SCRATCH_TEST(files_without_weights_are_one_stream),
        SCRATCH_TEST(weights_are_respected),
        SCRATCH_TEST(a_path_may_hold_blanks_and_start_with_a_number),
        SCRATCH_TEST(parts_that_share_a_cut_are_disjoint_and_complete),
        SCRATCH_TEST(seed_and_part_key_the_order),
        SCRATCH_TEST(a_bad_token_is_found_when_it_is_read_if_not_at_open),
        SCRATCH_TEST(bad_tokens_near_either_end_are_found_at_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
