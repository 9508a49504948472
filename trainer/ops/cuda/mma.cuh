/*
 * Tensor-core products of a warp on bfloat16 tiles in shared memory, by instructions that every GPU
 * from sm_80 on has: ldmatrix, mma.sync.m16n8k16, cp.async (PTX ISA).
 *
 * An accumulator of 16 rows and N columns is float[N / 8][4]: of column tile j, lane l holds in [0]
 * and [1] row l / 4, columns 8 j + 2 (l % 4) and the next, and in [2] and [3] row l / 4 + 8.
 *
 * Tiles are row-major with rows of TRM_TILE_PAD elements more than columns: rows then start in
 * different banks, and at multiples of 16 bytes.
 */
#ifndef TRM_TRAINER_OPS_CUDA_MMA_CUH
#define TRM_TRAINER_OPS_CUDA_MMA_CUH

#include "trainer/ops/cuda/kernel.cuh"

#define TRM_TILE_PAD 8

static __device__ __forceinline__ void trm_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    fake_gpu_mma(d, a, b);
#endif
}

/* Lane l gives the row address of row l % 8 of matrix l / 8, and gets its pair of each matrix. */
static __device__ __forceinline__ void trm_ldmatrix(uint32_t r[4], const trm_bf16 *row)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#else
    fake_gpu_ldmatrix(r, row, 0);
#endif
}

static __device__ __forceinline__ void trm_ldmatrix_transposed(uint32_t r[4], const trm_bf16 *row)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#else
    fake_gpu_ldmatrix(r, row, 1);
#endif
}

/* 16 bytes to shared memory, past the registers; zeros when `is_zero` (nothing is read). */
static __device__ __forceinline__ void trm_copy_async(trm_bf16 *to, const trm_bf16 *from,
                                                      bool is_zero)
{
#ifdef __CUDACC__
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    const int bytes = is_zero ? 0 : 16;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(bytes)
                 : "memory");
#else
    fake_gpu_copy_async(to, from, is_zero);
#endif
}

static __device__ __forceinline__ void trm_copy_commit(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    fake_gpu_copy_commit();
#endif
}

/* Waits until at most Left of the newest groups are under way. */
template <int Left> static __device__ __forceinline__ void trm_copy_wait(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#else
    fake_gpu_copy_wait(Left);
#endif
}

static __device__ __forceinline__ uint32_t trm_pack(float low, float high)
{
    const trm_bf16 pair[2] = {__float2bfloat16(low), __float2bfloat16(high)};
    uint32_t bits;
    memcpy(&bits, pair, sizeof(bits));
    return bits;
}

/* acc[16, N] += a[16, K] b[N, K]^T: `a` and `b` are tiles of row stride `stride`. */
template <int N, int K>
static __device__ __forceinline__ void trm_mma_nt(float acc[N / 8][4], const trm_bf16 *a,
                                                  const trm_bf16 *b, int stride)
{
    const int lane = (int)threadIdx.x % TRM_WARP;
    /* Matrices of a: rows 0-7 and 8-15, then the same eight columns on. */
    const trm_bf16 *a_row = a + lane % 16 * stride + lane / 16 * 8;
    /* Matrices of b: columns 0-7 and 8-15 of rows 0-7, then of rows 8-15. */
    const trm_bf16 *b_row = b + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < K; k += 16) {
        uint32_t left[4], right[4];
        trm_ldmatrix(left, a_row + k);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            trm_ldmatrix(right, b_row + n * stride + k);
            trm_mma(acc[n / 8], left, right);
            trm_mma(acc[n / 8 + 1], left, right + 2);
        }
    }
}

/* acc[16, N] += p[16, K] b[K, N]: `p` is an accumulator, rounded to bfloat16; `b` a tile. */
template <int N, int K>
static __device__ __forceinline__ void trm_mma_nn(float acc[N / 8][4], const float p[K / 8][4],
                                                  const trm_bf16 *b, int stride)
{
    const int lane = (int)threadIdx.x % TRM_WARP;
    /* Matrices of b, transposed as they are read: rows 0-7 and 8-15 of columns 0-7, then 8-15. */
    const trm_bf16 *b_row = b + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < K; k += 16) {
        const float *low = p[k / 8], *high = p[k / 8 + 1];
        const uint32_t left[4] = {trm_pack(low[0], low[1]), trm_pack(low[2], low[3]),
                                  trm_pack(high[0], high[1]), trm_pack(high[2], high[3])};
        uint32_t right[4];
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            trm_ldmatrix_transposed(right, b_row + k * stride + n);
            trm_mma(acc[n / 8], left, right);
            trm_mma(acc[n / 8 + 1], left, right + 2);
        }
    }
}

#endif
