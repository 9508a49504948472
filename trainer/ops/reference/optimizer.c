/* AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) and the sums
 * that the gradient norm is made of. */
#include "trainer/ops/reference/internal.h"

#include "base/hash.h"

void trm_ref_sum_of_squares(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    if (!TRM_REF_TAKES(dev, "sum_of_squares", t))
        return;
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t first = 0; first < elements; first += TRM_NORM_BLOCK) {
        double squares = 0.0;
        for (int64_t i = first; i < elements && i < first + TRM_NORM_BLOCK; i++) {
            const double value = trm_ref_load(t, trm_ref_offset(t, i));
            squares += value * value;
        }
        trm_exact_sum_add(sum, squares);
    }
}

void trm_ref_sum(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    if (!TRM_REF_TAKES(dev, "sum", t))
        return;
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t i = 0; i < elements; i++)
        trm_exact_sum_add(sum, trm_ref_load(t, trm_ref_offset(t, i)));
}

uint64_t trm_ref_digest(struct trm_device *dev, struct trm_tensor t)
{
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    if (!TRM_REF_TAKES(dev, "digest", t))
        return 0;
    const size_t bytes = (size_t)trm_tensor_elements(t) * trm_type_bytes(t.type);
    uint64_t sum = 0, part = 0;
    for (size_t start = 0; start < bytes; start += TRM_DIGEST_BYTES, part++) {
        const size_t rest = bytes - start;
        sum += trm_hash64_seeded((const char *)t.data + start,
                                 rest < TRM_DIGEST_BYTES ? rest : TRM_DIGEST_BYTES, part);
    }
    return sum;
}

void trm_ref_adamw(struct trm_device *dev, struct trm_tensor parameter, struct trm_tensor exp_avg,
                   struct trm_tensor exp_avg_sq, struct trm_tensor gradient,
                   const struct trm_adamw *settings)
{
    TRM_ASSERT(parameter.dims == 1);
    const int64_t elements = parameter.shape[0];
    TRM_ASSERT(trm_ref_is1(exp_avg, elements) && trm_ref_is1(exp_avg_sq, elements));
    TRM_ASSERT(trm_ref_is1(gradient, elements));
    if (!TRM_REF_TAKES(dev, "adamw", parameter, exp_avg, exp_avg_sq, gradient))
        return;
    const double beta1 = settings->beta1, beta2 = settings->beta2;
    for (int64_t i = 0; i < elements; i++) {
        const double g = trm_ref_get1(gradient, i) * settings->gradient_scale;
        const double m = beta1 * trm_ref_get1(exp_avg, i) + (1.0 - beta1) * g;
        const double v = beta2 * trm_ref_get1(exp_avg_sq, i) + (1.0 - beta2) * g * g;
        const double direction = (m / settings->bias_correction1) /
                                 (sqrt(v / settings->bias_correction2) + settings->epsilon);
        const double p = trm_ref_get1(parameter, i);
        trm_ref_set1(exp_avg, i, m);
        trm_ref_set1(exp_avg_sq, i, v);
        trm_ref_set1(parameter, i,
                     p - settings->learning_rate * (direction + settings->weight_decay * p));
    }
}
