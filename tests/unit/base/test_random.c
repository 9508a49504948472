#include "base/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

#define DRAWS 2000000

/* Random123's file of known answers, philox4x32 with 10 rounds. */
static void philox_gives_the_published_answers(void **state)
{
    (void)state;
    static const struct {
        uint64_t key, low, high;
        uint32_t out[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {UINT64_C(0x299f31d0a4093822),
         UINT64_C(0x85a308d3243f6a88),
         UINT64_C(0x0370734413198a2e),
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        trm_random_philox(cases[i].key, cases[i].low, cases[i].high, out);
        assert_memory_equal(out, cases[i].out, sizeof out);
    }
}

static void bits_are_the_first_two_words(void **state)
{
    (void)state;
    assert_true(trm_random_bits(0, 0) == UINT64_C(0xe169c58d6627e8d5));
    assert_true(trm_random_bits(42, 1) == UINT64_C(0x53ba6cfdfcdb2127));
    assert_true(trm_random_bits(UINT64_C(0x123456789abcdef), UINT64_C(1) << 40) ==
                UINT64_C(0x38c52e6c3d094af0));
}

/* These bits make the initial weights: no compiler and no processor may change one. */
static void normals_keep_their_bits(void **state)
{
    (void)state;
    static const double expected[] = {
        -0x1.42dc65ce0ff8p-4, -0x1.caca1d20ed484p-2, 0x1.a1a8bc2f2eb54p-2, 0x1.c447f0807783ep-2,
        0x1.fb285d987d0dfp-1, -0x1.16290af19a376p-1, 0x1.4e5c5eec49af4p-1, -0x1.dc1a6a63ac5b1p-3,
    };
    for (uint64_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        double value = trm_random_normal(42, i);
        assert_memory_equal(&value, &expected[i], sizeof value);
    }
    uint64_t rolling = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double value = trm_random_normal(42, i);
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        rolling = trm_hash_roll(rolling, bits);
    }
    assert_true(rolling == UINT64_C(0x952db86c39dde469));
}

/* Computed to 60 digits by root finding on the distribution function; both branches of the tail. */
static void quantiles_are_right_to_the_last_digits(void **state)
{
    (void)state;
    static const struct {
        double share, quantile;
    } cases[] = {
        {0x1.0000000000000p-1, 0.0},
        {0x1.0000000000000p-2, -0.67448975019608174},
        {0x1.3333333333333p-4, -1.4395314709384559},
        {0x1.32ca57a786c22p-4, -1.4402382675279637},
        {0x1.8d4fdf3b645a2p-6, -1.9729610513118848},
        {0x1.0624dd2f1a9fcp-10, -3.0902323061678135},
        {0x1.0c6f7a0b5ed8dp-20, -4.753424308822899},
        {0x1.b7cdfd9d7bdbbp-34, -6.3613409024040562},
        {0x1.07e1fe91b0b70p-36, -6.6465708874771129},
        {0x1.c965971ea9c5cp-37, -6.6676114565107408},
        {0x1.19799812dea11p-40, -7.0344838253011319},
        {0x1.0000000000000p-53, -8.2095361516013869},
        {0x1.ccccccccccccdp-1, 1.2815515655446006},
        {0x1.ffffde7210be9p-1, 4.7534243088170878},
        {0x1.fffffffffffffp-1, 8.2095361516013869},
        {0x1.d99999999999ap-1, 1.4395314709384562},
        {0x1.da1cac083126fp-1, 1.4466320671589788},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double value = trm_random_normal_quantile(cases[i].share);
        assert_true(fabs(value - cases[i].quantile) <= 1e-15 * fabs(cases[i].quantile));
    }
}

static void normals_have_the_moments_and_tails_of_the_normal_distribution(void **state)
{
    (void)state;
    double sum = 0, squares = 0, cubes = 0, fourths = 0;
    int beyond[5] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        double x = trm_random_normal(9, i);
        sum += x;
        squares += x * x;
        cubes += x * x * x;
        fourths += x * x * x * x;
        for (int sigma = 1; sigma < 5; sigma++)
            beyond[sigma] += fabs(x) > sigma;
    }
    /* Five standard errors of each. */
    double root = sqrt(DRAWS);
    assert_true(fabs(sum / DRAWS) < 5 / root);
    assert_true(fabs(squares / DRAWS - 1) < 5 * sqrt(2) / root);
    assert_true(fabs(cubes / DRAWS) < 5 * sqrt(15) / root);
    assert_true(fabs(fourths / DRAWS - 3) < 5 * sqrt(96) / root);
    static const double share[5] = {1, 0.31731050786, 0.045500263896, 0.0026997960633,
                                    6.3342483666e-5};
    for (int sigma = 1; sigma < 5; sigma++) {
        double expected = share[sigma] * DRAWS;
        assert_true(fabs(beyond[sigma] - expected) < 5 * sqrt(expected));
    }
}

static void uniforms_fill_the_open_interval_evenly(void **state)
{
    (void)state;
    enum { CELLS = 100 };
    int cells[CELLS] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = trm_random_uniform(4, i);
        assert_true(u > 0 && u < 1);
        cells[(int)(u * CELLS)]++;
    }
    double chi_square = 0, expected = (double)DRAWS / CELLS;
    for (int i = 0; i < CELLS; i++)
        chi_square += (cells[i] - expected) * (cells[i] - expected) / expected;
    assert_true(chi_square > 40 && chi_square < 180); /* 99 degrees of freedom, over 5 sigma */
}

