#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pieces {
    char *parameters, *gradients, *nothing, *odd;
};

/* Set-up code as its users write it: the same calls measure and hand out. */
static struct pieces plan(struct trm_arena *arena)
{
    struct pieces pieces;
    pieces.parameters = trm_arena_alloc(arena, TRM_ARENA_PARAMETERS, 1000);
    pieces.gradients = trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, 5 << 20);
    pieces.nothing = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, 0);
    pieces.odd = trm_arena_alloc(arena, TRM_ARENA_PARAMETERS, 1);
    return pieces;
}

static void measuring_hands_out_nothing_and_counts(void **state)
{
    (void)state;
    struct trm_arena arena;
    trm_arena_init(&arena);
    struct pieces pieces = plan(&arena);
    assert_null(pieces.parameters);
    assert_null(pieces.gradients);
    assert_null(pieces.nothing);
    assert_int_equal(arena.used, 1024 + (5 << 20) + 64);
    assert_int_equal(arena.category_bytes[TRM_ARENA_PARAMETERS], 1024 + 64);
    assert_int_equal(arena.category_bytes[TRM_ARENA_GRADIENTS], 5 << 20);
    assert_int_equal(arena.category_bytes[TRM_ARENA_WORKSPACE], 0);
    trm_arena_destroy(&arena);
}

static void committed_pieces_are_aligned_apart_and_zero(void **state)
{
    (void)state;
    struct trm_arena arena;
    struct trm_error err;
    trm_arena_init(&arena);
    plan(&arena);
    assert_int_equal(trm_arena_commit(&arena, &err), TRM_OK);
    struct pieces pieces = plan(&arena);
    char *all[] = {pieces.parameters, pieces.gradients, pieces.nothing, pieces.odd};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % TRM_ARENA_ALIGNMENT, 0);
    }
    assert_true(pieces.gradients >= pieces.parameters + 1000);
    assert_true(pieces.odd >= pieces.gradients + (5 << 20));
    for (size_t i = 0; i < 5 << 20; i++)
        assert_int_equal(pieces.gradients[i], 0);
    memset(pieces.gradients, 1, 5 << 20);
    memset(pieces.parameters, 2, 1000);
    *pieces.odd = 3;
    assert_int_equal(pieces.gradients[0], 1);
    assert_int_equal(arena.used, arena.capacity);
    /* Handing out is not counted again. */
    assert_int_equal(arena.category_bytes[TRM_ARENA_PARAMETERS], 1024 + 64);
    trm_arena_destroy(&arena);
}

static void an_empty_arena_commits(void **state)
{
    (void)state;
    struct trm_arena arena;
    struct trm_error err;
    trm_arena_init(&arena);
    assert_null(trm_arena_alloc(&arena, TRM_ARENA_WORKSPACE, 0));
    assert_int_equal(trm_arena_commit(&arena, &err), TRM_OK);
    assert_non_null(trm_arena_alloc(&arena, TRM_ARENA_WORKSPACE, 0));
    trm_arena_destroy(&arena);
}

