/*
 * Matrix products by cuBLASLt, for the files of this folder alone: what is asked for, as the
 * library takes it, and which of its algorithms does it (choices.h).
 */
#ifndef TRM_TRAINER_OPS_CUDA_PRODUCT_H
#define TRM_TRAINER_OPS_CUDA_PRODUCT_H

#include "trainer/ops/cuda/internal.h"

/* What a product does with its result, or beside it, before anything reaches memory. */
enum trm_cuda_epilogue {
    TRM_CUDA_EPILOGUE_NONE,
    TRM_CUDA_EPILOGUE_GELU,       /* c = gelu(product), aux[M, N] = its argument */
    TRM_CUDA_EPILOGUE_GELU_SLOPE, /* c = product * gelu'(aux[M, N]) */
    TRM_CUDA_EPILOGUE_ROW_SUMS,   /* aux[M] = sums of a's rows: column sums, where a is dy^T */
};

/* c[M, N] (+)= a[M, K] b[K, N] (+ bias[N], when its data is not NULL), and an epilogue. */
struct trm_cuda_product {
    struct trm_tensor c, a, b, bias;
    bool accumulate;
    enum trm_cuda_epilogue epilogue;
    struct trm_tensor aux;
};

/* False, and nothing done, when the library has no such epilogue, or bias, for these operands; true
 * when the work is queued, or the sticky error set. */
bool trm_cuda_multiply(struct trm_device *dev, const struct trm_cuda_product *product);

/* A product in the library's words; on the stack, nothing is allocated. */
struct trm_cuda_call {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t left, right, out; /* b^T, a^T and c^T */
    const void *left_data, *right_data;
    void *out_data;
    float alpha, beta;
    uint32_t left_bytes, right_bytes, out_bytes; /* alignment that all rows have */
    struct trm_cuda_key key;
};

cublasStatus_t trm_cuda_call_run(struct trm_device *dev, const struct trm_cuda_call *call,
                                 const cublasLtMatmulAlgo_t *algorithm);

/* The choice kept for the call's key, or a new one; NULL after an error. choice->found is 0 when
 * the library has no algorithm for it; `room` is for a choice that the table has no room for. */
const struct trm_cuda_choice *trm_cuda_choose(struct trm_device *dev,
                                              const struct trm_cuda_call *call,
                                              struct trm_cuda_choice *room);

/* Sets the sticky error when the library's status is one. */
bool trm_cuda_blas_check(struct trm_device *dev, const char *what, cublasStatus_t status);

#endif