static void neighbouring_draws_are_uncorrelated(void **state)
{
    (void)state;
    static const struct {
        uint64_t key_step, counter_step;
    } neighbours[] = {{0, 1}, {1, 0}, {UINT64_C(1) << 32, 0}, {0, UINT64_C(1) << 32}, {1, 1}};
    for (size_t n = 0; n < sizeof neighbours / sizeof *neighbours; n++) {
        double product = 0;
        for (uint64_t i = 0; i < 200000; i++)
            product += trm_random_normal(1, i) * trm_random_normal(1 + neighbours[n].key_step,
                                                                   i + neighbours[n].counter_step);
        assert_true(fabs(product / 200000) < 5 / sqrt(200000));
    }
}

static void keys_differ_by_seed_purpose_and_instance(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        const char *purpose;
        uint64_t a, b;
    } inputs[] = {
        {1, "init", 0, 0}, {2, "init", 0, 0}, {1, "order", 0, 0}, {1, "init", 1, 0},
        {1, "init", 0, 1}, {1, "", 0, 0},     {0, "init", 0, 0},  {1, "init ", 0, 0},
    };
    enum { COUNT = sizeof inputs / sizeof *inputs };
    uint64_t keys[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = trm_random_key(inputs[i].seed, inputs[i].purpose, inputs[i].a, inputs[i].b);
        for (size_t j = 0; j < i; j++)
            assert_true(keys[i] != keys[j]);
    }
    assert_true(keys[0] == UINT64_C(0x9541168185a6559a));
    assert_true(trm_random_key(1, "order", 2, 3) == UINT64_C(0xad0c95939ce022ce));
    assert_true(trm_random_key(1, "order", 3, 2) != UINT64_C(0xad0c95939ce022ce));
}

static void permute_is_a_bijection_at_every_size(void **state)
{
    (void)state;
    static const uint64_t odd_sizes[] = {1021,  4095,  4096,  4097,   50257,
                                         65535, 65536, 65537, 262144, 262145};
    enum { LARGEST = 262145, SMALL_SIZES = 300 };
    char *seen = malloc(LARGEST);
    assert_non_null(seen);
    for (size_t s = 0; s < SMALL_SIZES + sizeof odd_sizes / sizeof *odd_sizes; s++) {
        uint64_t size = s < SMALL_SIZES ? s + 1 : odd_sizes[s - SMALL_SIZES];
        for (uint64_t key = 0; key < 3; key++) {
            memset(seen, 0, size);
            for (uint64_t i = 0; i < size; i++) {
                uint64_t image = trm_random_permute(key, size, i);
                assert_true(image < size);
                assert_false(seen[image]);
                seen[image] = 1;
            }
        }
    }
    free(seen);
}

static void permute_keeps_its_values(void **state)
{
    (void)state;
    static const uint64_t expected[] = {2, 5, 7, 0, 4, 9, 3, 8, 1, 6};
    for (uint64_t i = 0; i < 10; i++)
        assert_true(trm_random_permute(5, 10, i) == expected[i]);
    assert_true(trm_random_permute(6, 1000000007, 999) == 878723641);
    assert_true(trm_random_permute(5, UINT64_MAX, 12345) == UINT64_C(5650001426301824442));
}

/* Each index must land evenly over all places when the key varies: small sizes are the hard ones.
 */
static void permute_spreads_every_index_over_all_places(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {2, 3, 5, 8, 17};
    enum { KEYS = 20000, LARGEST = 17 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        static int landed[LARGEST][LARGEST];
        memset(landed, 0, sizeof landed);
        for (uint64_t k = 0; k < KEYS; k++)
            for (uint64_t i = 0; i < sizes[s]; i++)
                landed[i][trm_random_permute(trm_random_key(1, "order", k, 0), sizes[s], i)]++;
        double expected = (double)KEYS / (double)sizes[s];
        for (uint64_t i = 0; i < sizes[s]; i++)
            for (uint64_t j = 0; j < sizes[s]; j++)
                assert_true(fabs(landed[i][j] - expected) < 6 * sqrt(expected));
    }
}

static void permute_of_neighbours_is_far_apart(void **state)
{
    (void)state;
    const uint64_t size = 65536;
    double distance = 0;
    int fixed = 0;
    for (uint64_t i = 0; i + 1 < size; i++) {
        double a = (double)trm_random_permute(3, size, i);
        double b = (double)trm_random_permute(3, size, i + 1);
        distance += fabs(a - b);
        fixed += a == (double)i;
    }
    assert_true(fabs(distance / (double)(size - 1) / ((double)size / 3) - 1) < 0.02);
    assert_true(fixed < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(bits_are_the_first_two_words),
        cmocka_unit_test(normals_keep_their_bits),
        cmocka_unit_test(quantiles_are_right_to_the_last_digits),
        cmocka_unit_test(normals_have_the_moments_and_tails_of_the_normal_distribution),
        cmocka_unit_test(uniforms_fill_the_open_interval_evenly),
        cmocka_unit_test(neighbouring_draws_are_uncorrelated),
        cmocka_unit_test(keys_differ_by_seed_purpose_and_instance),
        cmocka_unit_test(permute_is_a_bijection_at_every_size),
        cmocka_unit_test(permute_keeps_its_values),
        cmocka_unit_test(permute_spreads_every_index_over_all_places),
        cmocka_unit_test(permute_of_neighbours_is_far_apart),
    };
    return cmocka_run_group_tests_name("base/random", tests, NULL, NULL);
}
