/* Any layout out of any other, from any source that is sound. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/random.h"
#include "checkpoint/restore.h"

static void checksum_all(struct trm_slice_set *set)
{
    for (int64_t i = 0; i < set->count; i++)
        set->slices[i].checksum =
            trm_hash64(set->data[i], (size_t)trm_slice_bytes(&set->slices[i], TRM_F32));
}

/* The slices of one rank as a source in memory. */
struct memory_rank {
    struct fixture_pieces pieces;
    struct trm_slice_set set;
    struct trm_source *source;
};

static struct memory_rank memory_rank(const char *name, int tensor_size, int data_size, int rank,
                                      int64_t step)
{
    struct trm_error err = {0};
    struct memory_rank made = {.pieces = fixture_pieces_of(tensor_size, data_size, rank, step)};
    assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, made.pieces.pieces,
                                made.pieces.count, &made.set, &err),
              err);
    checksum_all(&made.set);
    assert_ok(trm_source_memory(name, made.set.slices, made.set.data, made.set.count, TRM_F32,
                                &made.source, &err),
              err);
    return made;
}

static void memory_rank_free(struct memory_rank *rank)
{
    trm_source_destroy(rank->source);
    trm_slice_set_destroy(&rank->set);
    fixture_pieces_free(&rank->pieces);
}

static struct trm_restore *restore_of(struct trm_source *const *sources, int count,
                                      trm_passed_over_fn passed_over, void *context)
{
    struct trm_error err = {0};
    struct trm_restore *restore = NULL;
    assert_ok(trm_restore_create(fixture_tensors, FIXTURE_TENSORS, sources, count, passed_over,
                                 context, &restore, &err),
              err);
    return restore;
}

/* Every rank of one layout out of all shards of another. */
static void restore_layout(struct trm_restore *restore, int tensor_size, int data_size,
                           int64_t step)
{
    for (int rank = 0; rank < tensor_size * data_size; rank++) {
        struct fixture_pieces mine = fixture_pieces_of(tensor_size, data_size, rank, -1);
        struct trm_error err = {0};
        char text[128];
        int64_t bytes = 0;
        assert_ok(trm_restore_run(restore, mine.pieces, mine.count, &bytes, &err), err);
        const char *wrong = fixture_wrong(&mine, step, text);
        if (wrong != NULL)
            fail_msg("%s", wrong);
        assert_true(bytes >= mine.elements * 4);
        fixture_pieces_free(&mine);
    }
}

static void every_layout_reads_every_other_from_disk(void **state)
{
    (void)state;
    static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}, {3, 1}, {4, 5}};
    const int count = (int)(sizeof(layouts) / sizeof(layouts[0]));
    for (int from = 0; from < count; from++) {
        char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
        struct trm_error err = {0};
        struct trm_stored *stored = NULL;
        struct trm_source **sources = NULL;
        fixture_directory(directory);
        struct trm_ckpt_state training = fixture_state(20);
        fixture_save(directory, &training, layouts[from][0], layouts[from][1]);
        assert_ok(trm_file_path(path, &err, "%s/step-00000020", directory), err);
        assert_ok(trm_stored_open(path, &stored, &err), err);
        assert_ok(trm_sources_of_stored(stored, &sources, &err), err);
        struct trm_restore *restore = restore_of(sources, stored->catalog.file_count, NULL, NULL);
        for (int to = 0; to < count; to++)
            restore_layout(restore, layouts[to][0], layouts[to][1], 20);
        trm_restore_destroy(restore);
        trm_sources_destroy(sources, stored->catalog.file_count);
        trm_stored_close(stored);
        fixture_directory_free(directory);
    }
}

