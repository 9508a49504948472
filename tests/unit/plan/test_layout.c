/* The layout: alignment, buckets, owned runs, slices over tensor-parallel ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/plan/layout.h"

#define MAX_RUNS 256

static const struct trm_tensor_spec specs[] = {
    {.name = "token",
     .dims = 2,
     .rows = 251,
     .columns = 12,
     .padded_rows = 256,
     .split = TRM_SPLIT_ROWS,
     .own_bucket = true,
     .bucket_group = 0},
    {.name = "position",
     .dims = 2,
     .rows = 100,
     .columns = 12,
     .padded_rows = 100,
     .bucket_group = 1},
    {.name = "q",
     .dims = 2,
     .rows = 12,
     .columns = 12,
     .padded_rows = 12,
     .split = TRM_SPLIT_ROWS,
     .bucket_group = 2},
    {.name = "k",
     .dims = 2,
     .rows = 12,
     .columns = 12,
     .padded_rows = 12,
     .split = TRM_SPLIT_ROWS,
     .fused = true,
     .bucket_group = 2},
    {.name = "down",
     .dims = 2,
     .rows = 12,
     .columns = 300,
     .padded_rows = 12,
     .split = TRM_SPLIT_COLUMNS,
     .bucket_group = 2},
    {.name = "bias", .dims = 1, .rows = 12, .columns = 1, .padded_rows = 12, .bucket_group = 2},
    {.name = "q2",
     .dims = 2,
     .rows = 120,
     .columns = 12,
     .padded_rows = 120,
     .split = TRM_SPLIT_ROWS,
     .bucket_group = 3},
};
#define COUNT ((int)(sizeof specs / sizeof *specs))

static struct trm_layout *make(int tensor_size, int tensor_rank, int data_size, int64_t bucket)
{
    struct trm_layout_shape shape = {tensor_size, tensor_rank, data_size, bucket};
    struct trm_layout *layout = NULL;
    struct trm_error error;
    assert_int_equal(trm_layout_create(specs, COUNT, &shape, &layout, &error), TRM_OK);
    return layout;
}

static void tensors_start_aligned_but_fused_ones_follow(void **state)
{
    struct trm_layout *layout = make(2, 1, 3, 1);
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const struct trm_layout_tensor *t = &layout->tensors[i];
        if (t->spec.fused)
            assert_int_equal(t->offset, t[-1].offset + t[-1].elements);
        else
            assert_int_equal(t->offset % TRM_LAYOUT_ALIGNMENT, 0);
    }
    trm_layout_destroy(layout);
}

static void shards_are_equal_aligned_and_cover_buckets(void **state)
{
    (void)state;
    for (int data_size = 1; data_size <= 7; data_size++) {
        for (int64_t bucket = 0; bucket <= 8000; bucket += 2000) {
            struct trm_layout *layout = make(1, 0, data_size, bucket);
            int64_t end = 0, owned = 0;
            for (int b = 0; b < layout->bucket_count; b++) {
                const struct trm_layout_bucket *k = &layout->buckets[b];
                assert_int_equal(k->offset, end);
                assert_int_equal(k->owned_offset, owned);
                assert_int_equal(k->shard_elements % TRM_LAYOUT_ALIGNMENT, 0);
                assert_int_equal(k->shard_elements * data_size, k->elements);
                end += k->elements;
                owned += k->shard_elements;
            }
            assert_int_equal(end, layout->elements);
            assert_int_equal(owned, layout->owned_elements);
            trm_layout_destroy(layout);
        }
    }
}

static void the_tied_embedding_has_a_bucket_of_its_own(void **state)
{
    struct trm_layout *layout = make(1, 0, 1, 1 << 20);
    (void)state;
    assert_int_equal(layout->bucket_count, 2);
    assert_int_equal(layout->buckets[0].tensor_count, 1);
    assert_int_equal(layout->buckets[1].tensor_count, COUNT - 1);
    trm_layout_destroy(layout);
}

static void buckets_are_runs_of_whole_groups(void **state)
{
    struct trm_layout *layout = make(1, 0, 2, 0);
    (void)state;
    for (int i = 1; i < COUNT; i++)
        assert_int_equal(layout->tensors[i].bucket != layout->tensors[i - 1].bucket,
                         specs[i].bucket_group != specs[i - 1].bucket_group);
    trm_layout_destroy(layout);
}

static void owned_runs_cover_every_element_once(void **state)
{
    struct trm_layout_run runs[MAX_RUNS];
    (void)state;
    for (int data_size = 1; data_size <= 5; data_size++) {
        struct trm_layout *layout = make(2, 0, data_size, 3000);
        unsigned char *seen = calloc((size_t)layout->elements, 1);
        int64_t total = 0;
        for (int rank = 0; rank < data_size; rank++) {
            int count = trm_layout_owned_runs(layout, rank, runs, MAX_RUNS);
            assert_in_range(count, 0, MAX_RUNS);
            for (int i = 0; i < count; i++) {
                const struct trm_layout_tensor *t = &layout->tensors[runs[i].tensor];
                assert_int_equal(runs[i].flat_offset, t->offset + runs[i].begin);
                assert_in_range(runs[i].owned_offset, 0, layout->owned_elements - 1);
                for (int64_t e = runs[i].begin; e < runs[i].end; e++)
                    assert_int_equal(seen[t->offset + e]++, 0);
                total += runs[i].end - runs[i].begin;
            }
        }
        for (int i = 0; i < COUNT; i++)
            total -= layout->tensors[i].elements;
        assert_int_equal(total, 0);
        free(seen);
        trm_layout_destroy(layout);
    }
}

static void slices_tile_the_global_tensor(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        int64_t valid = 0;
        for (int rank = 0; rank < 4; rank++) {
            struct trm_layout *layout = make(4, rank, 1, 0);
            const struct trm_layout_tensor *t = &layout->tensors[i];
            if (t->counted)
                valid += t->valid_rows * t->columns;
            if (specs[i].split == TRM_SPLIT_ROWS)
                assert_int_equal(t->first_row, rank * specs[i].padded_rows / 4);
            if (specs[i].split == TRM_SPLIT_COLUMNS)
                assert_int_equal(t->first_column, rank * specs[i].columns / 4);
            trm_layout_destroy(layout);
        }
        assert_int_equal(valid, specs[i].rows * specs[i].columns);
    }
}

static void a_size_that_does_not_divide_is_refused_in_words(void **state)
{
    struct trm_layout_shape shape = {.tensor_size = 5, .data_size = 1};
    struct trm_layout *layout = NULL;
    struct trm_error error;
    (void)state;
    assert_int_equal(trm_layout_create(specs + 2, 2, &shape, &layout, &error), TRM_ERR_CONFIG);
    assert_string_equal(error.text,
                        "tensor \"q\" has 12 rows, which 5 tensor-parallel ranks don't divide");
    assert_null(layout);
}

static void tensors_are_found_by_name(void **state)
{
    struct trm_layout *layout = make(1, 0, 1, 0);
    (void)state;
    assert_int_equal(trm_layout_find(layout, "down"), 4);
    assert_int_equal(trm_layout_find(layout, "none"), -1);
    trm_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_start_aligned_but_fused_ones_follow),
        cmocka_unit_test(shards_are_equal_aligned_and_cover_buckets),
        cmocka_unit_test(the_tied_embedding_has_a_bucket_of_its_own),
        cmocka_unit_test(buckets_are_runs_of_whole_groups),
        cmocka_unit_test(owned_runs_cover_every_element_once),
        cmocka_unit_test(slices_tile_the_global_tensor),
        cmocka_unit_test(a_size_that_does_not_divide_is_refused_in_words),
        cmocka_unit_test(tensors_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
