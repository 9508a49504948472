/* bfloat16 on the emulated GPU: rounding to nearest even, as the hardware does. */
#ifndef TRM_TESTS_FAKE_GPU_CUDA_BF16_H
#define TRM_TESTS_FAKE_GPU_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 value)
{
    const uint32_t bits = (uint32_t)value.bits << 16;
    float out;
    memcpy(&out, &bits, sizeof(out));
    return out;
}

static inline __nv_bfloat16 __float2bfloat16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (value != value)
        return {0x7FFF};
    bits += 0x7FFF + (bits >> 16 & 1);
    return {(uint16_t)(bits >> 16)};
}

#endif
