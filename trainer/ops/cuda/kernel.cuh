/*
 * What all kernels share: element types, wide loads, sums over warps and blocks, launches.
 *
 * Kernels take eight neighbouring elements at a time, by 16-byte accesses where rows are aligned to
 * them and one by one elsewhere: the order of the arithmetic is the same, so addresses don't change
 * bits. Contraction is off (--fmad=false), as on the CPU.
 *
 * The same files compile as plain C++ where cuda_runtime.h is that of tests/fake/gpu: kernels are
 * started by TRM_LAUNCH, all shared memory is dynamic, named by TRM_SHARED, and blocks are whole
 * warps.
 */
#ifndef TRM_TRAINER_OPS_CUDA_KERNEL_CUH
#define TRM_TRAINER_OPS_CUDA_KERNEL_CUH

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "trainer/ops/cuda/internal.h"
}

#ifndef TRM_LAUNCH
#define TRM_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define TRM_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char trm_shared[]; \
    type *name = reinterpret_cast<type *>(trm_shared)
#endif

#define TRM_WARP      32
#define TRM_ALL_LANES 0xFFFFFFFFu
#define TRM_CHUNK     8 /* elements a thread takes at a time */

typedef __nv_bfloat16 trm_bf16;

static __device__ __forceinline__ float trm_load(const float *p)
{
    return *p;
}
static __device__ __forceinline__ float trm_load(const trm_bf16 *p)
{
    return __bfloat162float(*p);
}
static __device__ __forceinline__ void trm_store(float *p, float value)
{
    *p = value;
}
static __device__ __forceinline__ void trm_store(trm_bf16 *p, float value)
{
    *p = __float2bfloat16(value);
}

/* What a load after a store gives. */
template <typename T> static __device__ __forceinline__ float trm_round(float value)
{
    T stored;
    trm_store(&stored, value);
    return trm_load(&stored);
}

static __device__ __forceinline__ void trm_load_wide(float v[TRM_CHUNK], const float *p)
{
    *reinterpret_cast<float4 *>(v) = reinterpret_cast<const float4 *>(p)[0];
    *reinterpret_cast<float4 *>(v + 4) = reinterpret_cast<const float4 *>(p)[1];
}
static __device__ __forceinline__ void trm_load_wide(float v[TRM_CHUNK], const trm_bf16 *p)
{
    alignas(16) trm_bf16 in[TRM_CHUNK];
    *reinterpret_cast<uint4 *>(in) = *reinterpret_cast<const uint4 *>(p);
    for (int i = 0; i < TRM_CHUNK; i++)
        v[i] = __bfloat162float(in[i]);
}
static __device__ __forceinline__ void trm_store_wide(float *p, const float v[TRM_CHUNK])
{
    reinterpret_cast<float4 *>(p)[0] = *reinterpret_cast<const float4 *>(v);
    reinterpret_cast<float4 *>(p)[1] = *reinterpret_cast<const float4 *>(v + 4);
}
static __device__ __forceinline__ void trm_store_wide(trm_bf16 *p, const float v[TRM_CHUNK])
{
    alignas(16) trm_bf16 out[TRM_CHUNK];
    for (int i = 0; i < TRM_CHUNK; i++)
        out[i] = __float2bfloat16(v[i]);
    *reinterpret_cast<uint4 *>(p) = *reinterpret_cast<const uint4 *>(out);
}

/* Elements [0, count) of eight, count 1 or more; the rest reads as zero. */
template <typename T>
static __device__ __forceinline__ void trm_load8(float v[TRM_CHUNK], const T *p, int64_t count,
                                                 bool aligned)
{
    if (aligned && count >= TRM_CHUNK) {
        trm_load_wide(v, p);
        return;
    }
    for (int i = 0; i < TRM_CHUNK; i++)
        v[i] = i < count ? trm_load(p + i) : 0.0f;
}

template <typename T>
static __device__ __forceinline__ void trm_store8(T *p, const float v[TRM_CHUNK], int64_t count,
                                                  bool aligned)
{
    if (aligned && count >= TRM_CHUNK) {
        trm_store_wide(p, v);
        return;
    }
    for (int i = 0; i < TRM_CHUNK; i++)
        if (i < count)
            trm_store(p + i, v[i]);
}

/* The sum over a warp, in every lane: a fixed tree. */
template <typename T> static __device__ __forceinline__ T trm_warp_sum(T value)
{
    for (int mask = TRM_WARP / 2; mask > 0; mask /= 2)
        value += __shfl_xor_sync(TRM_ALL_LANES, value, mask);
    return value;
}

/* A matrix whose rows are contiguous, as a kernel gets it. */
template <typename T> struct trm_rows {
    T *data;
    int64_t stride;
    bool aligned; /* rows start at multiples of 16 bytes */

    __device__ __forceinline__ T *row(int64_t n) const
    {
        return data + n * stride;
    }
};

template <typename T> static trm_rows<T> trm_rows_of(struct trm_tensor t)
{
    const int64_t stride = t.dims == 2 ? t.stride[0] : 0;
    const bool aligned = (uintptr_t)t.data % 16 == 0 && stride * (int64_t)sizeof(T) % 16 == 0;
    return {static_cast<T *>(t.data), stride, aligned};
}

#endif
