/*
 * Counter-based random numbers: a value is a pure function of (key, counter), so any rank computes
 * any element without state and in any order.
 *
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
 * Normals: the inverse normal distribution of Wichura (AS 241, PPND16) with a logarithm of our own,
 * so the bits do not depend on the C library.
 */
#ifndef TRM_BASE_RANDOM_H
#define TRM_BASE_RANDOM_H

#include <stdint.h>

/* Four words from a 64-bit key and a 128-bit counter (low, high). */
void trm_random_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4]);

/* 64 random bits of (key, counter). */
uint64_t trm_random_bits(uint64_t key, uint64_t counter);

/* A key of its own for a purpose and an instance, e.g. ("init", tensor hash) or ("order", epoch).
 */
uint64_t trm_random_key(uint64_t seed, const char *purpose, uint64_t a, uint64_t b);

/* Uniform in (0, 1), never 0 or 1. */
double trm_random_uniform(uint64_t key, uint64_t counter);

/* The standard normal value below which a share u of all lies; requires 0 < u < 1 and normal. */
double trm_random_normal_quantile(double u);

/* Standard normal, rounded to float by the caller: the quantile of trm_random_uniform. */
double trm_random_normal(uint64_t key, uint64_t counter);

/* A permutation of [0, size) keyed by `key`: where `index` goes. O(1) memory and expected O(1) time
 * (balanced Feistel network with cycle walking: Black and Rogaway, "Ciphers with arbitrary finite
 * domains", CT-RSA 2002). Requires index < size. */
uint64_t trm_random_permute(uint64_t key, uint64_t size, uint64_t index);

#endif
