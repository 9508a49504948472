/* Cross-entropy over a vocabulary that may be split over ranks: cross_entropy.h. */
#include "trainer/ops/reference/internal.h"

/* The target's column here; -1 when another rank holds it. */
static int64_t target_column(struct trm_tensor targets, int64_t n, int64_t first_row, int64_t valid)
{
    const int64_t column = trm_ref_token(targets, n) - first_row;
    return column >= 0 && column < valid ? column : -1;
}

static double row_maximum(struct trm_tensor logits, int64_t n, int64_t valid)
{
    double largest = -INFINITY;
    for (int64_t v = 0; v < valid; v++) {
        const double logit = trm_ref_get2(logits, n, v);
        /* A NaN must not be passed over. */
        if (logit > largest || isnan(logit))
            largest = logit;
    }
    return largest;
}

static double row_exponentials(struct trm_tensor logits, int64_t n, int64_t valid, double largest)
{
    double sum = 0.0;
    for (int64_t v = 0; v < valid; v++)
        sum += exp(trm_ref_get2(logits, n, v) - largest);
    return sum;
}

/* Logits become softmax - onehot; 0 in padding. */
static void row_gradient(struct trm_tensor logits, int64_t n, int64_t valid, double largest,
                         double sum, int64_t target)
{
    for (int64_t v = 0; v < valid; v++) {
        const double softmax = exp(trm_ref_get2(logits, n, v) - largest) / sum;
        trm_ref_set2(logits, n, v, softmax - (v == target ? 1.0 : 0.0));
    }
    for (int64_t v = valid; v < logits.shape[1]; v++)
        trm_ref_set2(logits, n, v, 0.0);
}

void trm_ref_cross_entropy(struct trm_device *dev, struct trm_tensor loss, struct trm_tensor logits,
                           struct trm_tensor targets, int64_t valid, bool want_gradient)
{
    TRM_ASSERT(logits.dims == 2 && valid >= 0 && valid <= logits.shape[1]);
    const int64_t rows = logits.shape[0];
    TRM_ASSERT(trm_ref_is1(loss, rows) && targets.type == TRM_I32 && trm_ref_is1(targets, rows));
    if (!TRM_REF_TAKES(dev, "cross_entropy", loss, logits))
        return;
    for (int64_t n = 0; n < rows; n++) {
        const double largest = row_maximum(logits, n, valid);
        const double sum = row_exponentials(logits, n, valid, largest);
        const int64_t target = target_column(targets, n, 0, valid);
        const double logit = target < 0 ? largest : trm_ref_get2(logits, n, target);
        trm_ref_set1(loss, n, log(sum) - (logit - largest));
        if (want_gradient)
            row_gradient(logits, n, valid, largest, sum, target);
    }
}

void trm_ref_cross_entropy_maximum(struct trm_device *dev, struct trm_tensor maximum,
                                   struct trm_tensor logits, int64_t valid)
{
    TRM_ASSERT(logits.dims == 2 && trm_ref_is1(maximum, logits.shape[0]));
    TRM_ASSERT(valid >= 0 && valid <= logits.shape[1]);
    if (!TRM_REF_TAKES(dev, "cross_entropy_maximum", maximum, logits))
        return;
    for (int64_t n = 0; n < logits.shape[0]; n++)
        trm_ref_set1(maximum, n, row_maximum(logits, n, valid));
}

void trm_ref_cross_entropy_sums(struct trm_device *dev, struct trm_tensor sums,
                                struct trm_tensor logits, struct trm_tensor maximum,
                                struct trm_tensor targets, int64_t first_row, int64_t valid)
{
    TRM_ASSERT(logits.dims == 2 && valid >= 0 && valid <= logits.shape[1]);
    const int64_t rows = logits.shape[0];
    TRM_ASSERT(trm_ref_is2(sums, 2, rows) && trm_ref_is1(maximum, rows));
    TRM_ASSERT(targets.type == TRM_I32 && trm_ref_is1(targets, rows));
    if (!TRM_REF_TAKES(dev, "cross_entropy_sums", sums, logits, maximum))
        return;
    for (int64_t n = 0; n < rows; n++) {
        const double largest = trm_ref_get1(maximum, n);
        const int64_t target = target_column(targets, n, first_row, valid);
        trm_ref_set2(sums, 0, n, row_exponentials(logits, n, valid, largest));
        trm_ref_set2(sums, 1, n, target < 0 ? 0.0 : trm_ref_get2(logits, n, target) - largest);
    }
}

void trm_ref_cross_entropy_gradient(struct trm_device *dev, struct trm_tensor loss,
                                    struct trm_tensor logits, struct trm_tensor maximum,
                                    struct trm_tensor sums, struct trm_tensor targets,
                                    int64_t first_row, int64_t valid, bool want_gradient)
{
    TRM_ASSERT(logits.dims == 2 && valid >= 0 && valid <= logits.shape[1]);
    const int64_t rows = logits.shape[0];
    TRM_ASSERT(trm_ref_is1(loss, rows) && trm_ref_is2(sums, 2, rows));
    TRM_ASSERT(trm_ref_is1(maximum, rows));
    TRM_ASSERT(targets.type == TRM_I32 && trm_ref_is1(targets, rows));
    if (!TRM_REF_TAKES(dev, "cross_entropy_gradient", loss, logits, maximum, sums))
        return;
    for (int64_t n = 0; n < rows; n++) {
        const double sum = trm_ref_get2(sums, 0, n), largest = trm_ref_get1(maximum, n);
        trm_ref_set1(loss, n, log(sum) - trm_ref_get2(sums, 1, n));
        if (want_gradient)
            row_gradient(logits, n, valid, largest, sum,
                         target_column(targets, n, first_row, valid));
    }
}
