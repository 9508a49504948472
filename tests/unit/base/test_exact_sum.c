#include "base/exact_sum.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

#define VALUES   10000
#define DENORMAL 0x1p-1074
#define LIMIT    (INT64_C(1) << 30)

static void assert_same_bits(double actual, double expected)
{
    uint64_t a, b;
    memcpy(&a, &actual, sizeof a);
    memcpy(&b, &expected, sizeof b);
    if (a != b)
        fail_msg("got %a, expected %a", actual, expected);
}

static double sum_of(const double *values, size_t count)
{
    struct trm_exact_sum sum;
    trm_exact_sum_init(&sum);
    for (size_t i = 0; i < count; i++)
        trm_exact_sum_add(&sum, values[i]);
    return trm_exact_sum_value(&sum);
}

/* The expected values are exact rational sums, rounded once. */
static void sums_are_rounded_once_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        double values[10];
        double expected;
    } cases[] = {
        {{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}, 1.0},
        {{1e308, 1.0, -1e308}, 1.0},
        {{1e16, 1.0, -1e16}, 1.0},
        {{1e100, 1e84, 1e68, -1e100}, 0x1.078e111c3556dp+279},
        {{3.0, -3.0}, 0.0},
        {{-0.0, -0.0}, 0.0},
        /* ties, and what lies a denormal beside them */
        {{1.0, 0x1p-53}, 1.0},
        {{1.0, 0x1p-53, DENORMAL}, 0x1.0000000000001p+0},
        {{1.0, 0x1p-53, -DENORMAL}, 1.0},
        {{0x1.0000000000001p+0, 0x1p-53}, 0x1.0000000000002p+0},
        {{-1.0, 0x1p-54}, -1.0},
        {{-1.0, 0x1p-54, DENORMAL}, -0x1.fffffffffffffp-1},
        {{0x1p64, -DENORMAL}, 0x1p64},
        /* limb borders */
        {{0x1p32, -1.0}, 0x1.fffffffep+31},
        {{-0x1p32, 1.0}, -0x1.fffffffep+31},
        /* denormals */
        {{DENORMAL, DENORMAL, DENORMAL}, 3 * DENORMAL},
        {{-DENORMAL, -DENORMAL}, -2 * DENORMAL},
        {{DBL_MIN, -DENORMAL}, 0x0.fffffffffffffp-1022},
        {{0x0.fffffffffffffp-1022, DENORMAL}, DBL_MIN},
        {{1e-300, -1e-316}, 0x1.56e1fc2f8f358p-997},
        /* the upper end: sums may pass it on their way */
        {{DBL_MAX, DBL_MAX}, INFINITY},
        {{-DBL_MAX, -DBL_MAX}, -INFINITY},
        {{DBL_MAX, DBL_MAX, -DBL_MAX}, DBL_MAX},
        {{0x1p1023, 0x1p1023, -0x1p1023, -0x1p1023, DENORMAL}, DENORMAL},
        {{DBL_MAX, 0x1p969}, DBL_MAX},
        {{DBL_MAX, 0x1p970}, INFINITY},
        {{DBL_MAX, 0x1p970, -DENORMAL}, DBL_MAX},
        {{-DBL_MAX, -0x1p970}, -INFINITY},
        {{0}, 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_same_bits(sum_of(cases[i].values, 10), cases[i].expected);
}

static void every_single_value_comes_back(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t bits = trm_random_bits(11, i);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value) && value != 0)
            assert_same_bits(sum_of(&value, 1), value);
    }
}

static void nan_and_infinities_decide_the_result(void **state)
{
    (void)state;
    assert_true(isnan(sum_of((double[]){1, NAN, 2}, 3)));
    assert_true(isnan(sum_of((double[]){INFINITY, -INFINITY}, 2)));
    assert_true(isnan(sum_of((double[]){INFINITY, NAN}, 2)));
    assert_same_bits(sum_of((double[]){INFINITY, -DBL_MAX}, 2), INFINITY);
    assert_same_bits(sum_of((double[]){1, -INFINITY, -INFINITY}, 3), -INFINITY);
}

