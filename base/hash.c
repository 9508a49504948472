#include "base/hash.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define COPY_BYTES ((size_t)32 << 10) /* stays in the first caches between hash and copy */

uint64_t trm_hash64(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

uint64_t trm_hash64_seeded(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t trm_hash64_copy(void *to, const void *from, size_t bytes)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (size_t at = 0; at < bytes; at += COPY_BYTES) {
        size_t part = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
        XXH3_64bits_update(&state, (const char *)from + at, part);
        memcpy((char *)to + at, (const char *)from + at, part);
    }
    return XXH3_64bits_digest(&state);
}

struct trm_hash128 trm_hash128(const void *data, size_t bytes)
{
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    return (struct trm_hash128){.low = hash.low64, .high = hash.high64};
}

/* Both numbers are hashed as 16 bytes: a hash that took `rolling` as its seed would be weaker. */
uint64_t trm_hash_roll(uint64_t rolling, uint64_t number)
{
    uint64_t pair[2] = {htole64(rolling), htole64(number)};
    return XXH3_64bits(pair, sizeof pair);
}

void trm_hash128_format(struct trm_hash128 hash, char text[33])
{
    snprintf(text, 33, "%016llx%016llx", (unsigned long long)hash.high,
             (unsigned long long)hash.low);
}
