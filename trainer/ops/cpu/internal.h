/*
 * For the files of this folder alone: how work is shared among threads, where scratch comes from,
 * the matrix product everything is made of, and the operations of the table (their contracts:
 * ops.h).
 */
#ifndef TRM_TRAINER_OPS_CPU_INTERNAL_H
#define TRM_TRAINER_OPS_CPU_INTERNAL_H

#include <stddef.h>

#include "base/assert.h"
#include "trainer/ops/cpu/cpu.h"

/* Elements of a piece of work that is bound by memory: 64 KiB of float32. */
#define TRM_CPU_GRAIN 16384

/* Sets the sticky error, unless one is set. */
void trm_cpu_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True when no error is set yet and every tensor that is there (data not NULL) is float32; sets the
 * error when one isn't. */
bool trm_cpu_takes(struct trm_device *dev, const char *op, const struct trm_tensor *tensors,
                   size_t count);
#define TRM_CPU_TAKES(dev, op, ...)                                  \
    trm_cpu_takes(dev, op, (const struct trm_tensor[]){__VA_ARGS__}, \
                  sizeof((const struct trm_tensor[]){__VA_ARGS__}) / sizeof(struct trm_tensor))

/* The workspace when it has `bytes`; else NULL and the sticky error. */
void *trm_cpu_workspace(struct trm_device *dev, const char *op, size_t bytes);

int trm_cpu_threads(const struct trm_device *dev);

/* Items [first, last) of the work that `context` describes, as thread number `thread`. */
typedef void (*trm_cpu_range_fn)(void *context, int64_t first, int64_t last, int thread);

/* Cuts [0, count) into pieces of `grain` items and calls `fn` once for each, from any thread, in
 * any order, with denormals off. Matrix products inside `fn` run on the calling thread alone. */
void trm_cpu_for(struct trm_device *dev, int64_t count, int64_t grain, trm_cpu_range_fn fn,
                 void *context);

/* One product of one thread: row-major c[m, n] = alpha a b + beta c. Returns false on failure. */
bool trm_cpu_sgemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                   float beta, float *c, int64_t c_stride);

/* What a tile gets when its product is there and still in cache: rows [row, row + rows) and columns
 * [column, column + columns) of c. */
struct trm_cpu_tile {
    int64_t row, rows, column, columns;
};
typedef void (*trm_cpu_finish_fn)(const void *context, const struct trm_cpu_tile *tile);

/* c[M, N] (+)= a[M, K] b[K, N] */
struct trm_cpu_product {
    struct trm_tensor c, a, b; /* as ops.h has it for matmul */
    bool accumulate;
    trm_cpu_finish_fn finish; /* may be NULL */
    const void *finish_context;
    float *a_row_sums; /* [M] (+)= sums of a's rows, or NULL; asks for a transposed `a` */
};
void trm_cpu_product(struct trm_device *dev, const struct trm_cpu_product *product);

/* Bytes of scratch, shared by all threads, for products with no side over `side`. */
size_t trm_cpu_product_bytes(int64_t side);

/* panel[m][k] = a[k][m] for m < `columns`, k < `rows`: a transposed block, row stride
 * `panel_stride`. With `sums`, sums[m] += the sum of column m of the block. */
void trm_cpu_pack_transposed(float *panel, int64_t panel_stride, const float *a, int64_t a_stride,
                             int64_t rows, int64_t columns, float *sums);

/* y = act(pre) over `count` elements; `bias`, when not NULL, is added to pre first (and stored). */
void trm_cpu_activate(float *y, float *pre, const float *bias, int64_t count,
                      enum trm_activation activation);

/* dpre = dy * act'(pre) over `count` elements; in place allowed. */
void trm_cpu_activate_backward(float *dpre, const float *dy, const float *pre, int64_t count,
                               enum trm_activation activation);

/* Attention: see attention.c */
size_t trm_cpu_attention_bytes(const struct trm_attention *shape);
/* Bytes of the shared scratch of norm_backward for rows of `columns`. */
size_t trm_cpu_norm_bytes(int64_t columns);

static inline bool trm_cpu_is1(struct trm_tensor t, int64_t n)
{
    return t.dims == 1 && t.shape[0] == n && (n <= 1 || t.stride[0] == 1);
}

/* A matrix whose rows are contiguous. */
static inline bool trm_cpu_is2(struct trm_tensor t, int64_t rows, int64_t columns)
{
    return t.dims == 2 && t.shape[0] == rows && t.shape[1] == columns &&
           (columns <= 1 || t.stride[1] == 1);
}

static inline float *trm_cpu_row(struct trm_tensor t, int64_t row)
{
    return (float *)t.data + row * t.stride[0];
}

static inline int64_t trm_cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t trm_cpu_parts(int64_t count, int64_t part)
{
    return (count + part - 1) / part;
}

static inline int64_t trm_cpu_round_up(int64_t count, int64_t multiple)
{
    return trm_cpu_parts(count, multiple) * multiple;
}

/* A function of the very type that the table asks for. */
#define TRM_CPU_OP(op) __typeof__(*((struct trm_ops *)NULL)->op) trm_cpu_##op
TRM_CPU_OP(zero);
TRM_CPU_OP(copy);
TRM_CPU_OP(add);
TRM_CPU_OP(matmul);
TRM_CPU_OP(linear_forward);
TRM_CPU_OP(linear_backward);
TRM_CPU_OP(bias_forward);
TRM_CPU_OP(bias_backward);
TRM_CPU_OP(activation_forward);
TRM_CPU_OP(activation_backward);
TRM_CPU_OP(norm_forward);
TRM_CPU_OP(residual_norm_forward);
TRM_CPU_OP(norm_backward);
TRM_CPU_OP(attention_forward);
TRM_CPU_OP(attention_backward);
TRM_CPU_OP(embedding_forward);
TRM_CPU_OP(embedding_backward);
TRM_CPU_OP(position_forward);
TRM_CPU_OP(position_backward);
TRM_CPU_OP(cross_entropy);
TRM_CPU_OP(cross_entropy_maximum);
TRM_CPU_OP(cross_entropy_sums);
TRM_CPU_OP(cross_entropy_gradient);
TRM_CPU_OP(sum_of_squares);
TRM_CPU_OP(sum);
TRM_CPU_OP(digest);
TRM_CPU_OP(adamw);
#undef TRM_CPU_OP

#endif
