#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The empty input's hashes are published with XXH3; the others pin what is on disk already. */
static void hashes_are_the_published_ones(void **state)
{
    (void)state;
    char text[33];
    assert_true(trm_hash64("", 0) == UINT64_C(0x2d06800538d394c2));
    trm_hash128_format(trm_hash128("", 0), text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    assert_true(trm_hash64("trireme", 7) == UINT64_C(0xfeebfd29187b7632));
    assert_true(trm_hash64_seeded("trireme", 7, 9) == UINT64_C(0x874ea38147f94f7e));
    assert_true(trm_hash64_seeded("trireme", 7, 0) == trm_hash64("trireme", 7));
    trm_hash128_format(trm_hash128("trireme", 7), text);
    assert_string_equal(text, "d5185a864e19da8e9d6354f6bb8b2f15");
}

static void any_flipped_bit_changes_the_hash(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 4099};
    static unsigned char data[4099];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t whole64 = trm_hash64(data, sizes[s]);
        struct trm_hash128 whole128 = trm_hash128(data, sizes[s]);
        for (size_t bit = 0; bit < 8 * sizes[s]; bit++) {
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            struct trm_hash128 changed = trm_hash128(data, sizes[s]);
            assert_true(trm_hash64(data, sizes[s]) != whole64);
            assert_true(changed.low != whole128.low || changed.high != whole128.high);
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
    }
}

static void hashes_do_not_depend_on_alignment(void **state)
{
    (void)state;
    static char at_zero[512], shifted[512 + 16];
    for (size_t i = 0; i < sizeof at_zero; i++)
        at_zero[i] = (char)(i * 11);
    for (size_t shift = 0; shift < 16; shift++) {
        memcpy(shifted + shift, at_zero, sizeof at_zero);
        assert_true(trm_hash64(shifted + shift, sizeof at_zero) ==
                    trm_hash64(at_zero, sizeof at_zero));
    }
}

static void a_copy_has_the_hash_of_what_was_read(void **state)
{
    (void)state;
    static unsigned char from[100000], to[100000];
    static const size_t sizes[] = {0, 1, 240, 241, 32768, 32769, 65536, 99999};
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(to, 0, sizeof to);
        assert_true(trm_hash64_copy(to, from, sizes[i]) == trm_hash64(from, sizes[i]));
        assert_memory_equal(to, from, sizes[i]);
        assert_true(to[sizes[i]] == 0);
    }
}

static uint64_t roll_all(const uint64_t *numbers, size_t count)
{
    uint64_t rolling = 0;
    for (size_t i = 0; i < count; i++)
        rolling = trm_hash_roll(rolling, numbers[i]);
    return rolling;
}

static void rolling_hash_depends_on_order_and_length(void **state)
{
    (void)state;
    assert_true(roll_all((uint64_t[]){1, 2, 3}, 3) == roll_all((uint64_t[]){1, 2, 3}, 3));
    assert_true(roll_all((uint64_t[]){1, 2, 3}, 3) != roll_all((uint64_t[]){1, 3, 2}, 3));
    assert_true(roll_all((uint64_t[]){0}, 1) != roll_all((uint64_t[]){0, 0}, 2));
    assert_true(roll_all((uint64_t[]){0}, 1) != 0);
}

static void rolling_hash_keeps_its_values(void **state)
{
    (void)state;
    static const uint64_t expected[] = {UINT64_C(0xd0a66a65c7528968), UINT64_C(0x6112dc86d4a32f2b),
                                        UINT64_C(0xe35a5118c7bccbf8)};
    uint64_t rolling = 0;
    for (uint64_t i = 0; i < 3; i++) {
        rolling = trm_hash_roll(rolling, i);
        assert_true(rolling == expected[i]);
    }
}

static void format_writes_high_then_low(void **state)
{
    (void)state;
    char text[33];
    trm_hash128_format((struct trm_hash128){.low = 0xab, .high = 1}, text);
    assert_string_equal(text, "000000000000000100000000000000ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_the_published_ones),
        cmocka_unit_test(any_flipped_bit_changes_the_hash),
        cmocka_unit_test(hashes_do_not_depend_on_alignment),
        cmocka_unit_test(a_copy_has_the_hash_of_what_was_read),
        cmocka_unit_test(rolling_hash_depends_on_order_and_length),
        cmocka_unit_test(rolling_hash_keeps_its_values),
        cmocka_unit_test(format_writes_high_then_low),
    };
    return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