/* Cuts `rect` at random into pieces of memory that is filled with the values of step 1. */
static int cut_at_random(uint64_t *draw, struct trm_rect rect, int tensor, int depth,
                         struct trm_ckpt_piece *pieces, float *memory, int64_t *used)
{
    uint64_t bits = trm_random_bits(42, (*draw)++);
    bool rows = bits & 1;
    int64_t side = rows ? rect.rows : rect.columns;
    if (depth == 0 || side < 2 || bits % 7 == 0) {
        float *data = memory + *used;
        for (int64_t r = 0; r < rect.rows; r++)
            for (int64_t c = 0; c < rect.columns; c++)
                memory[(*used)++] =
                    fixture_value(1, tensor, TRM_KIND_PARAMETER, rect.row + r, rect.column + c);
        pieces[0] = (struct trm_ckpt_piece){tensor, TRM_KIND_PARAMETER, rect, data};
        return 1;
    }
    int64_t cut = 1 + (int64_t)(bits >> 8) % (side - 1);
    struct trm_rect a = rect, b = rect;
    if (rows) {
        a.rows = cut;
        b.row += cut;
        b.rows -= cut;
    } else {
        a.columns = cut;
        b.column += cut;
        b.columns -= cut;
    }
    int count = cut_at_random(draw, a, tensor, depth - 1, pieces, memory, used);
    return count + cut_at_random(draw, b, tensor, depth - 1, pieces + count, memory, used);
}

/* Two sources with the same tensor cut differently; the wanted pieces are a third cut. */
static void plans_cover_each_wanted_element_once_whatever_the_cuts(void **state)
{
    (void)state;
    const int tensor = 0;
    const struct trm_rect whole = trm_ckpt_tensor_rect(&fixture_tensors[tensor]);
    const int64_t elements = trm_rect_elements(whole);
    float *memory[3];
    for (int i = 0; i < 3; i++)
        memory[i] = malloc((size_t)elements * sizeof(float));
    uint64_t draw = 0;
    for (int round = 0; round < 200; round++) {
        struct trm_ckpt_piece pieces[3][256];
        struct trm_slice_set sets[2];
        struct trm_source *sources[2];
        struct trm_error err = {0};
        int counts[3];
        for (int i = 0; i < 3; i++) {
            int64_t used = 0;
            counts[i] = cut_at_random(&draw, whole, tensor, 7, pieces[i], memory[i], &used);
            assert_int_equal(used, elements);
        }
        for (int i = 0; i < 2; i++) {
            /* The first source lacks some of its pieces: the second steps in. */
            int have = i == 0 ? counts[0] / 2 : counts[1];
            assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, pieces[i], have, &sets[i],
                                        &err),
                      err);
            checksum_all(&sets[i]);
            assert_ok(trm_source_memory("memory", sets[i].slices, sets[i].data, sets[i].count,
                                        TRM_F32, &sources[i], &err),
                      err);
        }
        struct trm_restore *restore = restore_of(sources, 2, NULL, NULL);
        struct trm_restore_want wants[256];
        for (int p = 0; p < counts[2]; p++)
            wants[p] = (struct trm_restore_want){p, pieces[2][p].rect};
        struct trm_restore_copy *copies = NULL;
        int64_t copy_count = 0;
        assert_ok(
            trm_restore_plan(restore, pieces[2], wants, counts[2], &copies, &copy_count, &err),
            err);
        struct trm_cover cover = {0}, expected = {0};
        trm_cover_add(&expected, whole.columns, whole);
        for (int64_t i = 0; i < copy_count; i++) {
            const struct trm_restore_copy *copy = &copies[i];
            assert_true(trm_rect_contains(pieces[2][copy->piece].rect, copy->rect));
            assert_true(
                trm_rect_contains(sets[copy->source].slices[copy->number].rect, copy->rect));
            trm_cover_add(&cover, whole.columns, copy->rect);
        }
        assert_true(trm_cover_equal(cover, expected));
        memset(memory[2], 0xff, (size_t)elements * sizeof(float));
        assert_ok(trm_restore_run(restore, pieces[2], counts[2], NULL, &err), err);
        struct fixture_pieces mine = {.pieces = pieces[2], .count = counts[2]};
        char text[128];
        assert_null(fixture_wrong(&mine, 1, text));
        free(copies);
        trm_restore_destroy(restore);
        for (int i = 0; i < 2; i++) {
            trm_source_destroy(sources[i]);
            trm_slice_set_destroy(&sets[i]);
        }
    }
    for (int i = 0; i < 3; i++)
        free(memory[i]);
}

