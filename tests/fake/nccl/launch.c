/* The launchers of collectives/nccl/sum.cu on the fake device: the same bodies, one thread after
 * the other. */
#include "collectives/nccl/sum.h"

#include "collectives/nccl/key_kernel.h"
#include "collectives/nccl/sum_kernel.h"
#include "tests/fake/device.h"

struct sum_argument {
    struct trm_sum_program program;
    size_t count;
    enum trm_type type;
};

static void run_sum(const void *argument)
{
    const struct sum_argument *a = argument;
    const struct trm_sum_program *p = &a->program;
    size_t lanes = a->type == TRM_F64 ? TRM_SUM_LANES_F64 : TRM_SUM_LANES_F32;
    size_t vectors = trm_sum_vectors(p, a->count, lanes, a->type == TRM_BF16 ? 8 : 16);

    for (size_t i = 0; i < vectors + (a->count - vectors * lanes); i++) {
        if (a->type == TRM_F32)
            trm_sum_f32(p, vectors, i);
        else if (a->type == TRM_F64)
            trm_sum_f64(p, vectors, i);
        else
            trm_sum_bf16(p, vectors, i);
    }
}

cudaError_t trm_nccl_launch_sum(const struct trm_sum_program *program, size_t count,
                                enum trm_type type, cudaStream_t stream)
{
    const struct sum_argument argument = {*program, count, type};
    fake_launch(stream, run_sum, &argument, sizeof argument);
    return cudaSuccess;
}

struct key_argument {
    void *data;
    size_t count;
    enum trm_type type;
    bool encode;
};

static void run_keys(const void *argument)
{
    const struct key_argument *a = argument;
    for (size_t i = 0; i < a->count; i++) {
        if (a->type == TRM_F32 && a->encode)
            trm_key_encode_f32(a->data, i);
        else if (a->type == TRM_F32)
            trm_key_decode_f32(a->data, i);
        else if (a->encode)
            trm_key_encode_f64(a->data, i);
        else
            trm_key_decode_f64(a->data, i);
    }
}

cudaError_t trm_nccl_launch_keys(void *data, size_t count, enum trm_type type, bool encode,
                                 cudaStream_t stream)
{
    const struct key_argument argument = {data, count, type, encode};
    fake_launch(stream, run_keys, &argument, sizeof argument);
    return cudaSuccess;
}
