/*
 * Float maxima as integer maxima of keys, whose bits no order of the ranks changes: floats order as
 * their bits do once those of negative numbers are reversed, and any NaN is the largest key. What a
 * thread of sum.cu does, compiled for the host by tests.
 */
#ifndef TRM_COLLECTIVES_NCCL_KEY_KERNEL_H
#define TRM_COLLECTIVES_NCCL_KEY_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "collectives/nccl/kernel.h"

/* In place over element i: a float's bits to its key, and back; of NaNs comes the quiet one. */
TRM_KERNEL void trm_key_encode_f32(int32_t *data, size_t i)
{
    int32_t bits = data[i];
    if ((bits & INT32_MAX) > 0x7f800000)
        data[i] = INT32_MAX;
    else if (bits < 0)
        data[i] = bits ^ INT32_MAX;
}

TRM_KERNEL void trm_key_decode_f32(int32_t *data, size_t i)
{
    int32_t key = data[i];
    if (key == INT32_MAX)
        data[i] = 0x7fc00000;
    else if (key < 0)
        data[i] = key ^ INT32_MAX;
}

TRM_KERNEL void trm_key_encode_f64(int64_t *data, size_t i)
{
    int64_t bits = data[i];
    if ((bits & INT64_MAX) > INT64_C(0x7ff0000000000000))
        data[i] = INT64_MAX;
    else if (bits < 0)
        data[i] = bits ^ INT64_MAX;
}

TRM_KERNEL void trm_key_decode_f64(int64_t *data, size_t i)
{
    int64_t key = data[i];
    if (key == INT64_MAX)
        data[i] = INT64_C(0x7ff8000000000000);
    else if (key < 0)
        data[i] = key ^ INT64_MAX;
}

#endif
