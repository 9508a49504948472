/* Linear layers: matrix products with what goes before and after them done per tile, in cache. */
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

/* y = act(pre + bias), tile by tile. Without an activation `pre` is `y`. */
struct finish {
    struct trm_tensor y, pre, bias;
    enum trm_activation activation;
};

static void finish_tile(const void *context, const struct trm_cpu_tile *tile)
{
    const struct finish *f = context;
    const float *bias = f->bias.data == NULL ? NULL : (const float *)f->bias.data + tile->column;
    for (int64_t row = tile->row; row < tile->row + tile->rows; row++)
        trm_cpu_activate(trm_cpu_row(f->y, row) + tile->column,
                         trm_cpu_row(f->pre, row) + tile->column, bias, tile->columns,
                         f->activation);
}

void trm_cpu_linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                            struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                            enum trm_activation activation)
{
    if (!TRM_CPU_TAKES(dev, "linear_forward", y, pre, x, w, bias))
        return;
    int64_t rows = x.shape[0], features = w.shape[0];
    TRM_ASSERT(trm_cpu_is2(y, rows, features) && w.shape[1] == x.shape[1]);
    TRM_ASSERT(bias.data == NULL || trm_cpu_is1(bias, features));
    if (activation == TRM_ACT_NONE || pre.data == NULL)
        pre = y;
    TRM_ASSERT(trm_cpu_is2(pre, rows, features));
    struct finish finish = {y, pre, bias, activation};
    bool wanted = bias.data != NULL || activation != TRM_ACT_NONE;
    trm_cpu_product(dev, &(struct trm_cpu_product){.c = pre,
                                                   .a = x,
                                                   .b = trm_tensor_transpose(w),
                                                   .finish = wanted ? finish_tile : NULL,
                                                   .finish_context = &finish});
}

/* dx *= act'(pre), tile by tile. */
static void finish_gradient_tile(const void *context, const struct trm_cpu_tile *tile)
{
    const struct finish *f = context;
    for (int64_t row = tile->row; row < tile->row + tile->rows; row++) {
        float *dx = trm_cpu_row(f->y, row) + tile->column;
        trm_cpu_activate_backward(dx, dx, trm_cpu_row(f->pre, row) + tile->column, tile->columns,
                                  f->activation);
    }
}

void trm_cpu_linear_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dw,
                             struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                             struct trm_tensor w, struct trm_tensor pre,
                             enum trm_activation activation, bool accumulate)
{
    if (!TRM_CPU_TAKES(dev, "linear_backward", dx, dw, dbias, dy, x, w, pre))
        return;
    int64_t rows = x.shape[0], features = w.shape[0];
    TRM_ASSERT(trm_cpu_is2(dy, rows, features) && w.shape[1] == x.shape[1]);
    TRM_ASSERT(dbias.data == NULL || trm_cpu_is1(dbias, features));
    bool active = dx.data != NULL && activation != TRM_ACT_NONE;
    struct finish finish = {.y = dx, .pre = pre, .activation = activation};
    TRM_ASSERT(!active || trm_cpu_is2(pre, rows, w.shape[1]));
    if (dx.data != NULL)
        trm_cpu_product(dev,
                        &(struct trm_cpu_product){.c = dx,
                                                  .a = dy,
                                                  .b = w,
                                                  .finish = active ? finish_gradient_tile : NULL,
                                                  .finish_context = &finish});
    /* The sums over rows come with reading dy for dw, but for a dy that is not read transposed. */
    bool fused = dbias.data != NULL && features > 1 && rows > 1;
    trm_cpu_product(dev, &(struct trm_cpu_product){.c = dw,
                                                   .a = trm_tensor_transpose(dy),
                                                   .b = x,
                                                   .accumulate = accumulate,
                                                   .a_row_sums = fused ? dbias.data : NULL});
    if (dbias.data != NULL && !fused) {
        if (!accumulate)
            trm_cpu_zero(dev, dbias);
        trm_cpu_bias_backward(dev, dbias, dy);
    }
}

struct bias_rows {
    struct trm_tensor y, x, bias;
};

TRM_VECTOR_CLONES
static void add_row(float *y, const float *x, const float *bias, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES)
        v16_store(y + i, v16_load(x + i) + v16_load(bias + i));
    for (; i < count; i++)
        y[i] = x[i] + bias[i];
}

static void add_bias(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct bias_rows *b = context;
    for (int64_t row = first; row < last; row++)
        add_row(trm_cpu_row(b->y, row), trm_cpu_row(b->x, row), b->bias.data, b->y.shape[1]);
}

void trm_cpu_bias_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                          struct trm_tensor bias)
{
    if (!TRM_CPU_TAKES(dev, "bias_forward", y, x, bias))
        return;
    int64_t rows = y.shape[0], columns = y.shape[1];
    TRM_ASSERT(trm_cpu_is2(y, rows, columns) && trm_cpu_is2(x, rows, columns) &&
               trm_cpu_is1(bias, columns));
    struct bias_rows context = {y, x, bias};
    trm_cpu_for(dev, rows, 1 + TRM_CPU_GRAIN / (columns + 1), add_bias, &context);
}

struct column_sums {
    struct trm_tensor dbias, dy;
};

/* Every column is summed in groups of four rows, then group by group. */
TRM_VECTOR_CLONES
static void sum_columns(float *out, const float *dy, int64_t stride, int64_t rows)
{
    v16 sum = v16_set(0.0f);
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
        const float *r = dy + row * stride;
        sum += (v16_load(r) + v16_load(r + stride)) +
               (v16_load(r + 2 * stride) + v16_load(r + 3 * stride));
    }
    for (; row < rows; row++)
        sum += v16_load(dy + row * stride);
    v16_store(out, v16_load(out) + sum);
}

static void sum_stripe(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct column_sums *s = context;
    float *out = s->dbias.data;
    const float *dy = s->dy.data;
    int64_t column = first;
    for (; column + TRM_LANES <= last; column += TRM_LANES)
        sum_columns(out + column, dy + column, s->dy.stride[0], s->dy.shape[0]);
    for (; column < last; column++) {
        float sum = 0.0f;
        for (int64_t row = 0; row < s->dy.shape[0]; row++)
            sum += dy[row * s->dy.stride[0] + column];
        out[column] += sum;
    }
}

void trm_cpu_bias_backward(struct trm_device *dev, struct trm_tensor dbias, struct trm_tensor dy)
{
    if (!TRM_CPU_TAKES(dev, "bias_backward", dbias, dy))
        return;
    TRM_ASSERT(trm_cpu_is2(dy, dy.shape[0], dy.shape[1]) && trm_cpu_is1(dbias, dy.shape[1]));
    struct column_sums context = {dbias, dy};
    trm_cpu_for(dev, dy.shape[1], 4 * TRM_LANES, sum_stripe, &context);
}