/* Finite doubles with exponent fields in [lowest, lowest + span), the same on every machine. */
static void make_values(double *values, unsigned lowest, unsigned span)
{
    for (uint64_t i = 0; i < VALUES; i++) {
        uint64_t bits = trm_random_bits(7, i);
        uint64_t exponent = lowest + (bits >> 52 & 0x7FF) % span;
        bits = (bits & ~(UINT64_C(0x7FF) << 52)) | exponent << 52;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

static const struct {
    unsigned lowest, span;
    double expected; /* the exact rational sum, rounded once */
} mixes[] = {
    {0, 2030, -0x1.6d1da4157d1c3p+1004}, /* every size */
    {0, 3, -0x1.38ff2ef84c5e3p-1014},    /* denormals and their neighbours */
    {1010, 40, 0x1.228b7a1b04de0p+29},   /* near one */
    {1990, 40, 0x1.228b7a1b04de0p+1009}, /* huge */
};

static void long_sums_are_right_in_any_order(void **state)
{
    (void)state;
    static double values[VALUES], shuffled[VALUES];
    for (size_t m = 0; m < sizeof mixes / sizeof *mixes; m++) {
        make_values(values, mixes[m].lowest, mixes[m].span);
        assert_same_bits(sum_of(values, VALUES), mixes[m].expected);
        for (uint64_t key = 0; key < 5; key++) {
            for (uint64_t i = 0; i < VALUES; i++)
                shuffled[trm_random_permute(key, VALUES, i)] = values[i];
            assert_same_bits(sum_of(shuffled, VALUES), mixes[m].expected);
        }
    }
}

static void long_sums_are_right_in_any_partition(void **state)
{
    (void)state;
    static double values[VALUES];
    for (size_t m = 0; m < sizeof mixes / sizeof *mixes; m++) {
        make_values(values, mixes[m].lowest, mixes[m].span);
        for (size_t parts = 1; parts <= 13; parts++) {
            struct trm_exact_sum total, part;
            trm_exact_sum_init(&total);
            for (size_t p = 0; p < parts; p++) {
                trm_exact_sum_init(&part);
                for (size_t i = p; i < VALUES; i += parts)
                    trm_exact_sum_add(&part, values[i]);
                if (p % 2)
                    trm_exact_sum_normalize(&part);
                trm_exact_sum_merge(&total, &part);
            }
            assert_same_bits(trm_exact_sum_value(&total), mixes[m].expected);
        }
    }
}

/* What an all-reduce does: normalized words are added as integers, `pending` stays behind. */
static void words_may_be_added_as_integers(void **state)
{
    (void)state;
    static double values[VALUES];
    const size_t ranks = 7;
    for (size_t m = 0; m < sizeof mixes / sizeof *mixes; m++) {
        make_values(values, mixes[m].lowest, mixes[m].span);
        struct trm_exact_sum total, part;
        trm_exact_sum_init(&total);
        for (size_t r = 0; r < ranks; r++) {
            trm_exact_sum_init(&part);
            for (size_t i = r; i < VALUES; i += ranks)
                trm_exact_sum_add(&part, values[i]);
            trm_exact_sum_normalize(&part);
            int64_t words[TRM_EXACT_SUM_WORDS], sums[TRM_EXACT_SUM_WORDS];
            memcpy(words, &part, sizeof words);
            memcpy(sums, &total, sizeof sums);
            for (int w = 0; w < TRM_EXACT_SUM_WORDS; w++)
                sums[w] += words[w];
            memcpy(&total, sums, sizeof sums);
        }
        assert_same_bits(trm_exact_sum_value(&total), mixes[m].expected);
    }
}

static void normalizing_changes_no_value_and_bounds_the_limbs(void **state)
{
    (void)state;
    static double values[VALUES];
    for (size_t m = 0; m < sizeof mixes / sizeof *mixes; m++) {
        make_values(values, mixes[m].lowest, mixes[m].span);
        struct trm_exact_sum sum;
        trm_exact_sum_init(&sum);
        for (size_t i = 0; i < VALUES; i++)
            trm_exact_sum_add(&sum, values[i]);
        trm_exact_sum_normalize(&sum);
        assert_int_equal(sum.pending, 0);
        for (int i = 0; i + 1 < TRM_EXACT_SUM_LIMBS; i++)
            assert_true(sum.limb[i] >= 0 && sum.limb[i] <= UINT32_MAX);
        assert_same_bits(trm_exact_sum_value(&sum), mixes[m].expected);
    }
}

/* As if 2^30 - 2 values had been added before, which the test does not wait for. */
static void limbs_are_normalized_before_they_overflow(void **state)
{
    (void)state;
    struct trm_exact_sum sum;
    trm_exact_sum_init(&sum);
    const double value = 0x1.fffffffffffffp+0;
    trm_exact_sum_add(&sum, value);
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
        sum.limb[i] *= LIMIT - 2;
    sum.pending = LIMIT - 2;
    trm_exact_sum_add(&sum, value);
    assert_int_equal(sum.pending, LIMIT - 1);
    trm_exact_sum_add(&sum, value);
    assert_int_equal(sum.pending, 0);
    assert_same_bits(trm_exact_sum_value(&sum), value * (double)LIMIT);
}

static void merging_two_full_sums_does_not_overflow(void **state)
{
    (void)state;
    struct trm_exact_sum sum, other;
    const double value = -0x1.fffffffffffffp+0;
    trm_exact_sum_init(&sum);
    trm_exact_sum_add(&sum, value);
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
        sum.limb[i] *= LIMIT - 1;
    sum.pending = LIMIT - 1;
    other = sum;
    for (int i = 0; i < 5; i++)
        trm_exact_sum_merge(&sum, &other);
    assert_true(sum.pending < LIMIT);
    assert_int_equal(other.pending, LIMIT - 1);
    /* 6 (2^30 - 1) (2 - 2^-52), negated, rounded once. */
    assert_same_bits(trm_exact_sum_value(&sum), -0x1.7ffffff9fffffp+33);
}

static void special_values_survive_a_merge(void **state)
{
    (void)state;
    struct trm_exact_sum sum, other;
    trm_exact_sum_init(&sum);
    trm_exact_sum_init(&other);
    trm_exact_sum_add(&sum, INFINITY);
    trm_exact_sum_add(&other, 1.0);
    trm_exact_sum_merge(&other, &sum);
    assert_same_bits(trm_exact_sum_value(&other), INFINITY);
    trm_exact_sum_init(&sum);
    trm_exact_sum_add(&sum, -INFINITY);
    trm_exact_sum_merge(&other, &sum);
    assert_true(isnan(trm_exact_sum_value(&other)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_rounded_once_to_nearest_even),
        cmocka_unit_test(every_single_value_comes_back),
        cmocka_unit_test(nan_and_infinities_decide_the_result),
        cmocka_unit_test(long_sums_are_right_in_any_order),
        cmocka_unit_test(long_sums_are_right_in_any_partition),
        cmocka_unit_test(words_may_be_added_as_integers),
        cmocka_unit_test(normalizing_changes_no_value_and_bounds_the_limbs),
        cmocka_unit_test(limbs_are_normalized_before_they_overflow),
        cmocka_unit_test(merging_two_full_sums_does_not_overflow),
        cmocka_unit_test(special_values_survive_a_merge),
    };
    return cmocka_run_group_tests_name("base/exact_sum", tests, NULL, NULL);
}
