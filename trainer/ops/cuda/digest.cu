/*
 * The hash of a tensor's bytes, as base/hash.h has it on the host: XXH3-64 (xxHash, its
 * specification: doc/xxhash_spec.md) of each TRM_DIGEST_BYTES, seeded by their number.
 *
 * A block of threads for each part. In XXH3 what a stretch of 1024 bytes adds to the eight
 * accumulators does not depend on them, so stretches are worked on side by side, and only the step
 * between two of them, a scramble of eight words, is done one after the other.
 */
#include "trainer/ops/cuda/launch.cuh"

#define LANES         8
#define STRIPE_BYTES  (LANES * 8)
#define STRIPES       16 /* of a stretch: (secret - stripe) / 8 */
#define STRETCH_BYTES (STRIPES * STRIPE_BYTES)
#define STRETCHES     32 /* worked on side by side */
#define THREADS       (STRETCHES * LANES)
#define LEAST_BYTES   (TRM_CUDA_HOST_HASH_BYTES + 1) /* shorter input is hashed otherwise */
#define SECRET_WORDS  24
#define SECRET_MIX    (8 * SECRET_WORDS - STRIPE_BYTES)     /* of the scramble */
#define SECRET_LAST   (8 * SECRET_WORDS - STRIPE_BYTES - 7) /* of the last stripe */
#define SECRET_MERGE  11

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87ull
#define PRIME64_2 0xC2B2AE3D27D4EB4Full
#define PRIME64_3 0x165667B19E3779F9ull
#define PRIME64_4 0x85EBCA77C2B2AE63ull
#define PRIME64_5 0x27D4EB2F165667C5ull
#define PRIME_MX  0x165667919E3779F9ull

typedef unsigned long long word;

struct arguments {
    const unsigned char *data; /* aligned to two bytes */
    int64_t bytes;
    word *total;
    word secret[SECRET_WORDS], start[LANES];
};

static __device__ __forceinline__ word load_word(const unsigned char *p)
{
    if ((uintptr_t)p % sizeof(word) == 0)
        return *reinterpret_cast<const word *>(p);
    word value = 0;
    for (int i = 0; i < 4; i++)
        value |= (word) reinterpret_cast<const unsigned short *>(p)[i] << 16 * i;
    return value;
}

/* Eight bytes of the secret for `seed`, from any byte on: its words are those of the standard
 * secret, plus and minus the seed in turn. */
static __device__ __forceinline__ word secret_at(const arguments &a, word seed, int byte)
{
    const int at = byte / 8, shift = byte % 8 * 8;
    const word low = at % 2 == 0 ? a.secret[at] + seed : a.secret[at] - seed;
    if (shift == 0)
        return low;
    const word high = at % 2 == 0 ? a.secret[at + 1] - seed : a.secret[at + 1] + seed;
    return low >> shift | high << (64 - shift);
}

static __device__ __forceinline__ word product_of_halves(word value)
{
    return (value & 0xFFFFFFFFull) * (value >> 32);
}

/* What a stripe adds to accumulator `lane`: its neighbour's word, too. */
static __device__ __forceinline__ word of_stripe(const unsigned char *stripe, int lane, word key)
{
    return product_of_halves(load_word(stripe + 8 * lane) ^ key) +
           load_word(stripe + 8 * (lane ^ 1));
}

static __device__ __forceinline__ word fold(word a, word b)
{
    return a * b ^ __umul64hi(a, b);
}

static __device__ word merge(const arguments &a, word seed, const word *lanes, int64_t bytes)
{
    word hash = (word)bytes * PRIME64_1;
    for (int i = 0; i < LANES; i += 2)
        hash += fold(lanes[i] ^ secret_at(a, seed, SECRET_MERGE + 8 * i),
                     lanes[i + 1] ^ secret_at(a, seed, SECRET_MERGE + 8 * i + 8));
    hash = (hash ^ hash >> 37) * PRIME_MX;
    return hash ^ hash >> 32;
}

