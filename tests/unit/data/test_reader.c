#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support.h"
#include "trainer/data/reader.h"

#define GLOBAL_BATCH 12
#define STEPS        20
#define ROW          4

static struct trm_dataset *open_counting(const struct scratch *scratch, int64_t samples)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(scratch, "a.bin", path);
    struct trm_dataset *dataset = NULL;
    write_raw16(scratch, "a.bin", samples * ROW + 1, value_index);
    struct trm_dataset_settings settings = plain_settings(&item, 1);
    assert_int_equal(trm_dataset_open(&settings, &dataset, NULL), TRM_OK);
    return dataset;
}

static struct trm_reader *create(const struct trm_dataset *dataset,
                                 const struct trm_reader_settings *settings)
{
    struct trm_reader *reader = NULL;
    struct trm_error err = {0};
    if (trm_reader_create(dataset, settings, &reader, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return reader;
}

/* What a reader must give, computed from the dataset alone: rows[step][slot] of the global batch,
 * passing over the skipped numbers. Returns the position after the last. */
static int64_t expected_numbers(int64_t next, const struct trm_skip *skips, int skip_count,
                                int64_t numbers[STEPS][GLOBAL_BATCH])
{
    for (int i = 0; i < STEPS * GLOBAL_BATCH; next++) {
        bool skipped = false;
        for (int s = 0; s < skip_count; s++)
            skipped |= next >= skips[s].first && next < skips[s].first + skips[s].count;
        if (!skipped) {
            numbers[i / GLOBAL_BATCH][i % GLOBAL_BATCH] = next;
            i++;
        }
    }
    return next;
}

static void check_rows(const struct trm_dataset *dataset,
                       const struct trm_reader_settings *settings, const struct trm_batch *batch,
                       const int64_t numbers[GLOBAL_BATCH])
{
    int64_t row = 0;
    for (int m = 0; m < settings->micro_batches; m++) {
        for (int64_t j = 0; j < settings->micro_batch; j++, row++) {
            int32_t sample[ROW + 1];
            assert_int_equal(
                trm_dataset_read(dataset, numbers[settings->offsets[m] + j], sample, NULL), TRM_OK);
            assert_memory_equal(batch->inputs + row * ROW, sample, ROW * sizeof *sample);
            assert_memory_equal(batch->targets + row * ROW, sample + 1, ROW * sizeof *sample);
        }
    }
}

/* All ways in which ranks cut a batch of 12 here: the first rank of each, and some later ones. */
static const int64_t all_of_1[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const int64_t all_of_3[] = {0, 3, 6, 9};
static const int64_t whole[] = {0};
static const int64_t last_half[] = {6, 8, 10};
static const int64_t mixed_up[] = {8, 0, 4};
static const struct {
    int64_t micro_batch;
    const int64_t *offsets;
    int micro_batches, depth;
} partitions[] = {
    {1, all_of_1, 12, 1}, {3, all_of_3, 4, 2}, {12, whole, 1, 5},
    {2, last_half, 3, 3}, {4, mixed_up, 3, 1}, {1, NULL, 0, 2},
};
#define PARTITION_COUNT (sizeof partitions / sizeof *partitions)

static struct trm_reader_settings partition_settings(size_t p)
{
    return (struct trm_reader_settings){
        .global_batch = GLOBAL_BATCH,
        .micro_batch = partitions[p].micro_batch,
        .offsets = partitions[p].offsets,
        .micro_batches = partitions[p].micro_batches,
        .depth = partitions[p].depth,
    };
}

static void the_stream_is_the_same_however_it_is_cut(void **state)
{
    struct trm_dataset *dataset = open_counting(*state, 100); /* 240 samples: over two epochs */
    uint64_t hashes[STEPS] = {0};
    int64_t numbers[STEPS][GLOBAL_BATCH];
    expected_numbers(0, NULL, 0, numbers);
    for (size_t p = 0; p < PARTITION_COUNT; p++) {
        struct trm_reader_settings settings = partition_settings(p);
        struct trm_reader *reader = create(dataset, &settings);
        for (int step = 0; step < STEPS; step++) {
            struct trm_batch batch;
            assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
            check_rows(dataset, &settings, &batch, numbers[step]);
            assert_int_equal(batch.next_number, (step + 1) * GLOBAL_BATCH);
            if (p == 0)
                hashes[step] = batch.data_hash;
            assert_true(batch.data_hash == hashes[step]);
            assert_true(step == 0 || hashes[step] != hashes[step - 1]);
        }
        trm_reader_destroy(reader);
    }
    trm_dataset_close(dataset);
}

static void a_reader_goes_on_where_another_stopped(void **state)
{
    struct trm_dataset *dataset = open_counting(*state, 100);
    static const struct trm_skip skips[] = {{30, 7}, {37, 20}, {200, 1}};
    struct trm_reader_settings settings = partition_settings(0);
    settings.skips = skips;
    settings.skip_count = 3;
    struct trm_reader *reader = create(dataset, &settings);
    struct trm_batch at[STEPS], batch;
    for (int step = 0; step < STEPS; step++)
        assert_int_equal(trm_reader_next(reader, &at[step], NULL), TRM_OK);
    trm_reader_destroy(reader);
    for (int stop = 0; stop < STEPS - 1; stop++) {
        size_t p = (size_t)stop % PARTITION_COUNT;
        settings = partition_settings(p);
        settings.skips = skips;
        settings.skip_count = 3;
        settings.next_number = at[stop].next_number;
        settings.data_hash = at[stop].data_hash;
        reader = create(dataset, &settings);
        assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
        assert_int_equal(batch.next_number, at[stop + 1].next_number);
        assert_true(batch.data_hash == at[stop + 1].data_hash);
        trm_reader_destroy(reader);
    }
    trm_dataset_close(dataset);
}

static void skipped_numbers_are_never_given(void **state)
{
    static const struct {
        int64_t next;
        struct trm_skip skips[3];
        int count;
    } cases[] = {
        {0, {{0, 1}}, 1},
        {0, {{5, 3}, {8, 2}, {100, 50}}, 3},  /* neighbours */
        {7, {{5, 3}, {20, 1}}, 2},            /* starts inside a range */
        {50, {{5, 3}, {20, 1}, {50, 20}}, 3}, /* starts behind two, at the head of one */
        {0, {{11, 2}, {24, 12}}, 2},          /* over the edge of a batch; a whole batch */
        {0, {{100000, 7}}, 1},
    };
    struct trm_dataset *dataset = open_counting(*state, 1000);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t numbers[STEPS][GLOBAL_BATCH];
        int64_t end = expected_numbers(cases[c].next, cases[c].skips, cases[c].count, numbers);
        struct trm_reader_settings settings = partition_settings(1);
        struct trm_batch batch = {0};
        settings.next_number = cases[c].next;
        settings.skips = cases[c].skips;
        settings.skip_count = cases[c].count;
        struct trm_reader *reader = create(dataset, &settings);
        for (int step = 0; step < STEPS; step++) {
            assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
            check_rows(dataset, &settings, &batch, numbers[step]);
        }
        assert_int_equal(batch.next_number, end);
        trm_reader_destroy(reader);
    }
    trm_dataset_close(dataset);
}

static void the_hash_tells_other_samples_apart(void **state)
{
    struct trm_dataset *dataset = open_counting(*state, 100);
    static const struct trm_skip skip = {3, 1};
    uint64_t hashes[4];
    for (int c = 0; c < 4; c++) {
        struct trm_reader_settings settings = partition_settings(5);
        struct trm_batch batch;
        settings.next_number = c == 1;
        settings.data_hash = c == 2;
        settings.skips = &skip;
        settings.skip_count = c == 3;
        struct trm_reader *reader = create(dataset, &settings);
        assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
        hashes[c] = batch.data_hash;
        for (int before = 0; before < c; before++)
            assert_true(hashes[before] != hashes[c]);
        trm_reader_destroy(reader);
    }
    trm_dataset_close(dataset);
}

static void the_hash_tells_other_places_of_the_same_numbers_apart(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    write_raw16(*state, "a.bin", 100 * ROW + 1, value_index);
    uint64_t hashes[2];
    for (uint64_t seed = 0; seed < 2; seed++) {
        struct trm_dataset *dataset = NULL;
        struct trm_dataset_settings data = plain_settings(&item, 1);
        struct trm_reader_settings settings = partition_settings(5);
        struct trm_batch batch;
        data.seed = seed;
        assert_int_equal(trm_dataset_open(&data, &dataset, NULL), TRM_OK);
        struct trm_reader *reader = create(dataset, &settings);
        assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
        hashes[seed] = batch.data_hash;
        trm_reader_destroy(reader);
        trm_dataset_close(dataset);
    }
    assert_true(hashes[0] != hashes[1]);
}

static int32_t value_bad_in_the_middle(int64_t index)
{
    return index == 80002 ? 60000 : value_index(index) % 50000;
}

static void an_error_comes_with_the_batch_it_lies_in_and_stays(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *item = scratch_path(*state, "a.bin", path);
    struct trm_dataset *dataset = NULL;
    write_raw16(*state, "a.bin", 40000 * ROW + 1, value_bad_in_the_middle);
    struct trm_dataset_settings data = plain_settings(&item, 1);
    data.vocab_size = 50000;
    assert_int_equal(trm_dataset_open(&data, &dataset, NULL), TRM_OK);
    int64_t bad = 0; /* the number of the sample with index 20000 */
    while (trm_dataset_place(dataset, bad).index != 20000)
        bad++;
    struct trm_reader_settings settings = partition_settings(2);
    settings.next_number = bad - 3 * GLOBAL_BATCH - 5; /* in the fourth batch, at place 5 */
    assert_true(settings.next_number > 0);
    struct trm_reader *reader = create(dataset, &settings);
    struct trm_batch batch;
    for (int step = 0; step < 3; step++)
        assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
    for (int again = 0; again < 3; again++) {
        struct trm_error err = {0};
        assert_int_equal(trm_reader_next(reader, &batch, &err), TRM_ERR_INPUT);
        assert_non_null(strstr(err.text, "token 60000 at index 80002 of "));
    }
    assert_int_equal(batch.next_number, bad - 5); /* outputs are written on success alone */
    trm_reader_destroy(reader);

    /* A rank that reads another part of the batch goes on; so does one that skips the sample. */
    static const int64_t elsewhere[] = {6};
    settings.micro_batch = 6;
    settings.offsets = elsewhere;
    reader = create(dataset, &settings);
    for (int step = 0; step < 5; step++)
        assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
    trm_reader_destroy(reader);
    trm_dataset_close(dataset);
}

static void a_batch_stays_valid_until_the_next_call(void **state)
{
    struct trm_dataset *dataset = open_counting(*state, 1000);
    int64_t numbers[STEPS][GLOBAL_BATCH];
    expected_numbers(0, NULL, 0, numbers);
    for (int depth = 1; depth <= 3; depth++) {
        struct trm_reader_settings settings = partition_settings(2);
        struct trm_batch batch;
        settings.depth = depth;
        struct trm_reader *reader = create(dataset, &settings);
        for (int step = 0; step < 5; step++) {
            assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
            usleep(5000); /* the thread fills the ring and must stop before this batch */
            check_rows(dataset, &settings, &batch, numbers[step]);
        }
        trm_reader_destroy(reader);
    }
    trm_dataset_close(dataset);
}

/* Of this process: what others do beside it doesn't count. */
static int64_t processor_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void a_reader_is_destroyed_at_once_whatever_its_thread_does(void **state)
{
    struct trm_dataset *dataset = open_counting(*state, 1000);
    trm_reader_destroy(NULL);
    for (int round = 0; round < 60; round++) {
        struct trm_reader_settings settings = partition_settings((size_t)round % PARTITION_COUNT);
        struct trm_reader *reader = create(dataset, &settings);
        struct trm_batch batch;
        if (round % 3 == 1)
            assert_int_equal(trm_reader_next(reader, &batch, NULL), TRM_OK);
        if (round % 3 == 2)
            usleep(2000); /* it waits for room now */
        trm_reader_destroy(reader);
    }
    /* In the middle of a batch that would take minutes. */
    int64_t *offsets = calloc(100000, sizeof *offsets);
    struct trm_reader_settings settings = {.global_batch = 1000,
                                           .micro_batch = 1000,
                                           .offsets = offsets,
                                           .micro_batches = 10000,
                                           .depth = 1};
    struct trm_reader *reader = create(dataset, &settings);
    usleep(20000);
    int64_t before_ns = processor_ns();
    trm_reader_destroy(reader);
    assert_in_range(processor_ns() - before_ns, 0, INT64_C(1000000000));
    free(offsets);
    trm_dataset_close(dataset);
}

static void impossible_positions_and_skip_lists_are_refused(void **state)
{
    static const struct {
        int64_t next;
        struct trm_skip skips[2];
        int count;
        const char *text;
    } cases[] = {
        {-1,
         {{0}},
         0,
         "the data position -1 is not between 0 and 2305843009213693951; load another "
         "checkpoint"},
        {INT64_MAX,
         {{0}},
         0,
         "the data position 9223372036854775807 is not between 0 and "
         "2305843009213693951; load another checkpoint"},
        {0,
         {{-2, 5}},
         1,
         "range 0 of the skip list (first -2, count 5) is empty, out of order or "
         "overlaps the one before it; list ascending ranges"},
        {0,
         {{5, 0}},
         1,
         "range 0 of the skip list (first 5, count 0) is empty, out of order or "
         "overlaps the one before it; list ascending ranges"},
        {0,
         {{5, 5}, {9, 1}},
         2,
         "range 1 of the skip list (first 9, count 1) is empty, out of order "
         "or overlaps the one before it; list ascending ranges"},
        {0,
         {{5, INT64_MAX}},
         1,
         "range 0 of the skip list (first 5, count 9223372036854775807) is "
         "empty, out of order or overlaps the one before it; list ascending "
         "ranges"},
    };
    struct trm_dataset *dataset = open_counting(*state, 100);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct trm_reader_settings settings = partition_settings(0);
        struct trm_reader *reader = NULL;
        struct trm_error err = {0};
        settings.next_number = cases[c].next;
        settings.skips = cases[c].skips;
        settings.skip_count = cases[c].count;
        assert_int_equal(trm_reader_create(dataset, &settings, &reader, &err), TRM_ERR_CONFIG);
        assert_string_equal(err.text, cases[c].text);
        assert_null(reader);
    }
    trm_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(the_stream_is_the_same_however_it_is_cut),
        SCRATCH_TEST(a_reader_goes_on_where_another_stopped),
        SCRATCH_TEST(skipped_numbers_are_never_given),
        SCRATCH_TEST(the_hash_tells_other_samples_apart),
        SCRATCH_TEST(the_hash_tells_other_places_of_the_same_numbers_apart),
        SCRATCH_TEST(an_error_comes_with_the_batch_it_lies_in_and_stays),
        SCRATCH_TEST(a_batch_stays_valid_until_the_next_call),
        SCRATCH_TEST(a_reader_is_destroyed_at_once_whatever_its_thread_does),
        SCRATCH_TEST(impossible_positions_and_skip_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
