/* What the kernels use of CUDA's C++, on the emulated GPU. */
#ifndef TRM_TESTS_FAKE_GPU_CUDA_RUNTIME_H
#define TRM_TESTS_FAKE_GPU_CUDA_RUNTIME_H

#include <math.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "tests/fake/gpu/emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define threadIdx (fake_gpu_place.thread)
#define blockIdx  (fake_gpu_place.block)
#define blockDim  (fake_gpu_place.block_size)
#define gridDim   (fake_gpu_place.grid)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct __attribute__((may_alias, aligned(16))) uint4 {
    unsigned x, y, z, w;
};
struct __attribute__((may_alias, aligned(16))) float4 {
    float x, y, z, w;
};

/* The arguments are evaluated and copied at once, as by a launch. */
template <typename Body> struct fake_gpu_kernel {
    dim3 grid, block;
    size_t shared_bytes;
    Body body;

    static void run(const void *argument)
    {
        fake_gpu_kernel kernel = *static_cast<const fake_gpu_kernel *>(argument);
        const dim3 g = kernel.grid, b = kernel.block;
        fake_gpu_launch(
            {g.x, g.y, g.z}, {b.x, b.y, b.z}, kernel.shared_bytes,
            [](void *context) { (*static_cast<Body *>(context))(); }, &kernel.body);
    }
};
template <typename Body>
void fake_gpu_launch_body(const void *address, dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, Body body)
{
    if (fake_gpu_check_shared(address, shared_bytes) != 0)
        return;
    const fake_gpu_kernel<Body> kernel = {grid, block, shared_bytes, body};
    fake_gpu_submit(stream, kernel.run, &kernel, sizeof(kernel));
}
#define TRM_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                          \
    fake_gpu_launch_body(reinterpret_cast<const void *>(kernel), grid, block, shared_bytes, \
                         stream, [&](auto... fake_gpu_arguments) {                          \
                             return [=]() { kernel(fake_gpu_arguments...); };               \
                         }(__VA_ARGS__))
#define TRM_SHARED(type, name) type *name = static_cast<type *>(fake_gpu_shared())

static inline void __syncthreads(void)
{
    fake_gpu_sync_block();
}

static inline void __syncwarp(unsigned = 0xFFFFFFFFu)
{
    fake_gpu_exchange("__syncwarp", "", 0);
}

template <typename T> T __shfl_xor_sync(unsigned, T value, int mask)
{
    T other;
    const int lane = fake_gpu_lane();
    memcpy(&other, &fake_gpu_exchange("__shfl_xor_sync", &value, sizeof(T))[lane ^ mask],
           sizeof(T));
    return other;
}

static inline unsigned __ballot_sync(unsigned, int predicate)
{
    unsigned bits = 0;
    const fake_gpu_deposit *all = fake_gpu_exchange("__ballot_sync", &predicate, sizeof(int));
    for (int i = 0; i < FAKE_GPU_WARP; i++) {
        int value;
        memcpy(&value, &all[i], sizeof(int));
        bits |= (value != 0 ? 1u : 0u) << i;
    }
    return bits;
}

static inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

template <typename T> T atomicAdd(T *place, T value)
{
    const T before = *place;
    *place = before + value;
    return before;
}

static inline int atomicMin(int *place, int value)
{
    const int before = *place;
    *place = value < before ? value : before;
    return before;
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

static inline long long __double_as_longlong(double value)
{
    long long bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

#endif