static __global__ void add_digest(arguments a)
{
    TRM_SHARED(word, sums); /* [STRETCHES][LANES] */
    const word seed = blockIdx.x;
    const int64_t first = (int64_t)blockIdx.x * TRM_DIGEST_BYTES;
    const int64_t bytes = a.bytes - first < TRM_DIGEST_BYTES ? a.bytes - first : TRM_DIGEST_BYTES;
    const unsigned char *data = a.data + first;
    const int64_t stretches = (bytes - 1) / STRETCH_BYTES; /* that others follow */
    const int lane = (int)threadIdx.x % LANES;
    word mine = a.start[lane]; /* of the first eight threads */

    for (int64_t group = 0; group < stretches; group += STRETCHES) {
        const int64_t stretch = group + threadIdx.x / LANES;
        word sum = 0;
        for (int s = 0; stretch < stretches && s < STRIPES; s++)
            sum += of_stripe(data + stretch * STRETCH_BYTES + s * STRIPE_BYTES, lane,
                             secret_at(a, seed, 8 * (s + lane)));
        sums[threadIdx.x] = sum;
        __syncthreads();
        for (int i = 0; threadIdx.x < LANES && i < STRETCHES && group + i < stretches; i++) {
            mine += sums[i * LANES + lane];
            mine = (mine ^ mine >> 47 ^ secret_at(a, seed, SECRET_MIX + 8 * lane)) * PRIME32_1;
        }
        __syncthreads();
    }
    if (threadIdx.x < LANES) {
        const unsigned char *rest = data + stretches * STRETCH_BYTES;
        const int stripes = (int)((bytes - 1) % STRETCH_BYTES / STRIPE_BYTES);
        for (int s = 0; s < stripes; s++)
            mine += of_stripe(rest + s * STRIPE_BYTES, lane, secret_at(a, seed, 8 * (s + lane)));
        mine += of_stripe(data + bytes - STRIPE_BYTES, lane,
                          secret_at(a, seed, SECRET_LAST + 8 * lane));
        sums[lane] = mine;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        atomicAdd(a.total, merge(a, seed, sums, bytes));
}

/* Whole numbers: it doesn't matter which part is added first. */
static word digest_of_parts(struct trm_device *dev, const unsigned char *data, int64_t bytes)
{
    word total = 0, *place = static_cast<word *>(trm_cuda_workspace(dev, "digest", sizeof(word)));
    const cudaStream_t stream = trm_cuda_of(dev)->stream;
    const arguments a = {
        data,
        bytes,
        place,
        {0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
         0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
         0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
         0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
         0xc3ebd33483acc5ea, 0xeb6313faffa081c5, 0x49daf0b751dd0d17, 0x9e68d429265516d3,
         0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af},
        {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1}};
    if (place == NULL ||
        !trm_cuda_check(dev, "digest", cudaMemsetAsync(place, 0, sizeof(word), stream)))
        return 0;
    TRM_LAUNCH(add_digest, dim3((unsigned)trm_parts(bytes, TRM_DIGEST_BYTES)), dim3(THREADS),
               THREADS * sizeof(word), stream, a);
    trm_cuda_launched(dev, "digest");
    trm_device_download(dev, &total, place, sizeof(total));
    return trm_device_sync(dev, NULL) == TRM_OK ? total : 0;
}

extern "C" uint64_t trm_cuda_digest(struct trm_device *dev, struct trm_tensor t)
{
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    if (!trm_cuda_takes(dev, "digest", t.type, {t}))
        return 0;
    const unsigned char *data = static_cast<const unsigned char *>(t.data);
    const int64_t bytes = trm_tensor_elements(t) * (int64_t)trm_type_bytes(t.type);
    const int64_t last = bytes % TRM_DIGEST_BYTES, rest = last < LEAST_BYTES ? last : 0;
    uint64_t digest = bytes > rest ? digest_of_parts(dev, data, bytes - rest) : 0;
    if (rest > 0)
        digest += trm_cuda_host_hash(dev, data + bytes - rest, (size_t)rest,
                                     (uint64_t)(bytes / TRM_DIGEST_BYTES));
    return digest;
}
