/* Matrix products and what goes with them in a linear layer. */
#include "trainer/ops/reference/internal.h"

void trm_ref_matmul(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                    struct trm_tensor b, bool accumulate)
{
    TRM_ASSERT(a.dims == 2 && b.dims == 2 && a.shape[1] == b.shape[0]);
    TRM_ASSERT(trm_ref_is2(c, a.shape[0], b.shape[1]));
    if (!TRM_REF_TAKES(dev, "matmul", c, a, b))
        return;
    for (int64_t m = 0; m < c.shape[0]; m++)
        for (int64_t n = 0; n < c.shape[1]; n++) {
            double sum = 0.0;
            for (int64_t k = 0; k < a.shape[1]; k++)
                sum += trm_ref_get2(a, m, k) * trm_ref_get2(b, k, n);
            if (accumulate)
                sum += trm_ref_get2(c, m, n);
            trm_ref_set2(c, m, n, sum);
        }
}

void trm_ref_linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                            struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                            enum trm_activation activation)
{
    TRM_ASSERT(x.dims == 2 && w.dims == 2 && x.shape[1] == w.shape[1]);
    const int64_t rows = x.shape[0], columns = x.shape[1], features = w.shape[0];
    TRM_ASSERT(trm_ref_is2(y, rows, features));
    TRM_ASSERT(pre.data == NULL || trm_ref_is2(pre, rows, features));
    TRM_ASSERT(bias.data == NULL || trm_ref_is1(bias, features));
    if (!TRM_REF_TAKES(dev, "linear_forward", y, pre, x, w, bias))
        return;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t f = 0; f < features; f++) {
            double sum = bias.data != NULL ? trm_ref_get1(bias, f) : 0.0;
            for (int64_t c = 0; c < columns; c++)
                sum += trm_ref_get2(x, n, c) * trm_ref_get2(w, f, c);
            if (activation != TRM_ACT_NONE) {
                /* From the stored argument, so that activation_forward gives the same bits. */
                if (pre.data != NULL)
                    trm_ref_set2(pre, n, f, sum);
                sum = trm_ref_activate(activation, trm_ref_round(y.type, sum));
            }
            trm_ref_set2(y, n, f, sum);
        }
}

void trm_ref_linear_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dw,
                             struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                             struct trm_tensor w, struct trm_tensor pre,
                             enum trm_activation activation, bool accumulate)
{
    if (dx.data != NULL)
        trm_ref_matmul(dev, dx, dy, w, false);
    if (dx.data != NULL && activation != TRM_ACT_NONE)
        trm_ref_activation_backward(dev, dx, dx, pre, activation);
    trm_ref_matmul(dev, dw, trm_tensor_transpose(dy), x, accumulate);
    if (dbias.data == NULL)
        return;
    if (!accumulate)
        trm_ref_zero(dev, dbias);
    trm_ref_bias_backward(dev, dbias, dy);
}

void trm_ref_bias_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                          struct trm_tensor bias)
{
    TRM_ASSERT(x.dims == 2 && trm_ref_is2(y, x.shape[0], x.shape[1]));
    TRM_ASSERT(trm_ref_is1(bias, x.shape[1]));
    if (!TRM_REF_TAKES(dev, "bias_forward", y, x, bias))
        return;
    for (int64_t n = 0; n < x.shape[0]; n++)
        for (int64_t f = 0; f < x.shape[1]; f++)
            trm_ref_set2(y, n, f, trm_ref_get2(x, n, f) + trm_ref_get1(bias, f));
}

void trm_ref_bias_backward(struct trm_device *dev, struct trm_tensor dbias, struct trm_tensor dy)
{
    TRM_ASSERT(dy.dims == 2 && trm_ref_is1(dbias, dy.shape[1]));
    if (!TRM_REF_TAKES(dev, "bias_backward", dbias, dy))
        return;
    for (int64_t f = 0; f < dy.shape[1]; f++) {
        double sum = 0.0;
        for (int64_t n = 0; n < dy.shape[0]; n++)
            sum += trm_ref_get2(dy, n, f);
        trm_ref_add1(dbias, f, sum);
    }
}
