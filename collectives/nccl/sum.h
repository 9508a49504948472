/*
 * Kernels of the NCCL backend, put on a stream. Each returns a cudaError_t; nothing is waited for.
 * sum.cu has them for the device; tests/fake runs the same bodies (sum_kernel.h) on the host.
 */
#ifndef TRM_COLLECTIVES_NCCL_SUM_H
#define TRM_COLLECTIVES_NCCL_SUM_H

#include <cuda_runtime_api.h>

#include "base/type.h"
#include "collectives/sum_program.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs `program` (copied) over `count` > 0 elements of float32, float64 or bfloat16. */
cudaError_t trm_nccl_launch_sum(const struct trm_sum_program *program, size_t count,
                                enum trm_type type, cudaStream_t stream);

/* `count` > 0 float32 or float64 at `data` to keys whose integer maximum is the float maximum, or
 * back. In place. */
cudaError_t trm_nccl_launch_keys(void *data, size_t count, enum trm_type type, bool encode,
                                 cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
