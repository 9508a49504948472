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

/* Asks for memory that a loop will read soon: where much is computed per element, too few loads are
 * under way at a time to keep memory busy. Harmless at any address. */
#define TRM_FETCH_AHEAD 512 /* elements */
TRM_VECTOR void v16_fetch(const float *p)
{
    __builtin_prefetch((const char *)p + TRM_FETCH_AHEAD * sizeof(*p));
}

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

#endif
