/* Hashes of tensors by the CPU device against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ops/support.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/reference/reference.h"

static struct trm_device cpu_device(int threads)
{
    struct trm_device dev;
    assert_int_equal(trm_device_cpu(&dev, threads, NULL), TRM_OK);
    return dev;
}

/* Five parts, the last one cut short, so that no number of threads divides them. */
static void a_digest_is_the_references_at_any_number_of_threads(void **state)
{
    const int64_t elements = 4 * (TRM_DIGEST_BYTES / 4) + 17;
    struct trm_device reference;
    struct pool pool = {0};
    const struct trm_tensor t = pool_1d(&pool, TRM_F32, elements);
    (void)state;
    trm_device_reference(&reference);
    const uint64_t expected = reference.ops->digest(&reference, t);
    for (int threads = 1; threads <= 4; threads++) {
        struct trm_device cpu = cpu_device(threads);
        assert_true(cpu.ops->digest(&cpu, t) == expected);
    }
    pool_free(&pool);
}

static void a_digest_notices_every_bit_and_every_place(void **state)
{
    const int64_t part = TRM_DIGEST_BYTES / 4, elements = 3 * part + 5;
    struct pool pool = {0};
    struct trm_device cpu = cpu_device(2);
    struct trm_tensor t = pool_1d(&pool, TRM_F32, elements);
    const uint64_t before = cpu.ops->digest(&cpu, t);
    uint32_t *words = t.data;
    (void)state;
    for (int bit = 0; bit < 32; bit++) {
        int64_t at = bit * (elements - 1) / 31; /* the first element, the last, and between */
        words[at] ^= UINT32_C(1) << bit;
        assert_true(cpu.ops->digest(&cpu, t) != before);
        words[at] ^= UINT32_C(1) << bit;
    }
    for (int64_t i = 0; i < part; i++) { /* two parts that change places */
        uint32_t word = words[i];
        words[i] = words[part + i];
        words[part + i] = word;
    }
    assert_true(cpu.ops->digest(&cpu, t) != before);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_digest_is_the_references_at_any_number_of_threads),
        cmocka_unit_test(a_digest_notices_every_bit_and_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
