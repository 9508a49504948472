/* Hashes of tensors: the same on every device, at any number of threads and any address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "tests/unit/ops/trial.h"
#include "tests/unit/ops/trial_device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { PART = TRM_DIGEST_BYTES };

/* Around the lengths at which the hash takes another way, and those of its stripes. */
static const int64_t SIZES[] = {
    0,         4,        8,    16,       20,         128,        132,
    240,       244,      256,  1024,     1028,       1088,       1092,
    33 * 1024, PART - 4, PART, PART + 4, PART + 240, PART + 244, PART * 2 + 5 * 1024 + 68};

/* What device.h says a digest is. */
static uint64_t expected(const char *data, int64_t bytes)
{
    uint64_t sum = 0;
    for (int64_t at = 0, part = 0; at < bytes; at += PART, part++)
        sum += trm_hash64_seeded(data + at, (size_t)(bytes - at < PART ? bytes - at : PART),
                                 (uint64_t)part);
    return sum;
}

static struct trm_device device_of(struct pool *pool, int run, size_t *shift)
{
    const struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = 1, .max_columns = 1, .attention = {1, 1, 1, 1, 1, 0, 0, 1.0f}};
    struct trm_device dev = trial_open(run, shift);
    dev.workspace_bytes = dev.ops->workspace_bytes(&dev, &limits);
    dev.workspace = pool_alloc(pool, dev.workspace_bytes);
    return dev;
}

static void check(struct trm_device *dev, const char *data, int64_t bytes, enum trm_type type)
{
    const int64_t elements = bytes / (int64_t)trm_type_bytes(type);
    const uint64_t got =
        dev->ops->digest(dev, trm_tensor_1d((void *)(uintptr_t)data, type, elements));
    assert_no_device_error(dev);
    if (got != expected(data, bytes))
        fail_msg("%lld bytes of %s on %s", (long long)bytes, trm_type_name(type), dev->ops->name);
}

static void a_digest_is_that_of_its_bytes(void **state)
{
    (void)state;
    for (int run = 0; run < trial_runs(); run++) {
        struct pool pool = {.seed = (uint64_t)run};
        size_t shift;
        struct trm_device dev = device_of(&pool, run, &shift);
        const struct trm_tensor words = pool_1d(&pool, TRM_F32, PART);
        const char *data = words.data;
        for (size_t i = 0; i < COUNT(SIZES); i++)
            check(&dev, data + shift * sizeof(float), SIZES[i], TRM_F32);
        for (size_t i = 0; trial_has_half() && i < COUNT(SIZES); i++)
            check(&dev, data + shift * 2, SIZES[i] + 2, TRM_BF16);
        pool_free(&pool);
    }
}

static void a_digest_notices_every_bit_and_every_place(void **state)
{
    const int64_t part = PART / 4, elements = part + 300;
    struct pool pool = {0};
    size_t shift;
    struct trm_device dev = device_of(&pool, 0, &shift);
    struct trm_tensor t = pool_1d(&pool, TRM_F32, elements);
    const uint64_t before = dev.ops->digest(&dev, t);
    uint32_t *words = t.data;
    (void)state;
    for (int bit = 0; bit < 32; bit++) {
        const int64_t at = bit * (elements - 1) / 31; /* the first element, the last, and between */
        words[at] ^= UINT32_C(1) << bit;
        assert_true(dev.ops->digest(&dev, t) != before);
        words[at] ^= UINT32_C(1) << bit;
    }
    for (int64_t i = 0; i < 300; i++) { /* what changes places between two parts */
        const uint32_t word = words[i];
        words[i] = words[part + i];
        words[part + i] = word;
    }
    assert_true(dev.ops->digest(&dev, t) != before);
    assert_no_device_error(&dev);
    pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_digest_is_that_of_its_bytes),
        cmocka_unit_test(a_digest_notices_every_bit_and_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
