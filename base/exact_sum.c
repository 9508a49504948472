/*
 * Bit 0 of limb 0 is worth 2^-1074, the smallest denormal, so every finite double is an integer
 * multiple of it: 2,098 bits, and 78 bits of headroom in the last limbs.
 *
 * Bound: with `pending` additions since a normalization, |limb| < (pending + 1) * 2^32. It is kept
 * under 2^62.
 */
#include "base/exact_sum.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/assert.h"

#define LIMB_BITS     32
#define LIMB_MASK     INT64_C(0xFFFFFFFF)
#define MANTISSA_BITS 52
#define EXPONENT_MASK 0x7FF
#define PENDING_LIMIT (INT64_C(1) << 30)

_Static_assert(sizeof(struct trm_exact_sum) == 576, "reduced over ranks as plain words");
_Static_assert(offsetof(struct trm_exact_sum, pending) == TRM_EXACT_SUM_WORDS * sizeof(int64_t),
               "everything but `pending` is reduced");

void trm_exact_sum_init(struct trm_exact_sum *sum)
{
    memset(sum, 0, sizeof *sum);
}

static void count_special(struct trm_exact_sum *sum, double value)
{
    if (isnan(value))
        sum->nan_count++;
    else if (value > 0)
        sum->positive_infinity_count++;
    else
        sum->negative_infinity_count++;
}

void trm_exact_sum_add(struct trm_exact_sum *sum, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    unsigned exponent = (unsigned)(bits >> MANTISSA_BITS) & EXPONENT_MASK;
    if (__builtin_expect(exponent == EXPONENT_MASK, 0)) {
        count_special(sum, value);
        return;
    }
    uint64_t is_normal = exponent != 0;
    uint64_t mantissa =
        (bits & ((UINT64_C(1) << MANTISSA_BITS) - 1)) | (is_normal << MANTISSA_BITS);
    unsigned position = exponent - (unsigned)is_normal;
    unsigned shift = position % LIMB_BITS;
    int64_t *limb = sum->limb + position / LIMB_BITS;

    /* (x ^ sign) - sign is -x for a negative value: no branch on data. */
    int64_t sign = -(int64_t)(bits >> 63);
    uint64_t low = mantissa << shift;
    uint64_t high = (mantissa >> 1) >> (63 - shift);
    limb[0] += ((int64_t)(low & LIMB_MASK) ^ sign) - sign;
    limb[1] += ((int64_t)(low >> LIMB_BITS) ^ sign) - sign;
    limb[2] += ((int64_t)high ^ sign) - sign;
    if (__builtin_expect(++sum->pending >= PENDING_LIMIT, 0))
        trm_exact_sum_normalize(sum);
}

void trm_exact_sum_normalize(struct trm_exact_sum *sum)
{
    int64_t carry = 0;
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS - 1; i++) {
        int64_t total = sum->limb[i] + carry;
        sum->limb[i] = total & LIMB_MASK;
        carry = total >> LIMB_BITS;
    }
    sum->limb[TRM_EXACT_SUM_LIMBS - 1] += carry;
    sum->pending = 0;
}

void trm_exact_sum_merge(struct trm_exact_sum *sum, const struct trm_exact_sum *other)
{
    struct trm_exact_sum normalized;
    if (sum->pending + other->pending + 1 >= PENDING_LIMIT) {
        normalized = *other;
        trm_exact_sum_normalize(&normalized);
        other = &normalized;
        trm_exact_sum_normalize(sum);
    }
    /* The other's remainder below 2^32 weighs like one addition more. */
    int64_t pending = sum->pending + other->pending + 1;
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
        sum->limb[i] += other->limb[i];
    sum->nan_count += other->nan_count;
    sum->positive_infinity_count += other->positive_infinity_count;
    sum->negative_infinity_count += other->negative_infinity_count;
    sum->pending = pending;
}

static uint64_t bit_at(const struct trm_exact_sum *sum, int position)
{
    return (uint64_t)(sum->limb[position / LIMB_BITS] >> (position % LIMB_BITS)) & 1;
}

/* The 64 bits from `position` on; those above the last limb are 0. */
static uint64_t bits_from(const struct trm_exact_sum *sum, int position)
{
    unsigned __int128 window = 0;
    int first = position / LIMB_BITS;
    for (int i = 0; i < 3 && first + i < TRM_EXACT_SUM_LIMBS; i++)
        window |= (unsigned __int128)(uint64_t)sum->limb[first + i] << (i * LIMB_BITS);
    return (uint64_t)(window >> (position % LIMB_BITS));
}

static int has_bits_below(const struct trm_exact_sum *sum, int position)
{
    for (int i = 0; i < position / LIMB_BITS; i++)
        if (sum->limb[i])
            return 1;
    int64_t mask = (INT64_C(1) << (position % LIMB_BITS)) - 1;
    return (sum->limb[position / LIMB_BITS] & mask) != 0;
}

/* The bits of a normalized, non-negative sum as a double, rounded once to nearest even. */
static uint64_t round_magnitude(const struct trm_exact_sum *sum)
{
    const uint64_t infinity = (uint64_t)EXPONENT_MASK << MANTISSA_BITS;
    int top = TRM_EXACT_SUM_LIMBS - 1;
    while (top >= 0 && sum->limb[top] == 0)
        top--;
    if (top < 0)
        return 0;
    if (sum->limb[top] > LIMB_MASK)
        return infinity;
    int highest = top * LIMB_BITS + 63 - __builtin_clzll((uint64_t)sum->limb[top]);
    if (highest <= MANTISSA_BITS)
        return bits_from(sum, 0); /* exact; the implicit bit is the exponent field's lowest */

    int lowest_kept = highest - MANTISSA_BITS;
    if (lowest_kept + 1 >= EXPONENT_MASK)
        return infinity;
    uint64_t mantissa = bits_from(sum, lowest_kept) & ((UINT64_C(1) << MANTISSA_BITS) - 1);
    uint64_t bits = ((uint64_t)(lowest_kept + 1) << MANTISSA_BITS) | mantissa;
    int is_half_or_more = (int)bit_at(sum, lowest_kept - 1);
    int is_odd = (int)(mantissa & 1);
    if (is_half_or_more && (is_odd || has_bits_below(sum, lowest_kept - 1)))
        bits++; /* a carry out of the mantissa raises the exponent, up to infinity */
    return bits;
}

double trm_exact_sum_value(const struct trm_exact_sum *sum)
{
    if (sum->nan_count || (sum->positive_infinity_count && sum->negative_infinity_count))
        return NAN;
    if (sum->positive_infinity_count)
        return INFINITY;
    if (sum->negative_infinity_count)
        return -INFINITY;

    struct trm_exact_sum magnitude = *sum;
    trm_exact_sum_normalize(&magnitude);
    uint64_t sign = 0;
    if (magnitude.limb[TRM_EXACT_SUM_LIMBS - 1] < 0) {
        sign = UINT64_C(1) << 63;
        for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
            magnitude.limb[i] = -magnitude.limb[i];
        trm_exact_sum_normalize(&magnitude);
    }
    TRM_ASSERT(magnitude.limb[TRM_EXACT_SUM_LIMBS - 1] >= 0);
    uint64_t bits = round_magnitude(&magnitude) | sign;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
