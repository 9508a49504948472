#include "trainer/ops/reference/internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "trainer/ops/reference/reference.h"

static const struct trm_ops table = {
    .name = "reference",
    .workspace_bytes = trm_ref_workspace_bytes,
    .zero = trm_ref_zero,
    .copy = trm_ref_copy,
    .add = trm_ref_add,
    .matmul = trm_ref_matmul,
    .linear_forward = trm_ref_linear_forward,
    .linear_backward = trm_ref_linear_backward,
    .bias_forward = trm_ref_bias_forward,
    .bias_backward = trm_ref_bias_backward,
    .activation_forward = trm_ref_activation_forward,
    .activation_backward = trm_ref_activation_backward,
    .norm_forward = trm_ref_norm_forward,
    .residual_norm_forward = trm_ref_residual_norm_forward,
    .norm_backward = trm_ref_norm_backward,
    .attention_forward = trm_ref_attention_forward,
    .attention_backward = trm_ref_attention_backward,
    .embedding_forward = trm_ref_embedding_forward,
    .embedding_backward = trm_ref_embedding_backward,
    .position_forward = trm_ref_position_forward,
    .position_backward = trm_ref_position_backward,
    .cross_entropy = trm_ref_cross_entropy,
    .cross_entropy_maximum = trm_ref_cross_entropy_maximum,
    .cross_entropy_sums = trm_ref_cross_entropy_sums,
    .cross_entropy_gradient = trm_ref_cross_entropy_gradient,
    .sum_of_squares = trm_ref_sum_of_squares,
    .sum = trm_ref_sum,
    .digest = trm_ref_digest,
    .adamw = trm_ref_adamw,
};

void trm_device_reference(struct trm_device *dev)
{
    *dev = (struct trm_device){.ops = &table};
}

void trm_ref_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
{
    if (dev->error.status != TRM_OK)
        return;
    char text[TRM_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    trm_error_set(&dev->error, status, "%s", text);
}

bool trm_ref_takes(struct trm_device *dev, const char *op, const struct trm_tensor *tensors,
                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].data == NULL || tensors[i].type == TRM_F32 || tensors[i].type == TRM_F64)
            continue;
        trm_ref_fail(dev, TRM_ERR_UNSUPPORTED,
                     "%s on the reference device takes float32 and float64, not %s", op,
                     trm_type_name(tensors[i].type));
        return false;
    }
    return true;
}
