#include "base/random.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

#define PHILOX_ROUNDS       10
#define PHILOX_MULTIPLIER_0 0xD2511F53U
#define PHILOX_MULTIPLIER_1 0xCD9E8D57U
#define PHILOX_WEYL_0       0x9E3779B9U
#define PHILOX_WEYL_1       0xBB67AE85U

/* The high counter word that keeps the making of keys apart from all other draws. */
#define KEY_DOMAIN UINT64_C(0x7472695F6B657973)

#define FEISTEL_ROUNDS 8
#define GOLDEN_RATIO   UINT64_C(0x9E3779B97F4A7C15)

static inline void philox(uint64_t key, uint64_t low, uint64_t high, uint32_t out[4])
{
    uint32_t key_0 = (uint32_t)key, key_1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t product_0 = (uint64_t)PHILOX_MULTIPLIER_0 * c0;
        uint64_t product_1 = (uint64_t)PHILOX_MULTIPLIER_1 * c2;
        c0 = (uint32_t)(product_1 >> 32) ^ c1 ^ key_0;
        c1 = (uint32_t)product_1;
        c2 = (uint32_t)(product_0 >> 32) ^ c3 ^ key_1;
        c3 = (uint32_t)product_0;
        key_0 += PHILOX_WEYL_0;
        key_1 += PHILOX_WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static inline uint64_t bits64(uint64_t key, uint64_t low, uint64_t high)
{
    uint32_t out[4];
    philox(key, low, high, out);
    return (uint64_t)out[1] << 32 | out[0];
}

void trm_random_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4])
{
    philox(key, counter_low, counter_high, out);
}

uint64_t trm_random_bits(uint64_t key, uint64_t counter)
{
    return bits64(key, counter, 0);
}

uint64_t trm_random_key(uint64_t seed, const char *purpose, uint64_t a, uint64_t b)
{
    uint64_t for_purpose = bits64(seed, trm_hash64(purpose, strlen(purpose)), KEY_DOMAIN);
    uint64_t for_a = bits64(for_purpose, a, KEY_DOMAIN);
    return bits64(for_a, b, KEY_DOMAIN);
}

/* The 52 high bits and a half: every value, and 1 minus it, is exact in a double. */
static inline double uniform(uint64_t key, uint64_t counter)
{
    return ((double)(bits64(key, counter, 0) >> 12) + 0.5) * 0x1p-52;
}

double trm_random_uniform(uint64_t key, uint64_t counter)
{
    return uniform(key, counter);
}

/* -ln(x) for x in (0, 1), normal: x = 2^k m with m in [sqrt(1/2), sqrt(2)), and
 * ln m = 2 atanh(s), s = (m - 1) / (m + 1), by its series; s^2 < 0.0295, so the first term left
 * out is below 2^-56 of the sum. */
static inline double minus_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint64_t sqrt_half_bits = UINT64_C(0x3FE6A09E667F3BCD);
    int64_t k = (int64_t)(bits - sqrt_half_bits) >> 52;
    bits -= (uint64_t)k << 52;
    double m;
    memcpy(&m, &bits, sizeof m);

    double s = (m - 1.0) / (m + 1.0);
    double z = s * s, z2 = z * z, z4 = z2 * z2;
    double low = (1.0 / 3 + z * (1.0 / 5)) + z2 * (1.0 / 7 + z * (1.0 / 9));
    double middle = (1.0 / 11 + z * (1.0 / 13)) + z2 * (1.0 / 15 + z * (1.0 / 17));
    double series = low + z4 * (middle + z4 * (1.0 / 19 + z * (1.0 / 21)));
    return -((double)k * 0x1.62e42fefa39efp-1 + 2.0 * (s + s * z * series));
}

static inline double polynomial7(const double c[8], double x)
{
    double x2 = x * x, x4 = x2 * x2;
    double low = (c[0] + c[1] * x) + (c[2] + c[3] * x) * x2;
    double high = (c[4] + c[5] * x) + (c[6] + c[7] * x) * x2;
    return low + high * x4;
}

/* Wichura's AS 241, PPND16: numerators and denominators for |u - 1/2| <= 0.425, for the tail down
 * to exp(-25), and for the far tail. Relative error about 1e-16. */
static const double centre_numerator[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                           1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                           4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                           3.3430575583588128105e+4, 2.5090809287301226727e+3};
static const double centre_denominator[8] = {1.0,
                                             4.2313330701600911252e+1,
                                             6.8718700749205790830e+2,
                                             5.3941960214247511077e+3,
                                             2.1213794301586595867e+4,
                                             3.9307895800092710610e+4,
                                             2.8729085735721942674e+4,
                                             5.2264952788528545610e+3};
static const double tail_numerator[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                         5.76949722146069140550e0,  3.64784832476320460504e0,
                                         1.27045825245236838258e0,  2.41780725177450611770e-1,
                                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
static const double tail_denominator[8] = {1.0,
                                           2.05319162663775882187e0,
                                           1.67638483018380384940e0,
                                           6.89767334985100004550e-1,
                                           1.48103976427480074590e-1,
                                           1.51986665636164571966e-2,
                                           5.47593808499534494600e-4,
                                           1.05075007164441684324e-9};
static const double far_numerator[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                        1.78482653991729133580e0,  2.96560571828504891230e-1,
                                        2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                        2.71155556874348757815e-5, 2.01033439929228813265e-7};
static const double far_denominator[8] = {1.0,
                                          5.99832206555887937690e-1,
                                          1.36929880922735805310e-1,
                                          1.48753612908506148525e-2,
                                          7.86869131145613259100e-4,
                                          1.84631831751005468180e-5,
                                          1.42151175831644588870e-7,
                                          2.04426310338993978564e-15};

static inline double normal_quantile(double u)
{
    double q = u - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * polynomial7(centre_numerator, r) / polynomial7(centre_denominator, r);
    }
    double r = sqrt(minus_log(q < 0 ? u : 1.0 - u));
    double magnitude =
        r <= 5.0 ? polynomial7(tail_numerator, r - 1.6) / polynomial7(tail_denominator, r - 1.6)
                 : polynomial7(far_numerator, r - 5.0) / polynomial7(far_denominator, r - 5.0);
    return q < 0 ? -magnitude : magnitude;
}

double trm_random_normal_quantile(double u)
{
    TRM_ASSERT(u > 0 && u < 1);
    return normal_quantile(u);
}

double trm_random_normal(uint64_t key, uint64_t counter)
{
    return normal_quantile(uniform(key, counter));
}

/* The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection that mixes well. */
static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t trm_random_permute(uint64_t key, uint64_t size, uint64_t index)
{
    TRM_ASSERT(index < size);
    if (size == 1)
        return 0;
    int bits = 64 - __builtin_clzll(size - 1);
    int half_bits = (bits + 1) / 2;
    uint64_t half_mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t round_keys[FEISTEL_ROUNDS];
    for (int round = 0; round < FEISTEL_ROUNDS; round++)
        round_keys[round] = mix64(key + (uint64_t)(round + 1) * GOLDEN_RATIO);

    /* The network permutes [0, 4^half_bits), less than 4 times `size`; walking its cycle from a
     * point inside [0, size) comes back inside, after fewer than 4 steps on average. */
    do {
        uint64_t left = index >> half_bits, right = index & half_mask;
        for (int round = 0; round < FEISTEL_ROUNDS; round++) {
            uint64_t mixed = left ^ (mix64(right ^ round_keys[round]) & half_mask);
            left = right;
            right = mixed;
        }
        index = left << half_bits | right;
    } while (index >= size);
    return index;
}
