/* GELU in its tanh form: Hendrycks and Gimpel, "Gaussian error linear units", 2016, as GPT-2 has
 * it. */
#include "trainer/ops/reference/internal.h"

#define SQRT_2_OVER_PI 0.79788456080286535588
#define GELU_CUBIC     0.044715

double trm_ref_activate(enum trm_activation activation, double x)
{
    if (activation == TRM_ACT_NONE)
        return x;
    const double t = tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
    return 0.5 * x * (1.0 + t);
}

double trm_ref_activate_slope(enum trm_activation activation, double x)
{
    if (activation == TRM_ACT_NONE)
        return 1.0;
    const double t = tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
    const double inner_slope = SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * x * x);
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope;
}

void trm_ref_activation_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                                enum trm_activation activation)
{
    const int64_t elements = trm_tensor_elements(y);
    TRM_ASSERT(trm_tensor_elements(pre) == elements);
    if (!TRM_REF_TAKES(dev, "activation_forward", y, pre))
        return;
    for (int64_t i = 0; i < elements; i++) {
        const double x = trm_ref_load(pre, trm_ref_offset(pre, i));
        trm_ref_store(y, trm_ref_offset(y, i), trm_ref_activate(activation, x));
    }
}

void trm_ref_activation_backward(struct trm_device *dev, struct trm_tensor dpre,
                                 struct trm_tensor dy, struct trm_tensor pre,
                                 enum trm_activation activation)
{
    const int64_t elements = trm_tensor_elements(dpre);
    TRM_ASSERT(trm_tensor_elements(dy) == elements && trm_tensor_elements(pre) == elements);
    if (!TRM_REF_TAKES(dev, "activation_backward", dpre, dy, pre))
        return;
    for (int64_t i = 0; i < elements; i++) {
        const double x = trm_ref_load(pre, trm_ref_offset(pre, i));
        const double upstream = trm_ref_load(dy, trm_ref_offset(dy, i));
        trm_ref_store(dpre, trm_ref_offset(dpre, i),
                      upstream * trm_ref_activate_slope(activation, x));
    }
}
