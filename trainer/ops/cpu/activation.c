/*
 * Activations. GELU in its tanh form is x s(2u), where u = sqrt(2 / pi) (x + 0.044715 x^3) and s is
 * the logistic function: one exponential and one division, and no cancellation in the left tail.
 */
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector_math.h"

#define TWO_SQRT_2_OVER_PI 1.5957691216057308f
#define CUBIC              0.044715f

/* e^-2u, so that s(2u) = 1 / (1 + e^-2u) */
TRM_VECTOR v16 gelu_exponential(v16 x)
{
    return v16_exp(-(x * (x * x * (TWO_SQRT_2_OVER_PI * CUBIC) + TWO_SQRT_2_OVER_PI)));
}

TRM_VECTOR v16 gelu(v16 x)
{
    return x * (1.0f / (gelu_exponential(x) + 1.0f));
}

/* s + x s (1 - s) 2u', with 1 - s = e s, which doesn't cancel. Beyond +-12 s is 0 or 1 to the last
 * bit; the bounds keep infinities from meeting zeros. */
TRM_VECTOR v16 gelu_slope(v16 x)
{
    const v16 largest = v16_set(3e38f);
    v16 b = v16_bounded(x, 12.0f);
    v16 e = gelu_exponential(b);
    e = v16_select(v16_below(largest, e), largest, e);
    v16 s = 1.0f / (e + 1.0f);
    v16 du2 = b * b * (3.0f * TWO_SQRT_2_OVER_PI * CUBIC) + TWO_SQRT_2_OVER_PI;
    return s + b * s * (e * s) * du2;
}

TRM_VECTOR_CLONES
static void gelu_forward(float *y, const float *pre, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(pre + i);
        v16_store(y + i, gelu(v16_load(pre + i)));
    }
    if (i < count)
        v16_store_part(y + i, gelu(v16_load_part(pre + i, count - i, 0.0f)), count - i);
}

TRM_VECTOR_CLONES
static void gelu_bias_forward(float *y, float *pre, const float *bias, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16 x = v16_load(pre + i) + v16_load(bias + i);
        v16_store(pre + i, x);
        v16_store(y + i, gelu(x));
    }
    if (i < count) {
        v16 x = v16_load_part(pre + i, count - i, 0.0f) + v16_load_part(bias + i, count - i, 0.0f);
        v16_store_part(pre + i, x, count - i);
        v16_store_part(y + i, gelu(x), count - i);
    }
}

TRM_VECTOR_CLONES
static void gelu_backward(float *dpre, const float *dy, const float *pre, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(dy + i);
        v16_fetch(pre + i);
        v16_store(dpre + i, v16_load(dy + i) * gelu_slope(v16_load(pre + i)));
    }
    if (i < count) {
        v16 slope = gelu_slope(v16_load_part(pre + i, count - i, 0.0f));
        v16_store_part(dpre + i, v16_load_part(dy + i, count - i, 0.0f) * slope, count - i);
    }
}

TRM_VECTOR_CLONES
static void bias_forward(float *y, const float *pre, const float *bias, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES)
        v16_store(y + i, v16_load(pre + i) + v16_load(bias + i));
    for (; i < count; i++)
        y[i] = pre[i] + bias[i];
}

void trm_cpu_activate(float *y, float *pre, const float *bias, int64_t count,
                      enum trm_activation activation)
{
    if (activation == TRM_ACT_GELU && bias != NULL)
        gelu_bias_forward(y, pre, bias, count);
    else if (activation == TRM_ACT_GELU)
        gelu_forward(y, pre, count);
    else if (bias != NULL)
        bias_forward(y, pre, bias, count);
    else if (y != pre)
        memmove(y, pre, (size_t)count * sizeof(*y));
}

void trm_cpu_activate_backward(float *dpre, const float *dy, const float *pre, int64_t count,
                               enum trm_activation activation)
{
    if (activation == TRM_ACT_GELU)
        gelu_backward(dpre, dy, pre, count);
    else if (dpre != dy)
        memcpy(dpre, dy, (size_t)count * sizeof(*dpre));
}

struct rows {
    struct trm_tensor out, dy, pre;
    enum trm_activation activation;
};

static void forward_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct rows *r = context;
    for (int64_t row = first; row < last; row++)
        trm_cpu_activate(trm_cpu_row(r->out, row), trm_cpu_row(r->pre, row), NULL, r->out.shape[1],
                         r->activation);
}

static void backward_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct rows *r = context;
    for (int64_t row = first; row < last; row++)
        trm_cpu_activate_backward(trm_cpu_row(r->out, row), trm_cpu_row(r->dy, row),
                                  trm_cpu_row(r->pre, row), r->out.shape[1], r->activation);
}

void trm_cpu_activation_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                                enum trm_activation activation)
{
    if (!TRM_CPU_TAKES(dev, "activation_forward", y, pre))
        return;
    int64_t columns = y.shape[1];
    TRM_ASSERT(trm_cpu_is2(y, y.shape[0], columns) && trm_cpu_is2(pre, y.shape[0], columns));
    struct rows context = {.out = y, .pre = pre, .activation = activation};
    trm_cpu_for(dev, y.shape[0], 1 + TRM_CPU_GRAIN / (columns + 1), forward_rows, &context);
}

void trm_cpu_activation_backward(struct trm_device *dev, struct trm_tensor dpre,
                                 struct trm_tensor dy, struct trm_tensor pre,
                                 enum trm_activation activation)
{
    if (!TRM_CPU_TAKES(dev, "activation_backward", dpre, dy, pre))
        return;
    int64_t rows = dpre.shape[0], columns = dpre.shape[1];
    TRM_ASSERT(trm_cpu_is2(dpre, rows, columns) && trm_cpu_is2(dy, rows, columns));
    TRM_ASSERT(activation == TRM_ACT_NONE || trm_cpu_is2(pre, rows, columns));
    struct rows context = {dpre, dy, pre, activation};
    trm_cpu_for(dev, rows, 1 + TRM_CPU_GRAIN / (columns + 1), backward_rows, &context);
}
