/* The host's side of the files that hold kernels: checks of operands, and what a launch left. */
#ifndef TRM_TRAINER_OPS_CUDA_LAUNCH_CUH
#define TRM_TRAINER_OPS_CUDA_LAUNCH_CUH

#include <initializer_list>

#include "trainer/ops/cuda/kernel.cuh"

static inline int64_t trm_parts(int64_t count, int64_t part)
{
    return (count + part - 1) / part;
}

/* True when no error is set and every tensor that is there (data not NULL) is of `type`; else the
 * sticky error is set. */
static inline bool trm_cuda_takes(struct trm_device *dev, const char *op, enum trm_type type,
                                  std::initializer_list<struct trm_tensor> tensors)
{
    if (dev->error.status != TRM_OK)
        return false;
    for (const struct trm_tensor &t : tensors) {
        if (t.data == NULL || (t.type == type && (type == TRM_F32 || type == TRM_BF16)))
            continue;
        trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED, "%s on the GPU takes %s here, not %s", op,
                      type == TRM_BF16 ? "bfloat16" : "float32 or bfloat16", trm_type_name(t.type));
        return false;
    }
    return true;
}

/* What is wrong with the last launch, if anything. */
static inline void trm_cuda_launched(struct trm_device *dev, const char *what)
{
    trm_cuda_check(dev, what, cudaGetLastError());
}

static inline bool trm_is1(struct trm_tensor t, int64_t n)
{
    return t.dims == 1 && t.shape[0] == n && (n <= 1 || t.stride[0] == 1);
}

/* A matrix whose rows are contiguous. */
static inline bool trm_is2(struct trm_tensor t, int64_t rows, int64_t columns)
{
    return t.dims == 2 && t.shape[0] == rows && t.shape[1] == columns &&
           (columns <= 1 || t.stride[1] == 1);
}

#endif
