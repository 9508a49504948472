/* Layer normalization: Ba, Kiros and Hinton, "Layer normalization", 2016. */
#include "trainer/ops/reference/internal.h"

static bool is_layer_norm(struct trm_device *dev, enum trm_norm kind)
{
    if (kind == TRM_NORM_LAYER)
        return true;
    trm_ref_fail(dev, TRM_ERR_UNSUPPORTED, "the reference device has no norm of kind %d",
                 (int)kind);
    return false;
}

void trm_ref_norm_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor mean,
                          struct trm_tensor rstd, struct trm_tensor x, struct trm_tensor weight,
                          struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    TRM_ASSERT(x.dims == 2);
    const int64_t rows = x.shape[0], columns = x.shape[1];
    TRM_ASSERT(trm_ref_is2(y, rows, columns));
    TRM_ASSERT(trm_ref_is1(mean, rows) && trm_ref_is1(rstd, rows));
    TRM_ASSERT(trm_ref_is1(weight, columns) && trm_ref_is1(bias, columns));
    if (!is_layer_norm(dev, kind) ||
        !TRM_REF_TAKES(dev, "norm_forward", y, mean, rstd, x, weight, bias))
        return;
    for (int64_t n = 0; n < rows; n++) {
        double sum = 0.0, squares = 0.0;
        for (int64_t c = 0; c < columns; c++)
            sum += trm_ref_get2(x, n, c);
        const double m = sum / (double)columns;
        for (int64_t c = 0; c < columns; c++) {
            const double d = trm_ref_get2(x, n, c) - m;
            squares += d * d;
        }
        const double r = 1.0 / sqrt(squares / (double)columns + (double)epsilon);
        for (int64_t c = 0; c < columns; c++)
            trm_ref_set2(y, n, c,
                         (trm_ref_get2(x, n, c) - m) * r * trm_ref_get1(weight, c) +
                             trm_ref_get1(bias, c));
        trm_ref_set1(mean, n, m);
        trm_ref_set1(rstd, n, r);
    }
}

void trm_ref_residual_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                   struct trm_tensor total, struct trm_tensor mean,
                                   struct trm_tensor rstd, struct trm_tensor x,
                                   struct trm_tensor branch, struct trm_tensor weight,
                                   struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    trm_ref_add(dev, total, x, branch);
    trm_ref_norm_forward(dev, y, mean, rstd, total, weight, bias, kind, epsilon);
}

/* dx += rstd (g - mean(g) - xhat mean(g xhat)), where g = dy weight and xhat = (x - mean) rstd. */
static void input_gradient(struct trm_tensor dx, struct trm_tensor dy, struct trm_tensor x,
                           struct trm_tensor mean, struct trm_tensor rstd, struct trm_tensor weight)
{
    const int64_t columns = x.shape[1];
    for (int64_t n = 0; n < x.shape[0]; n++) {
        const double m = trm_ref_get1(mean, n), r = trm_ref_get1(rstd, n);
        double g_sum = 0.0, g_xhat_sum = 0.0;
        for (int64_t c = 0; c < columns; c++) {
            const double g = trm_ref_get2(dy, n, c) * trm_ref_get1(weight, c);
            g_sum += g;
            g_xhat_sum += g * (trm_ref_get2(x, n, c) - m) * r;
        }
        for (int64_t c = 0; c < columns; c++) {
            const double g = trm_ref_get2(dy, n, c) * trm_ref_get1(weight, c);
            const double xhat = (trm_ref_get2(x, n, c) - m) * r;
            trm_ref_add2(dx, n, c,
                         r * (g - g_sum / (double)columns - xhat * g_xhat_sum / (double)columns));
        }
    }
}

void trm_ref_norm_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dweight,
                           struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                           struct trm_tensor mean, struct trm_tensor rstd, struct trm_tensor weight,
                           enum trm_norm kind)
{
    TRM_ASSERT(x.dims == 2);
    const int64_t rows = x.shape[0], columns = x.shape[1];
    TRM_ASSERT(trm_ref_is2(dx, rows, columns) && trm_ref_is2(dy, rows, columns));
    TRM_ASSERT(trm_ref_is1(mean, rows) && trm_ref_is1(rstd, rows));
    TRM_ASSERT(trm_ref_is1(weight, columns) && trm_ref_is1(dweight, columns));
    if (!is_layer_norm(dev, kind) ||
        !TRM_REF_TAKES(dev, "norm_backward", dx, dweight, dbias, dy, x, mean, rstd, weight))
        return;
    for (int64_t c = 0; c < columns; c++) {
        double sum = 0.0;
        for (int64_t n = 0; n < rows; n++)
            sum += trm_ref_get2(dy, n, c) * (trm_ref_get2(x, n, c) - trm_ref_get1(mean, n)) *
                   trm_ref_get1(rstd, n);
        trm_ref_add1(dweight, c, sum);
    }
    trm_ref_bias_backward(dev, dbias, dy);
    input_gradient(dx, dy, x, mean, rstd, weight);
}
