/* The kernels of the NCCL backend: ordered sums, and keys for float maxima. */
#include "collectives/nccl/sum.h"

#include "collectives/nccl/key_kernel.h"
#include "collectives/nccl/sum_kernel.h"

#define BLOCK_THREADS 256

template <void (*thread)(const struct trm_sum_program *, size_t, size_t)>
__global__ void __launch_bounds__(BLOCK_THREADS)
    sum_kernel(const __grid_constant__ struct trm_sum_program program, size_t vectors,
               size_t threads)
{
    size_t i = (size_t)blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (i < threads)
        thread(&program, vectors, i);
}

template <typename KEY, void (*element)(KEY *, size_t)>
__global__ void __launch_bounds__(BLOCK_THREADS) key_kernel(KEY *data, size_t count)
{
    size_t i = (size_t)blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (i < count)
        element(data, i);
}

static unsigned blocks_for(size_t threads)
{
    return (unsigned)((threads + BLOCK_THREADS - 1) / BLOCK_THREADS);
}

template <void (*thread)(const struct trm_sum_program *, size_t, size_t)>
static cudaError_t launch_sum(const struct trm_sum_program *program, size_t count, size_t lanes,
                              size_t bytes, cudaStream_t stream)
{
    size_t vectors = trm_sum_vectors(program, count, lanes, bytes);
    size_t threads = vectors + (count - vectors * lanes);
    sum_kernel<thread>
        <<<blocks_for(threads), BLOCK_THREADS, 0, stream>>>(*program, vectors, threads);
    return cudaGetLastError();
}

cudaError_t trm_nccl_launch_sum(const struct trm_sum_program *program, size_t count,
                                enum trm_type type, cudaStream_t stream)
{
    switch (type) {
    case TRM_F32:
        return launch_sum<trm_sum_f32>(program, count, TRM_SUM_LANES_F32, 16, stream);
    case TRM_F64:
        return launch_sum<trm_sum_f64>(program, count, TRM_SUM_LANES_F64, 16, stream);
    case TRM_BF16:
        return launch_sum<trm_sum_bf16>(program, count, TRM_SUM_LANES_BF16, 8, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t trm_nccl_launch_keys(void *data, size_t count, enum trm_type type, bool encode,
                                 cudaStream_t stream)
{
    unsigned blocks = blocks_for(count);
    if (type == TRM_F32 && encode)
        key_kernel<int32_t, trm_key_encode_f32>
            <<<blocks, BLOCK_THREADS, 0, stream>>>((int32_t *)data, count);
    else if (type == TRM_F32)
        key_kernel<int32_t, trm_key_decode_f32>
            <<<blocks, BLOCK_THREADS, 0, stream>>>((int32_t *)data, count);
    else if (type == TRM_F64 && encode)
        key_kernel<int64_t, trm_key_encode_f64>
            <<<blocks, BLOCK_THREADS, 0, stream>>>((int64_t *)data, count);
    else if (type == TRM_F64)
        key_kernel<int64_t, trm_key_decode_f64>
            <<<blocks, BLOCK_THREADS, 0, stream>>>((int64_t *)data, count);
    else
        return cudaErrorInvalidValue;
    return cudaGetLastError();
}
