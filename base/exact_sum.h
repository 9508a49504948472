/*
 * Sums of doubles without rounding, so that no order, thread or rank changes a bit.
 *
 * A fixed-point superaccumulator: 2,176 bits as 68 signed limbs of 32 bits, each kept in 64 bits
 * (Kulisch; "Numerical reproducibility and parallel computations", Collange et al. 2015). Adding a
 * double touches three limbs. Limbs of several ranks may be added as plain integers once each side
 * was normalized: 2^30 ranks fit. NaN and infinities are counted apart and decide the result.
 * 576 bytes; no allocation.
 */
#ifndef TRM_BASE_EXACT_SUM_H
#define TRM_BASE_EXACT_SUM_H

#include <stdint.h>

#define TRM_EXACT_SUM_LIMBS 68
#define TRM_EXACT_SUM_WORDS (TRM_EXACT_SUM_LIMBS + 3)

/* All fields are int64_t, so that the whole struct all-reduces as TRM_EXACT_SUM_WORDS integers. */
struct trm_exact_sum {
    int64_t limb[TRM_EXACT_SUM_LIMBS];
    int64_t nan_count, positive_infinity_count, negative_infinity_count;
    int64_t pending; /* additions since the last normalization; not reduced */
};

void trm_exact_sum_init(struct trm_exact_sum *sum);
void trm_exact_sum_add(struct trm_exact_sum *sum, double value);

/* Adds `other` limb by limb. */
void trm_exact_sum_merge(struct trm_exact_sum *sum, const struct trm_exact_sum *other);

/* Carries between limbs: required before the words are reduced over ranks. */
void trm_exact_sum_normalize(struct trm_exact_sum *sum);

/* The sum, rounded once to nearest even. NaN or infinity if any was added. */
double trm_exact_sum_value(const struct trm_exact_sum *sum);

#endif
