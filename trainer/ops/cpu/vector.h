/*
 * Vectors of 16 floats, in GCC's vector extension: one AVX-512 register, two of AVX, four of NEON.
 *
 * Every function is elementwise or has one fixed order, and multiplies and adds are kept apart
 * (-ffp-contract=off), so the bits are the same on every instruction set. Functions whose loops
 * matter are marked TRM_VECTOR_CLONES and compiled for several; what they call is always inlined.
 */
#ifndef TRM_TRAINER_OPS_CPU_VECTOR_H
#define TRM_TRAINER_OPS_CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#define TRM_LANES 16

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef double v8d __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(TRM_SANITIZED)
#define TRM_VECTOR_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TRM_VECTOR_CLONES
#endif

#define TRM_VECTOR static inline __attribute__((always_inline))

TRM_VECTOR v16 v16_load(const float *p)
{
    v16 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

TRM_VECTOR void v16_store(float *p, v16 v)
{
    memcpy(p, &v, sizeof(v));
}

/* The first `count` (below 16) elements; the rest is `fill`. */
TRM_VECTOR v16 v16_load_part(const float *p, int64_t count, float fill)
{
    float part[TRM_LANES];
    for (int i = 0; i < TRM_LANES; i++)
        part[i] = fill;
    for (int64_t i = 0; i < count; i++)
        part[i] = p[i];
    return v16_load(part);
}

TRM_VECTOR void v16_store_part(float *p, v16 v, int64_t count)
{
    float part[TRM_LANES];
    v16_store(part, v);
    for (int64_t i = 0; i < count; i++)
        p[i] = part[i];
}

TRM_VECTOR v16 v16_set(float x)
{
    return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

/*
 * Masks' lanes are 0 or -1. They are made from sign bits and not by comparing vectors, which GCC
 * does lane by lane where 16 floats don't fit one register.
 */
TRM_VECTOR v16 v16_select(v16i mask, v16 a, v16 b)
{
    return (v16)((mask & (v16i)a) | (~mask & (v16i)b));
}

/* Where a < b. Where either is NaN, any. */
TRM_VECTOR v16i v16_below(v16 a, v16 b)
{
    return (v16i)(a - b) >> 31;
}

/* The larger of each; where either is NaN, any of the two. */
TRM_VECTOR v16 v16_max(v16 a, v16 b)
{
    return v16_select(v16_below(b, a), a, b);
}

/* x, but `bound` with x's sign where x is larger than that; NaN stays. bound > 0. */
TRM_VECTOR v16 v16_bounded(v16 x, float bound)
{
    v16u bits = (v16u)x, limit = (v16u)v16_set(bound);
    v16u sign = bits & 0x80000000u, size = bits & 0x7fffffffu;
    v16i over = (v16i)((limit - size) & (size - 0x7f800001u)) >> 31;
    return v16_select(over, (v16)(limit | sign), x);
}

TRM_VECTOR v8d v16_low(v16 v)
{
    v8 half;
    memcpy(&half, &v, sizeof(half));
    return __builtin_convertvector(half, v8d);
}

TRM_VECTOR v8d v16_high(v16 v)
{
    v8 half;
    memcpy(&half, (const char *)&v + sizeof(half), sizeof(half));
    return __builtin_convertvector(half, v8d);
}

/* Both halves added, in double. */
TRM_VECTOR v8d v16_widen_sum(v16 v)
{
    return v16_low(v) + v16_high(v);
}

TRM_VECTOR double v8d_sum(v8d v)
{
    double a = (v[0] + v[4]) + (v[2] + v[6]);
    double b = (v[1] + v[5]) + (v[3] + v[7]);
    return a + b;
}

TRM_VECTOR float v16_max_of(v16 v)
{
    float lane[TRM_LANES];
    v16_store(lane, v);
    for (int width = TRM_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
    return lane[0];
}

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
 * multiplications and one division: the C library's may differ from machine to machine.
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
