/*
 * What the tests of the ops share: tensors with random values, a device with its workspace, errors
 * as one number, and gradients by central differences. Everything lives in a struct pool.
 */
#ifndef TRM_TESTS_UNIT_OPS_SUPPORT_H
#define TRM_TESTS_UNIT_OPS_SUPPORT_H

#include <stdint.h>

#include "trainer/ops/ops.h"

#define POOL_BLOCKS 128

struct pool {
    void *block[POOL_BLOCKS];
    int count;
    uint64_t seed; /* of the next random tensor */
};

/* Memory that the device under test and the host read and write; asserts when there is none. */
#define TEST_MEMORY_ALIGNMENT 64
void *test_memory(size_t bytes);
void test_memory_free(void *memory);

/* bfloat16, to nearest even. */
uint16_t half_of(float value);
float float_of_half(uint16_t bits);

/* Zeroed memory that pool_free frees; asserts when there is none. */
void *pool_alloc(struct pool *pool, size_t bytes);
void pool_free(struct pool *pool);

/* Views of random values, uniform in [-1, 1]. `row_stride` 0 means contiguous. */
struct trm_tensor pool_1d(struct pool *pool, enum trm_type type, int64_t n);
struct trm_tensor pool_2d(struct pool *pool, enum trm_type type, int64_t rows, int64_t columns,
                          int64_t row_stride);

/* int32 numbers in [0, limit). */
struct trm_tensor pool_tokens(struct pool *pool, int64_t n, int64_t limit);

/* A contiguous copy of the values. */
struct trm_tensor pool_copy(struct pool *pool, struct trm_tensor t);

/* Uniform in [-1, 1], a pure function of both numbers. */
double random_value(uint64_t seed, uint64_t index);
void random_fill(struct trm_tensor t, uint64_t seed);

/* Element `index` in row-major order, as a double whatever its type. */
double tensor_get(struct trm_tensor t, int64_t index);
void tensor_set(struct trm_tensor t, int64_t index, double value);
void tensor_fill(struct trm_tensor t, double value);

/* sum of a[i] b[i]. */
double tensor_dot(struct trm_tensor a, struct trm_tensor b);

/* |a - b| / |b| in Euclidean norms; |a - b| when b is zero. */
double tensor_error(struct trm_tensor a, struct trm_tensor b);

/* A reference device whose workspace holds attention of `shape` (NULL: none). */
struct trm_device reference_device(struct pool *pool, const struct trm_attention *shape);

/* The test's objective: what the gradient is of. */
typedef double (*objective_fn)(void *context);

/* Fails the test unless `gradient` - `before` is the derivative of the objective by the elements of
 * `x` (float64), to `tolerance` of the gradient's norm. before.data may be NULL: zero. */
void assert_gradient(const char *what, objective_fn objective, void *context, struct trm_tensor x,
                     struct trm_tensor gradient, struct trm_tensor before, double tolerance);

/* Fails with the device's words when its sticky error is set. */
void assert_no_device_error(struct trm_device *dev);

#endif
