#include "fixture.h"

#include <string.h>

/* Marks, in storage order of the rectangles, the flat index inside `whole` of each element. */
static int64_t unfold(struct trm_rect whole, const struct trm_rect *parts, int count, int64_t *flat)
{
    int64_t n = 0;
    for (int p = 0; p < count; p++)
        for (int64_t r = 0; r < parts[p].rows; r++)
            for (int64_t c = 0; c < parts[p].columns; c++)
                flat[n++] = (parts[p].row - whole.row + r) * whole.columns +
                            (parts[p].column - whole.column + c);
    return n;
}

static void split_gives_exactly_the_range_in_order(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= 6; rows++)
        for (int64_t columns = 1; columns <= 6; columns++)
            for (int64_t begin = 0; begin <= rows * columns; begin++)
                for (int64_t end = begin; end <= rows * columns; end++) {
                    struct trm_rect whole = {3, 11, rows, columns}, out[TRM_RECT_SPLIT_MAX];
                    int64_t flat[36];
                    int count = trm_rect_split(whole, begin, end, out);
                    assert_in_range(count, 0, TRM_RECT_SPLIT_MAX);
                    for (int p = 0; p < count; p++)
                        assert_true(trm_rect_contains(whole, out[p]) &&
                                    trm_rect_elements(out[p]) > 0);
                    assert_int_equal(unfold(whole, out, count, flat), end - begin);
                    for (int64_t i = 0; i < end - begin; i++)
                        assert_int_equal(flat[i], begin + i);
                }
}

static void a_column_is_split_into_one_rectangle(void **state)
{
    (void)state;
    struct trm_rect out[TRM_RECT_SPLIT_MAX];
    assert_int_equal(trm_rect_split((struct trm_rect){0, 0, 100, 1}, 7, 93, out), 1);
    assert_int_equal(out[0].row, 7);
    assert_int_equal(out[0].rows, 86);
}

/* All rectangles of a 4 x 4 matrix, empty ones left out. */
static int all_rects(struct trm_rect *rects)
{
    int n = 0;
    for (int64_t r = 0; r < 4; r++)
        for (int64_t c = 0; c < 4; c++)
            for (int64_t h = 1; r + h <= 4; h++)
                for (int64_t w = 1; c + w <= 4; w++)
                    rects[n++] = (struct trm_rect){r, c, h, w};
    return n;
}

static unsigned bits(struct trm_rect rect)
{
    unsigned set = 0;
    for (int64_t r = 0; r < rect.rows; r++)
        for (int64_t c = 0; c < rect.columns; c++)
            set |= 1u << ((rect.row + r) * 4 + rect.column + c);
    return set;
}

static void intersection_and_difference_are_those_of_the_sets(void **state)
{
    (void)state;
    struct trm_rect rects[100];
    int n = all_rects(rects);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            struct trm_rect common, rest[TRM_RECT_SUBTRACT_MAX];
            bool meet = trm_rect_intersect(rects[i], rects[j], &common);
            unsigned expected = bits(rects[i]) & bits(rects[j]);
            assert_int_equal(meet, expected != 0);
            assert_int_equal(trm_rect_contains(rects[i], rects[j]),
                             (bits(rects[j]) & ~bits(rects[i])) == 0);
            if (!meet)
                continue;
            assert_int_equal(bits(common), expected);
            unsigned left = 0;
            int count = trm_rect_subtract(rects[i], common, rest);
            for (int k = 0; k < count; k++) {
                assert_int_equal(left & bits(rest[k]), 0);
                left |= bits(rest[k]);
            }
            assert_int_equal(left, bits(rects[i]) & ~expected);
        }
}

static void contains_does_not_overflow(void **state)
{
    (void)state;
    struct trm_rect outer = {0, 0, 100, 100};
    const struct trm_rect hostile[] = {
        {INT64_MAX, 0, 1, 1}, {1, 1, INT64_MAX, 1},         {0, 0, -1, 1},
        {-1, 0, 2, 1},        {INT64_MIN, 0, INT64_MAX, 1}, {0, INT64_MAX, 1, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
        assert_false(trm_rect_contains(outer, hostile[i]));
}

static struct trm_cover cover_of(int64_t columns, struct trm_rect rect)
{
    struct trm_cover cover = {0};
    trm_cover_add(&cover, columns, rect);
    return cover;
}

static void cover_sums_are_those_of_the_elements(void **state)
{
    (void)state;
    struct trm_rect rects[100];
    int n = all_rects(rects);
    for (int i = 0; i < n; i++) {
        struct trm_cover expected = {0};
        for (unsigned flat = 0; flat < 16; flat++)
            if (bits(rects[i]) >> flat & 1) {
                expected.count++;
                expected.sum += flat;
                expected.squares += (uint64_t)flat * flat;
            }
        assert_true(trm_cover_equal(cover_of(4, rects[i]), expected));
    }
}

static void covers_of_any_cut_of_a_huge_matrix_add_up(void **state)
{
    (void)state;
    const int64_t rows = ((int64_t)1 << 36) - 3, columns = 12345;
    struct trm_cover whole = cover_of(columns, (struct trm_rect){0, 0, rows, columns});
    struct trm_cover parts = {0}, shifted = {0};
    int64_t cut = rows / 3;
    trm_cover_add(&parts, columns, (struct trm_rect){0, 0, cut, columns});
    trm_cover_add(&parts, columns, (struct trm_rect){cut, 0, rows - cut, 77});
    trm_cover_add(&parts, columns, (struct trm_rect){cut, 77, rows - cut, columns - 77});
    assert_true(trm_cover_equal(parts, whole));
    trm_cover_add(&shifted, columns, (struct trm_rect){0, 0, cut, columns});
    trm_cover_add(&shifted, columns, (struct trm_rect){cut - 1, 0, rows - cut, columns});
    assert_int_equal(shifted.count, whole.count);
    assert_false(trm_cover_equal(shifted, whole));
}

/* Two outer quarters twice against two inner ones missing: count and sum alone don't see it. */
static void a_symmetric_overlap_is_noticed(void **state)
{
    (void)state;
    struct trm_cover cover = {0}, whole = cover_of(1, (struct trm_rect){0, 0, 8, 1});
    trm_cover_add(&cover, 1, (struct trm_rect){0, 0, 2, 1});
    trm_cover_add(&cover, 1, (struct trm_rect){0, 0, 2, 1});
    trm_cover_add(&cover, 1, (struct trm_rect){6, 0, 2, 1});
    trm_cover_add(&cover, 1, (struct trm_rect){6, 0, 2, 1});
    assert_int_equal(cover.count, whole.count);
    assert_int_equal(cover.sum, whole.sum);
    assert_false(trm_cover_equal(cover, whole));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_gives_exactly_the_range_in_order),
        cmocka_unit_test(a_column_is_split_into_one_rectangle),
        cmocka_unit_test(intersection_and_difference_are_those_of_the_sets),
        cmocka_unit_test(contains_does_not_overflow),
        cmocka_unit_test(cover_sums_are_those_of_the_elements),
        cmocka_unit_test(covers_of_any_cut_of_a_huge_matrix_add_up),
        cmocka_unit_test(a_symmetric_overlap_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
