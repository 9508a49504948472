/*
 * Which algorithm multiplies which shapes: kept for the life of a device, so that equal products
 * give equal bits, and a plain array of bytes, so that one rank's choices can be sent to all and
 * kept with a checkpoint.
 *
 * A shape that is not here is looked up in the library's heuristics, which are a function of GPU
 * and library version; while the device searches, the first few are timed and the fastest is kept.
 * A search runs each product several times: its results are to be thrown away.
 */
#ifndef TRM_TRAINER_OPS_CUDA_CHOICES_H
#define TRM_TRAINER_OPS_CUDA_CHOICES_H

#include <stdint.h>

/* A model of one kind has under 30 shapes; a pass with other row counts adds to them. */
#define TRM_CUDA_CHOICES 128

#define TRM_CUDA_ALGORITHM_WORDS 8 /* the library's own form, for one version of it */

/* What decides an algorithm. All int64_t, so that equal keys are equal bytes. */
struct trm_cuda_key {
    int64_t m, n, k;                      /* of c[M, N] = a[M, K] b[K, N], row-major */
    int64_t a_stride, b_stride, c_stride; /* rows of the matrix as it lies in memory */
    int64_t aux_stride;                   /* of what the epilogue reads or writes */
    int64_t form; /* types, transposes, bias, accumulation, alignment, epilogue */
};

struct trm_cuda_choice {
    struct trm_cuda_key key;
    int64_t found; /* 0: the library has none, and what it was asked for is done by other means */
    uint64_t algorithm[TRM_CUDA_ALGORITHM_WORDS];
};

struct trm_cuda_choices {
    int64_t count;
    struct trm_cuda_choice choice[TRM_CUDA_CHOICES];
};

#endif
