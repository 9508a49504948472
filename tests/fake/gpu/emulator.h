/*
 * A GPU of the host's: runs the bodies of CUDA kernels, compiled as C++, one thread after the
 * other, so that their index arithmetic and barriers are tested where there is no GPU.
 *
 * Each thread of a block is a fiber, which runs until it waits: at __syncthreads for its block, at
 * a shuffle or matrix instruction for its warp. Blocks run one after the other. What a GPU leaves
 * open is chosen to find mistakes: dynamic shared memory starts as NaN, asynchronous copies arrive
 * when they are waited for and not before, and the order of threads and blocks can be reversed
 * (copies then arrive at once), so that a missing barrier gives other results. A barrier that some
 * threads never reach ends the program with a sentence. What is not modelled: warps that run at the
 * same time, caches, streams (work is done when the launch returns), and the speed.
 *
 * One thread of the host may launch at a time. For C and C++.
 */
#ifndef TRM_TESTS_FAKE_GPU_EMULATOR_H
#define TRM_TESTS_FAKE_GPU_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FAKE_GPU_WARP          32
#define FAKE_GPU_DEPOSIT_BYTES 32

struct fake_gpu_dim {
    unsigned x, y, z;
};

/* The thread that runs: threadIdx, blockIdx, blockDim and gridDim. */
struct fake_gpu_place {
    struct fake_gpu_dim thread, block, block_size, grid;
};
extern struct fake_gpu_place fake_gpu_place;

/* Runs `body` once for each thread, with `shared_bytes` of dynamic shared memory per block. Blocks
 * have whole warps: a kernel that is started otherwise ends the program. */
void fake_gpu_launch(struct fake_gpu_dim grid, struct fake_gpu_dim block, size_t shared_bytes,
                     void (*body)(void *context), void *context);

/* The runtime's last error, which stays until it is asked for: keeps `code` unless it is 0, and
 * gives it back; fake_gpu_last_error forgets it. */
int fake_gpu_note(int code);
int fake_gpu_last_error(void);

/* A block has 48 KiB of shared memory, or what its kernel was allowed. 0, or the noted error of a
 * launch that asks for more. */
void fake_gpu_allow_shared(const void *kernel, size_t bytes);
int fake_gpu_check_shared(const void *kernel, size_t bytes);

/* Threads and blocks run from the last to the first from now on, or (0) from the first. */
void fake_gpu_reverse(int reversed);

/* For the code of a kernel. */
void *fake_gpu_shared(void);
void fake_gpu_sync_block(void);

/* What the lanes of a warp exchange: each leaves up to FAKE_GPU_DEPOSIT_BYTES and gets those of all
 * 32, in order, valid until its next exchange but one. `kind` names the operation: lanes that meet
 * in different ones end the program. */
struct fake_gpu_deposit {
    uint64_t word[FAKE_GPU_DEPOSIT_BYTES / 8];
};
const struct fake_gpu_deposit *fake_gpu_exchange(const char *kind, const void *data, size_t bytes);

/* The same, where the last lane to arrive turns all 32 deposits into what each lane gets: */
typedef void (*fake_gpu_combine_fn)(struct fake_gpu_deposit deposits[FAKE_GPU_WARP]);
const struct fake_gpu_deposit *fake_gpu_combine(const char *kind, const void *data, size_t bytes,
                                                fake_gpu_combine_fn combine);

/* Which lane of its warp the running thread is. */
int fake_gpu_lane(void);

/* d[16x8] += a[16x16] b[16x8] in bfloat16, each lane its fragments: PTX ISA, "Matrix fragments for
 * mma.m16n8k16 with floating point type". */
void fake_gpu_mma(float d[4], const uint32_t a[4], const uint32_t b[2]);

/* Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. */
void fake_gpu_ldmatrix(uint32_t r[4], const void *row, int transposed);

/* 16 bytes from global to shared memory, or zeros; there once their group was waited for. */
void fake_gpu_copy_async(void *to, const void *from, int is_zero);
void fake_gpu_copy_commit(void);
void fake_gpu_copy_wait(int groups_left);

/* The emulated clock, which events take the time of, goes on by so much. */
void fake_gpu_spend(double ms);

#ifdef __cplusplus
}
#endif

#endif
