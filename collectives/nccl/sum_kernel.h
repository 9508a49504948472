/*
 * What a thread of the kernels in sum.cu does, compiled for the device there and for the host by
 * tests: the arithmetic that is tested is the arithmetic that runs.
 *
 * Ordered sums run a program (collectives/sum_program.h) over one vector of 16 bytes (bfloat16: 8)
 * per thread. Each place of the stack is named by a constant, so that it can be a register.
 * bfloat16 is added in float32 and rounded once, to nearest, ties to even, when it is stored.
 */
#ifndef TRM_COLLECTIVES_NCCL_SUM_KERNEL_H
#define TRM_COLLECTIVES_NCCL_SUM_KERNEL_H

#include <stdint.h>
#include <string.h>

#include "collectives/nccl/kernel.h"
#include "collectives/sum_program.h"

TRM_KERNEL float trm_sum_widen_bf16(uint16_t stored)
{
    uint32_t bits = (uint32_t)stored << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

TRM_KERNEL uint16_t trm_sum_round_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* On the host: how many vectors of `lanes` elements fit into `count`, none unless every operand is
 * aligned to `bytes`. A sum then takes as many threads and one for each element that is left. */
static inline size_t trm_sum_vectors(const struct trm_sum_program *p, size_t count, size_t lanes,
                                     size_t bytes)
{
    for (int i = 0; i < p->address_count; i++)
        if ((uintptr_t)p->addresses[i] % bytes != 0)
            return 0;
    return count / lanes;
}

#define TRM_SUM_SAME(x) (x)

/* The three steps about one place; LANES, WIDEN and NARROW are those of the function around it. */
#define TRM_SUM_PLACE(PLACE, BELOW, VECTOR, LANES, WIDEN, NARROW) \
    case TRM_SUM_LOAD(PLACE):                                     \
        vector = ((const VECTOR *)p->addresses[address++])[i];    \
        for (int j = 0; j < LANES; j++)                           \
            stack[PLACE][j] = WIDEN(vector.v[j]);                 \
        break;                                                    \
    case TRM_SUM_ADD(PLACE):                                      \
        for (int j = 0; j < LANES; j++)                           \
            stack[BELOW][j] += stack[PLACE][j];                   \
        break;                                                    \
    case TRM_SUM_STORE(PLACE):                                    \
        for (int j = 0; j < LANES; j++)                           \
            vector.v[j] = NARROW(stack[PLACE][j]);                \
        ((VECTOR *)p->addresses[address++])[i] = vector;          \
        break;

/* NAME(p, i): the program over vector i of its operands. ADD(0) is in no program. */
#define TRM_SUM_DEFINE(NAME, VECTOR, SUM, LANES, WIDEN, NARROW)     \
    TRM_KERNEL void NAME(const struct trm_sum_program *p, size_t i) \
    {                                                               \
        SUM stack[TRM_SUM_DEPTH][LANES] = {{0}};                    \
        VECTOR vector;                                              \
        int address = 0;                                            \
        for (int k = 0; k < p->step_count; k++) {                   \
            switch (p->steps[k]) {                                  \
                TRM_SUM_PLACE(0, 0, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(1, 0, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(2, 1, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(3, 2, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(4, 3, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(5, 4, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(6, 5, VECTOR, LANES, WIDEN, NARROW)   \
                TRM_SUM_PLACE(7, 6, VECTOR, LANES, WIDEN, NARROW)   \
            }                                                       \
        }                                                           \
    }

/* NAME(p, vectors, i), thread i: the first `vectors` threads take a vector each, those behind them
 * an element each of what is left. */
#define TRM_SUM_DEFINE_THREAD(NAME, TYPE, SUM, LANES, BYTES, WIDEN, NARROW)           \
    struct NAME##_vector {                                                            \
        TYPE v[LANES];                                                                \
    } __attribute__((aligned(BYTES)));                                                \
    struct NAME##_element {                                                           \
        TYPE v[1];                                                                    \
    };                                                                                \
    TRM_SUM_DEFINE(NAME##_of_vector, struct NAME##_vector, SUM, LANES, WIDEN, NARROW) \
    TRM_SUM_DEFINE(NAME##_of_element, struct NAME##_element, SUM, 1, WIDEN, NARROW)   \
    TRM_KERNEL void NAME(const struct trm_sum_program *p, size_t vectors, size_t i)   \
    {                                                                                 \
        if (i < vectors)                                                              \
            NAME##_of_vector(p, i);                                                   \
        else                                                                          \
            NAME##_of_element(p, i - vectors + vectors * LANES);                      \
    }

#define TRM_SUM_LANES_F32  4
#define TRM_SUM_LANES_F64  2
#define TRM_SUM_LANES_BF16 4
TRM_SUM_DEFINE_THREAD(trm_sum_f32, float, float, TRM_SUM_LANES_F32, 16, TRM_SUM_SAME, TRM_SUM_SAME)
TRM_SUM_DEFINE_THREAD(trm_sum_f64, double, double, TRM_SUM_LANES_F64, 16, TRM_SUM_SAME,
                      TRM_SUM_SAME)
TRM_SUM_DEFINE_THREAD(trm_sum_bf16, uint16_t, float, TRM_SUM_LANES_BF16, 8, trm_sum_widen_bf16,
                      trm_sum_round_bf16)

#endif