static void more_than_the_machine_has_is_refused_in_words(void **state)
{
    (void)state;
    struct trm_arena arena;
    struct trm_error err;
    trm_arena_init(&arena);
    trm_arena_alloc(&arena, TRM_ARENA_ACTIVATIONS, (size_t)1 << 50);
    assert_int_equal(trm_arena_commit(&arena, &err), TRM_ERR_MEMORY);
    assert_non_null(strstr(err.text, "needs 1 PiB per rank: activations 1 PiB, but"));
    assert_non_null(strstr(err.text, "use a smaller micro batch"));
    assert_null(arena.base);
    trm_arena_destroy(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {
        {SIZE_MAX, 0}, {SIZE_MAX - 10, 64}, {SIZE_MAX / 2, SIZE_MAX / 2 + 1000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct trm_arena arena;
        struct trm_error err;
        trm_arena_init(&arena);
        trm_arena_alloc(&arena, TRM_ARENA_GRADIENTS, sizes[i][0]);
        trm_arena_alloc(&arena, TRM_ARENA_GRADIENTS, sizes[i][1]);
        assert_int_equal(trm_arena_commit(&arena, &err), TRM_ERR_MEMORY);
        trm_arena_destroy(&arena);
    }
}

static void description_leaves_out_empty_categories(void **state)
{
    (void)state;
    struct trm_arena arena;
    char text[256];
    trm_arena_init(&arena);
    trm_arena_describe(&arena, text, sizeof text);
    assert_string_equal(text, "0 B per rank");
    trm_arena_alloc(&arena, TRM_ARENA_PARAMETERS, (size_t)475 << 20);
    trm_arena_alloc(&arena, TRM_ARENA_OPTIMIZER, (size_t)950 << 20);
    trm_arena_describe(&arena, text, sizeof text);
    assert_string_equal(text, "1.4 GiB per rank: parameters 475 MiB, optimizer 950 MiB");
    trm_arena_destroy(&arena);
}

static void description_is_the_same_once_committed_and_fits_its_buffer(void **state)
{
    (void)state;
    struct trm_arena arena;
    struct trm_error err;
    char measured[256], committed[256], small[24];
    trm_arena_init(&arena);
    plan(&arena);
    trm_arena_describe(&arena, measured, sizeof measured);
    assert_int_equal(trm_arena_commit(&arena, &err), TRM_OK);
    trm_arena_describe(&arena, committed, sizeof committed);
    assert_string_equal(measured, committed);
    trm_arena_describe(&arena, small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
    assert_memory_equal(small, committed, sizeof small - 1);
    trm_arena_destroy(&arena);
}

static void destroy_takes_null_and_may_be_repeated(void **state)
{
    (void)state;
    struct trm_arena arena;
    struct trm_error err;
    trm_arena_init(&arena);
    plan(&arena);
    assert_int_equal(trm_arena_commit(&arena, &err), TRM_OK);
    trm_arena_destroy(&arena);
    trm_arena_destroy(&arena);
    trm_arena_destroy(NULL);
}

static void noted_memory_is_told_of_and_not_allocated(void **state)
{
    (void)state;
    struct trm_arena arena;
    char text[256];
    trm_arena_init(&arena);
    trm_arena_alloc(&arena, TRM_ARENA_PARAMETERS, 1 << 20);
    trm_arena_note(&arena, TRM_ARENA_SLOTS, 3 << 20);
    trm_arena_describe(&arena, text, sizeof text);
    assert_string_equal(text, "4 MiB per rank: parameters 1 MiB, copies in memory 3 MiB");
    assert_int_equal(trm_arena_commit(&arena, NULL), TRM_OK);
    assert_int_equal(arena.capacity, 1 << 20);
    trm_arena_note(&arena, TRM_ARENA_SLOTS, 3 << 20); /* of the second pass */
    trm_arena_describe(&arena, text, sizeof text);
    assert_string_equal(text, "4 MiB per rank: parameters 1 MiB, copies in memory 3 MiB");
    trm_arena_destroy(&arena);
}

static void memory_of_the_callers_is_handed_out_and_left_to_it(void **state)
{
    (void)state;
    struct trm_arena arena;
    char memory[4 * TRM_ARENA_ALIGNMENT] __attribute__((aligned(TRM_ARENA_ALIGNMENT)));
    trm_arena_init(&arena);
    trm_arena_alloc(&arena, TRM_ARENA_GRADIENTS, 100);
    trm_arena_alloc(&arena, TRM_ARENA_WORKSPACE, 1);
    assert_true(arena.used <= sizeof memory);
    trm_arena_commit_at(&arena, memory);
    assert_ptr_equal(trm_arena_alloc(&arena, TRM_ARENA_GRADIENTS, 100), memory);
    assert_ptr_equal(trm_arena_alloc(&arena, TRM_ARENA_WORKSPACE, 1),
                     memory + 2 * TRM_ARENA_ALIGNMENT);
    trm_arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noted_memory_is_told_of_and_not_allocated),
        cmocka_unit_test(memory_of_the_callers_is_handed_out_and_left_to_it),
        cmocka_unit_test(measuring_hands_out_nothing_and_counts),
        cmocka_unit_test(committed_pieces_are_aligned_apart_and_zero),
        cmocka_unit_test(an_empty_arena_commits),
        cmocka_unit_test(more_than_the_machine_has_is_refused_in_words),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(description_leaves_out_empty_categories),
        cmocka_unit_test(description_is_the_same_once_committed_and_fits_its_buffer),
        cmocka_unit_test(destroy_takes_null_and_may_be_repeated),
    };
    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
