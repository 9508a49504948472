/*
 * For the files of this folder alone: elements read and written as doubles whatever their type, and
 * the operations that the table is made of (their contracts are in ops.h).
 */
#ifndef TRM_TRAINER_OPS_REFERENCE_INTERNAL_H
#define TRM_TRAINER_OPS_REFERENCE_INTERNAL_H

#include <math.h>
#include <stddef.h>

#include "base/assert.h"
#include "trainer/ops/ops.h"

/* The element `offset` elements behind the tensor's first. */
static inline double trm_ref_load(struct trm_tensor t, int64_t offset)
{
    switch (t.type) {
    case TRM_F32:
        return (double)((const float *)t.data)[offset];
    case TRM_F64:
        return ((const double *)t.data)[offset];
    default:
        return NAN;
    }
}

/* Rounds to the tensor's type. */
static inline void trm_ref_store(struct trm_tensor t, int64_t offset, double value)
{
    if (t.type == TRM_F32)
        ((float *)t.data)[offset] = (float)value;
    else if (t.type == TRM_F64)
        ((double *)t.data)[offset] = value;
}

/* What a load after a store gives. */
static inline double trm_ref_round(enum trm_type type, double value)
{
    return type == TRM_F32 ? (double)(float)value : value;
}

static inline double trm_ref_get1(struct trm_tensor t, int64_t i)
{
    return trm_ref_load(t, i * t.stride[0]);
}

static inline double trm_ref_get2(struct trm_tensor t, int64_t i, int64_t j)
{
    return trm_ref_load(t, i * t.stride[0] + j * t.stride[1]);
}

static inline void trm_ref_set1(struct trm_tensor t, int64_t i, double value)
{
    trm_ref_store(t, i * t.stride[0], value);
}

static inline void trm_ref_set2(struct trm_tensor t, int64_t i, int64_t j, double value)
{
    trm_ref_store(t, i * t.stride[0] + j * t.stride[1], value);
}

static inline void trm_ref_add1(struct trm_tensor t, int64_t i, double value)
{
    trm_ref_set1(t, i, trm_ref_get1(t, i) + value);
}

static inline void trm_ref_add2(struct trm_tensor t, int64_t i, int64_t j, double value)
{
    trm_ref_set2(t, i, j, trm_ref_get2(t, i, j) + value);
}

static inline int32_t trm_ref_token(struct trm_tensor tokens, int64_t i)
{
    return ((const int32_t *)tokens.data)[i * tokens.stride[0]];
}

/* Offset of element `index` in row-major order, for loops over tensors of any shape. */
static inline int64_t trm_ref_offset(struct trm_tensor t, int64_t index)
{
    int64_t offset = 0;
    for (int d = t.dims - 1; d >= 0; d--) {
        offset += index % t.shape[d] * t.stride[d];
        index /= t.shape[d];
    }
    return offset;
}

/* True when every tensor that is there (data not NULL) is float32 or float64; else the error is
 * set. */
bool trm_ref_takes(struct trm_device *dev, const char *op, const struct trm_tensor *tensors,
                   size_t count);
#define TRM_REF_TAKES(dev, op, ...)                                  \
    trm_ref_takes(dev, op, (const struct trm_tensor[]){__VA_ARGS__}, \
                  sizeof((const struct trm_tensor[]){__VA_ARGS__}) / sizeof(struct trm_tensor))

/* Sets the sticky error, unless one is set. */
void trm_ref_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline bool trm_ref_is1(struct trm_tensor t, int64_t n)
{
    return t.dims == 1 && t.shape[0] == n;
}

static inline bool trm_ref_is2(struct trm_tensor t, int64_t rows, int64_t columns)
{
    return t.dims == 2 && t.shape[0] == rows && t.shape[1] == columns;
}

/* The value of an activation and its derivative, in double. */
double trm_ref_activate(enum trm_activation activation, double x);
double trm_ref_activate_slope(enum trm_activation activation, double x);

/* A function of the very type that the table asks for. */
#define TRM_REF_OP(op) __typeof__(*((struct trm_ops *)NULL)->op) trm_ref_##op
TRM_REF_OP(workspace_bytes);
TRM_REF_OP(zero);
TRM_REF_OP(copy);
TRM_REF_OP(add);
TRM_REF_OP(matmul);
TRM_REF_OP(linear_forward);
TRM_REF_OP(linear_backward);
TRM_REF_OP(bias_forward);
TRM_REF_OP(bias_backward);
TRM_REF_OP(activation_forward);
TRM_REF_OP(activation_backward);
TRM_REF_OP(norm_forward);
TRM_REF_OP(residual_norm_forward);
TRM_REF_OP(norm_backward);
TRM_REF_OP(attention_forward);
TRM_REF_OP(attention_backward);
TRM_REF_OP(embedding_forward);
TRM_REF_OP(embedding_backward);
TRM_REF_OP(position_forward);
TRM_REF_OP(position_backward);
TRM_REF_OP(cross_entropy);
TRM_REF_OP(cross_entropy_maximum);
TRM_REF_OP(cross_entropy_sums);
TRM_REF_OP(cross_entropy_gradient);
TRM_REF_OP(sum_of_squares);
TRM_REF_OP(sum);
TRM_REF_OP(digest);
TRM_REF_OP(adamw);
#undef TRM_REF_OP

#endif
