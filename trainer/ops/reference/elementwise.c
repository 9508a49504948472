/* Zero, copy and sum of tensors of one shape, whatever their strides. */
#include "trainer/ops/reference/internal.h"

static bool same_shape(struct trm_tensor a, struct trm_tensor b)
{
    bool same = a.dims == b.dims;
    for (int d = 0; same && d < a.dims; d++)
        same = a.shape[d] == b.shape[d];
    return same;
}

void trm_ref_zero(struct trm_device *dev, struct trm_tensor t)
{
    if (!TRM_REF_TAKES(dev, "zero", t))
        return;
    const int64_t elements = trm_tensor_elements(t);
    for (int64_t i = 0; i < elements; i++)
        trm_ref_store(t, trm_ref_offset(t, i), 0.0);
}

void trm_ref_copy(struct trm_device *dev, struct trm_tensor to, struct trm_tensor from)
{
    TRM_ASSERT(same_shape(to, from));
    if (!TRM_REF_TAKES(dev, "copy", to, from))
        return;
    const int64_t elements = trm_tensor_elements(to);
    for (int64_t i = 0; i < elements; i++)
        trm_ref_store(to, trm_ref_offset(to, i), trm_ref_load(from, trm_ref_offset(from, i)));
}

void trm_ref_add(struct trm_device *dev, struct trm_tensor out, struct trm_tensor a,
                 struct trm_tensor b)
{
    TRM_ASSERT(same_shape(out, a) && same_shape(out, b));
    if (!TRM_REF_TAKES(dev, "add", out, a, b))
        return;
    const int64_t elements = trm_tensor_elements(out);
    for (int64_t i = 0; i < elements; i++)
        trm_ref_store(out, trm_ref_offset(out, i),
                      trm_ref_load(a, trm_ref_offset(a, i)) +
                          trm_ref_load(b, trm_ref_offset(b, i)));
}