static void a_gap_is_found_before_anything_is_read(void **state)
{
    (void)state;
    struct memory_rank half = memory_rank("memory of rank 0", 1, 2, 0, 1);
    struct trm_restore *restore = restore_of(&half.source, 1, NULL, NULL);
    struct fixture_pieces mine = fixture_pieces_of(1, 1, 0, -1);
    struct trm_error err = {0};
    assert_int_equal(trm_restore_run(restore, mine.pieces, mine.count, NULL, &err),
                     TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "no source holds rows 150..150, columns 8..16 of parameter of "
                                  "\"tok_embed\"");
    trm_restore_destroy(restore);
    fixture_pieces_free(&mine);
    memory_rank_free(&half);
}

struct notes {
    int count;
    char source[64], reason[256];
};

static void note(void *context, const char *path, const char *reason)
{
    struct notes *notes = context;
    if (notes->count++ == 0) {
        snprintf(notes->source, sizeof(notes->source), "%s", path);
        snprintf(notes->reason, sizeof(notes->reason), "%s", reason);
    }
}

static void a_corrupt_copy_in_memory_is_passed_over_for_the_next_source(void **state)
{
    (void)state;
    struct memory_rank first = memory_rank("memory", 1, 1, 0, 1);
    struct memory_rank second = memory_rank("peer", 2, 1, 0, 1);
    struct memory_rank third = memory_rank("other peer", 2, 1, 1, 1);
    struct trm_source *sources[] = {first.source, second.source, third.source};
    first.pieces.memory[1000] += 1;
    struct notes notes = {0};
    struct trm_restore *restore = restore_of(sources, 3, note, &notes);
    restore_layout(restore, 1, 3, 1);
    assert_int_equal(notes.count, 1);
    assert_string_equal(notes.source, "memory");
    assert_non_null(strstr(notes.reason, "memory: rows 0..300, columns 0..16 of parameter of "
                                         "\"tok_embed\" have checksum "));
    trm_restore_destroy(restore);

    /* With nobody else to ask, the first failure is the error. */
    restore = restore_of(sources, 1, NULL, NULL);
    struct fixture_pieces mine = fixture_pieces_of(1, 1, 0, -1);
    struct trm_error err = {0};
    assert_int_equal(trm_restore_run(restore, mine.pieces, mine.count, NULL, &err),
                     TRM_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "memory: rows 0..300, columns 0..16 of parameter of "));
    trm_restore_destroy(restore);
    fixture_pieces_free(&mine);
    memory_rank_free(&first);
    memory_rank_free(&second);
    memory_rank_free(&third);
}

static void only_slices_that_are_wanted_are_read(void **state)
{
    (void)state;
    struct memory_rank all = memory_rank("memory", 1, 1, 0, 1);
    struct trm_restore *restore = restore_of(&all.source, 1, NULL, NULL);
    float value = 0;
    struct trm_ckpt_piece piece = {1, TRM_KIND_EXP_AVG, {3, 5, 1, 1}, &value};
    struct trm_error err = {0};
    int64_t bytes = 0;
    assert_ok(trm_restore_run(restore, &piece, 1, &bytes, &err), err);
    assert_true(value == fixture_value(1, 1, TRM_KIND_EXP_AVG, 3, 5));
    assert_int_equal(bytes, 24 * 40 * 4);
    piece.rect.rows = 22;
    assert_int_equal(trm_restore_run(restore, &piece, 1, &bytes, &err), TRM_ERR_INTERNAL);
    trm_restore_destroy(restore);
    memory_rank_free(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_reads_every_other_from_disk),
        cmocka_unit_test(plans_cover_each_wanted_element_once_whatever_the_cuts),
        cmocka_unit_test(a_gap_is_found_before_anything_is_read),
        cmocka_unit_test(a_corrupt_copy_in_memory_is_passed_over_for_the_next_source),
        cmocka_unit_test(only_slices_that_are_wanted_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
