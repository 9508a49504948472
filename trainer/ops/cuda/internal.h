/*
 * For the files of this folder alone: the state of the device, its errors, the matrix product, and
 * the operations of the table (their contracts: ops.h). C, and C++ through kernel.cuh.
 */
#ifndef TRM_TRAINER_OPS_CUDA_INTERNAL_H
#define TRM_TRAINER_OPS_CUDA_INTERNAL_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "trainer/ops/cuda/choices.h"
#include "trainer/ops/cuda/cuda.h"

struct trm_cuda {
    int ordinal;
    cudaStream_t stream;
    cudaStream_t beside;    /* of fetches */
    cudaEvent_t fetch_from; /* where they begin on `stream` */
    bool marked;            /* a range of trm_cuda_mark is open */
    cublasLtHandle_t blas;
    void *product_workspace; /* TRM_CUDA_LIBRARY_BYTES */
    struct trm_cuda_choices choices;
    bool searching;
    char gpu[64]; /* "NVIDIA H100 80GB HBM3, sm_90" */
};

static inline struct trm_cuda *trm_cuda_of(const struct trm_device *dev)
{
    return (struct trm_cuda *)dev->state;
}

/* Sets the sticky error, unless one is set. */
void trm_cuda_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True for cudaSuccess; else the sticky error says that `what` failed and why. */
bool trm_cuda_check(struct trm_device *dev, const char *what, cudaError_t code);

/* The workspace when it has `bytes`; else NULL and the sticky error. */
void *trm_cuda_workspace(struct trm_device *dev, const char *op, size_t bytes);

/* XXH3-64 of a few bytes of the device's memory, by the host; waits. 0 after an error. */
#define TRM_CUDA_HOST_HASH_BYTES 240
uint64_t trm_cuda_host_hash(struct trm_device *dev, const void *data, size_t bytes, uint64_t seed);

/* Scratch of each file's ops within these limits. */
size_t trm_cuda_columns_bytes(int64_t rows, int64_t columns);
size_t trm_cuda_attention_bytes(const struct trm_attention *shape);
size_t trm_cuda_embedding_bytes(int64_t vocabulary);

/* The float sums of columns that gradients of biases and norms are: out[f] = sum over rows of
 * dy[n, f], or added to what `out` holds. */
void trm_cuda_column_sums(struct trm_device *dev, struct trm_tensor out, struct trm_tensor dy,
                          bool accumulate);

/* dweight[C] += column sums of dy * (x - mean) * rstd, dbias[C] += those of dy. */
void trm_cuda_norm_sums(struct trm_device *dev, struct trm_tensor dweight, struct trm_tensor dbias,
                        struct trm_tensor dy, struct trm_tensor x, struct trm_tensor mean,
                        struct trm_tensor rstd);

/* Attention by tensor cores: bfloat16, head sizes up to 128. */
bool trm_cuda_flash_takes(enum trm_type type, const struct trm_attention *shape);
#define TRM_CUDA_OP(op) __typeof__(*((struct trm_ops *)NULL)->op) trm_cuda_##op
__typeof__(*((struct trm_ops *)NULL)->attention_forward) trm_cuda_flash_forward;
__typeof__(*((struct trm_ops *)NULL)->attention_backward) trm_cuda_flash_backward;

/* A function of the very type that the table asks for. */
TRM_CUDA_OP(mark);
TRM_CUDA_OP(zero);
TRM_CUDA_OP(copy);
TRM_CUDA_OP(add);
TRM_CUDA_OP(matmul);
TRM_CUDA_OP(linear_forward);
TRM_CUDA_OP(linear_backward);
TRM_CUDA_OP(bias_forward);
TRM_CUDA_OP(bias_backward);
TRM_CUDA_OP(activation_forward);
TRM_CUDA_OP(activation_backward);
TRM_CUDA_OP(norm_forward);
TRM_CUDA_OP(residual_norm_forward);
TRM_CUDA_OP(norm_backward);
TRM_CUDA_OP(attention_forward);
TRM_CUDA_OP(attention_backward);
TRM_CUDA_OP(embedding_forward);
TRM_CUDA_OP(embedding_backward);
TRM_CUDA_OP(position_forward);
TRM_CUDA_OP(position_backward);
TRM_CUDA_OP(cross_entropy);
TRM_CUDA_OP(cross_entropy_maximum);
TRM_CUDA_OP(cross_entropy_sums);
TRM_CUDA_OP(cross_entropy_gradient);
TRM_CUDA_OP(sum_of_squares);
TRM_CUDA_OP(sum);
TRM_CUDA_OP(digest);
TRM_CUDA_OP(judge);
TRM_CUDA_OP(adamw);
#undef TRM_CUDA_OP

#endif
