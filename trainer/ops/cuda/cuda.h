/*
 * The CUDA device: one GPU per process, float32 or bfloat16, matrix products by cuBLASLt,
 * everything else by kernels of our own.
 *
 * Types: with bfloat16, parameters and activations are bfloat16; statistics (mean, rstd,
 * log_sum_exp, the rows of cross-entropy, losses) and gradients of parameters are float32, and so
 * is every sum on the way. With float32, everything is float32, and products do not fall back to
 * TF32.
 *
 * The same bits run after run: no float is added by an atomic, work is cut by shape alone, and the
 * algorithm of each matrix product is kept once it is chosen (choices.h). Tensors lie in the
 * device's memory (trm_device_allocate), exact sums too; work is queued on one stream, and copies
 * beside it on a second.
 *
 * Threads: one at a time. Memory: TRM_CUDA_LIBRARY_BYTES for the matrix library, taken when the
 * device is opened; nothing in a step. A build without CUDA has this header too: its
 * trm_device_cuda refuses.
 */
#ifndef TRM_TRAINER_OPS_CUDA_CUDA_H
#define TRM_TRAINER_OPS_CUDA_CUDA_H

#include "trainer/ops/ops.h"

#define TRM_CUDA_LIBRARY_BYTES ((size_t)64 << 20)

/* How many GPUs this process may use. 0, with the reason in words in `err` (may be NULL): no
 * driver, no GPU, or a build without CUDA. */
int trm_cuda_count(struct trm_error *err);

/* What tells one GPU from others, on this machine and in its topology. */
#define TRM_CUDA_UUID_BYTES 16
struct trm_cuda_identity {
    unsigned char uuid[TRM_CUDA_UUID_BYTES]; /* of a part of a GPU: the part's */
    char bus_id[32];                         /* "0000:1b:00.0" */
};

/* False where there is no GPU of that number. Starts nothing on it. */
bool trm_cuda_identify(int number, struct trm_cuda_identity *out);

/* Opens GPU number `number` of those that this process sees, and fills *dev in, without a
 * workspace. TRM_ERR_UNSUPPORTED when there is none that can be used, or fewer than ranks on this
 * node. */
enum trm_status trm_device_cuda(struct trm_device *dev, int number, struct trm_error *err);

/* The stream that the ops are queued on, a cudaStream_t that does not wait for the legacy default
 * stream; borrowed. */
void *trm_cuda_stream(const struct trm_device *dev);

/* From now on, products of new shapes are searched for their fastest algorithm, or (false) take the
 * library's first. What is computed during a search must be thrown away (choices.h). */
void trm_cuda_search(struct trm_device *dev, bool on);

/* The algorithms chosen so far, as bytes that another process with the same GPU and library can
 * take over, so that all ranks and attempts use the same; zeros behind the last one. Setting them
 * changes nothing and returns false when the bytes are not such. */
size_t trm_cuda_choices_bytes(void);
int trm_cuda_choices_count(const struct trm_device *dev);
void trm_cuda_choices_get(const struct trm_device *dev, void *bytes);
bool trm_cuda_choices_set(struct trm_device *dev, const void *bytes);

struct trm_cuda_properties {
    char bus_id[32]; /* "0000:1B:00.0" */
    int multiprocessors;
    int clock_mhz;       /* the highest */
    int flops_per_clock; /* of a multiprocessor, dense products; 0: not known */
};

/* What the GPU's peak for products of `type` is made of; false when the device is no GPU. */
bool trm_cuda_describe(const struct trm_device *dev, enum trm_type type,
                       struct trm_cuda_properties *out);

/* Gives back all that the device holds; NULL-safe for a device never opened. */
void trm_device_cuda_close(struct trm_device *dev);

#endif
