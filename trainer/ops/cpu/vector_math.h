/* The exponential and the logarithm, of our own: the C library's may differ from machine to
 * machine. */
#ifndef TRM_TRAINER_OPS_CPU_VECTOR_MATH_H
#define TRM_TRAINER_OPS_CPU_VECTOR_MATH_H

#include "trainer/ops/cpu/vector.h"

/*
 * e^x to about 1e-7 relative: x = n ln 2 + r, a polynomial in r (Cephes' expf), times 2^n. Zero
 * below -87.3 (no denormals), infinity above 88.37, NaN for NaN.
 *
 * The bits of floats order like integers (negative ones backwards), NaN beyond infinity on both
 * sides: that tells the three cases apart. What is computed for them before is not used.
 */
TRM_VECTOR v16 v16_exp(v16 x)
{
    const uint32_t low_bits = 0xc2ae999au, high_bits = 0x42b0bd71u, minus_infinity = 0xff800000u;
    const v16 magic = v16_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    v16u bits = (v16u)x;
    v16i keep = (v16i)((bits - (low_bits + 1)) | ~bits | (minus_infinity - bits)) >> 31;
    v16i over = (v16i)((high_bits - bits) & ~bits) >> 31;
    v16 shifted = x * 1.44269504088896341f + magic;
    v16 n = shifted - magic;
    v16 r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    v16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    v16u exponent = ((v16u)shifted - (v16u)magic + 127u) << 23;
    v16 y = (v16)(keep & (v16i)(p * (v16)exponent));
    return v16_select(over, x + __builtin_inff(), y);
}

/*
 * The natural logarithm of a positive number, in double, to about 1e-15 relative, from additions,
 * multiplications and one division.
 * ln m = 2 atanh((m - 1) / (m + 1)) for m in [sqrt(1/2), sqrt(2)).
 */
TRM_VECTOR double trm_cpu_log(double x)
{
    if (!(x > 0.0) || x > __DBL_MAX__)
        return x == 0.0 ? -__builtin_inf() : x < 0.0 ? __builtin_nan("") : x;
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    int64_t exponent = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffULL) | (1023ULL << 52);
    double m;
    memcpy(&m, &bits, sizeof(m));
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    double s = (m - 1.0) / (m + 1.0), s2 = s * s, series = 0.0;
    for (int k = 23; k >= 1; k -= 2)
        series = series * s2 + 1.0 / k;
    return (double)exponent * 0.6931471805599453 + 2.0 * s * series;
}

#endif
