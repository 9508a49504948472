#include "tests/unit/ops/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/ops/reference/reference.h"

void *pool_alloc(struct pool *pool, size_t bytes)
{
    assert_true(pool->count < POOL_BLOCKS);
    void *block = test_memory(bytes);
    memset(block, 0, bytes);
    pool->block[pool->count++] = block;
    return block;
}

void pool_free(struct pool *pool)
{
    for (int i = 0; i < pool->count; i++)
        test_memory_free(pool->block[i]);
    pool->count = 0;
}

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t random_word(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double random_value(uint64_t seed, uint64_t index)
{
    return (double)(random_word(seed, index) >> 11) * 0x1p-52 - 1.0;
}

static int64_t offset_of(struct trm_tensor t, int64_t index)
{
    int64_t offset = 0;
    for (int d = t.dims - 1; d >= 0; d--) {
        offset += index % t.shape[d] * t.stride[d];
        index /= t.shape[d];
    }
    return offset;
}

uint16_t half_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return value != value ? 0x7FFF : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float float_of_half(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double tensor_get(struct trm_tensor t, int64_t index)
{
    const int64_t offset = offset_of(t, index);
    if (t.type == TRM_BF16)
        return (double)float_of_half(((uint16_t *)t.data)[offset]);
    if (t.type == TRM_F32)
        return (double)((float *)t.data)[offset];
    if (t.type == TRM_I32)
        return (double)((int32_t *)t.data)[offset];
    assert_int_equal(t.type, TRM_F64);
    return ((double *)t.data)[offset];
}

void tensor_set(struct trm_tensor t, int64_t index, double value)
{
    const int64_t offset = offset_of(t, index);
    if (t.type == TRM_BF16)
        ((uint16_t *)t.data)[offset] = half_of((float)value);
    else if (t.type == TRM_F32)
        ((float *)t.data)[offset] = (float)value;
    else if (t.type == TRM_I32)
        ((int32_t *)t.data)[offset] = (int32_t)value;
    else
        ((double *)t.data)[offset] = value;
}

void tensor_fill(struct trm_tensor t, double value)
{
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t i = 0; i < elements; i++)
        tensor_set(t, i, value);
}

void random_fill(struct trm_tensor t, uint64_t seed)
{
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t i = 0; i < elements; i++)
        tensor_set(t, i, random_value(seed, (uint64_t)i));
}

struct trm_tensor pool_1d(struct pool *pool, enum trm_type type, int64_t n)
{
    void *data = pool_alloc(pool, (size_t)n * trm_type_bytes(type));
    struct trm_tensor t = trm_tensor_1d(data, type, n);
    random_fill(t, ++pool->seed);
    return t;
}

struct trm_tensor pool_2d(struct pool *pool, enum trm_type type, int64_t rows, int64_t columns,
                          int64_t row_stride)
{
    const int64_t stride = row_stride > 0 ? row_stride : columns;
    void *data = pool_alloc(pool, (size_t)(rows * stride) * trm_type_bytes(type));
    struct trm_tensor t = trm_tensor_2d(data, type, rows, columns);
    t.stride[0] = stride;
    random_fill(t, ++pool->seed);
    return t;
}

struct trm_tensor pool_tokens(struct pool *pool, int64_t n, int64_t limit)
{
    struct trm_tensor t = pool_1d(pool, TRM_I32, n);
    pool->seed++;
    for (int64_t i = 0; i < n; i++)
        ((int32_t *)t.data)[i] = (int32_t)(random_word(pool->seed, (uint64_t)i) % (uint64_t)limit);
    return t;
}

struct trm_tensor pool_copy(struct pool *pool, struct trm_tensor t)
{
    struct trm_tensor copy = t.dims == 1 ? pool_1d(pool, t.type, t.shape[0])
                                         : pool_2d(pool, t.type, t.shape[0], t.shape[1], 0);
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t i = 0; i < elements; i++)
        tensor_set(copy, i, tensor_get(t, i));
    return copy;
}

double tensor_dot(struct trm_tensor a, struct trm_tensor b)
{
    const int64_t elements = trm_tensor_elements(a);
    double sum = 0.0;
    assert_int_equal(trm_tensor_elements(b), elements);
    for (int64_t i = 0; i < elements; i++)
        sum += tensor_get(a, i) * tensor_get(b, i);
    return sum;
}

double tensor_error(struct trm_tensor a, struct trm_tensor b)
{
    const int64_t elements = trm_tensor_elements(a);
    double difference = 0.0, norm = 0.0;
    assert_int_equal(trm_tensor_elements(b), elements);
    for (int64_t i = 0; i < elements; i++) {
        const double d = tensor_get(a, i) - tensor_get(b, i);
        difference += d * d;
        norm += tensor_get(b, i) * tensor_get(b, i);
    }
    return norm > 0.0 ? sqrt(difference / norm) : sqrt(difference);
}

struct trm_device reference_device(struct pool *pool, const struct trm_attention *shape)
{
    struct trm_device dev;
    struct trm_ops_limits limits = {.type = TRM_F64};
    trm_device_reference(&dev);
    if (shape != NULL)
        limits.attention = *shape;
    dev.workspace_bytes = dev.ops->workspace_bytes(&dev, &limits);
    dev.workspace = pool_alloc(pool, dev.workspace_bytes);
    return dev;
}

void assert_gradient(const char *what, objective_fn objective, void *context, struct trm_tensor x,
                     struct trm_tensor gradient, struct trm_tensor before, double tolerance)
{
    /* The truncation error is of order step^2, that of rounding 1e-16 / step. */
    const double step = 1e-5;
    const int64_t elements = trm_tensor_elements(x);
    double difference = 0.0, norm = 0.0;
    assert_int_equal(x.type, TRM_F64);
    assert_int_equal(trm_tensor_elements(gradient), elements);
    for (int64_t i = 0; i < elements; i++) {
        const double value = tensor_get(x, i);
        tensor_set(x, i, value + step);
        const double above = objective(context);
        tensor_set(x, i, value - step);
        const double below = objective(context);
        tensor_set(x, i, value);
        const double numeric = (above - below) / (2.0 * step);
        const double analytic =
            tensor_get(gradient, i) - (before.data != NULL ? tensor_get(before, i) : 0.0);
        difference += (numeric - analytic) * (numeric - analytic);
        norm += numeric * numeric;
    }
    /* Gradients that vanish altogether still have the differences' rounding. */
    const double bound = tolerance * (sqrt(norm) + 1e-3);
    if (!(sqrt(difference) <= bound))
        fail_msg("%s: gradient is off by %.3e, its norm is %.3e", what, sqrt(difference),
                 sqrt(norm));
}

void assert_no_device_error(struct trm_device *dev)
{
    struct trm_error err = {0};
    if (trm_device_sync(dev, &err) != TRM_OK)
        fail_msg("%s", err.text);
}
