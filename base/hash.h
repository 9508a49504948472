/* XXH3 hashes (xxHash, 64 and 128 bits) and a rolling hash of a sequence of numbers. Checksums
 * against corruption; not against an adversary. */
#ifndef TRM_BASE_HASH_H
#define TRM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct trm_hash128 {
    uint64_t low, high;
};

uint64_t trm_hash64(const void *data, size_t bytes);
uint64_t trm_hash64_seeded(const void *data, size_t bytes, uint64_t seed);

/* Copies `bytes` and returns trm_hash64 of what was read, in one pass through the caches: a copy
 * that came out wrong does not have this hash. No overlap. */
uint64_t trm_hash64_copy(void *to, const void *from, size_t bytes);

struct trm_hash128 trm_hash128(const void *data, size_t bytes);

/* The hash of the sequence so far and one number more; start with 0. Order matters. */
uint64_t trm_hash_roll(uint64_t rolling, uint64_t number);

/* 32 lower-case hexadecimal digits and a NUL. */
void trm_hash128_format(struct trm_hash128 hash, char text[33]);

#endif
