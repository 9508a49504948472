/*
 * LayerNorm. Statistics in double; one pass over memory forward, one backward (a row stays in the
 * first-level cache between its loops).
 *
 * The gradients of weight and bias are sums over rows: fixed blocks of rows, one thread each, into
 * partial sums in the workspace, which are then added block by block.
 */
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

enum { ROW_BLOCKS_MOST = 32, ROW_BLOCK_LEAST = 32 };

size_t trm_cpu_norm_bytes(int64_t columns)
{
    return (size_t)ROW_BLOCKS_MOST * 2 * (size_t)columns * sizeof(float);
}

struct forward {
    struct trm_tensor y, mean, rstd, x, weight, bias;
    float epsilon;
    struct trm_tensor stream, branch; /* whose sum `x` becomes; data NULL: x is there */
};

TRM_VECTOR void row_add(float *sum, const float *a, const float *b, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(a + i);
        v16_fetch(b + i);
        v16_store(sum + i, v16_load(a + i) + v16_load(b + i));
    }
    for (; i < count; i++)
        sum[i] = a[i] + b[i];
}

TRM_VECTOR double row_sum(const float *x, int64_t count)
{
    v8d sum = {0}, sum2 = {0};
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(x + i);
        v16 v = v16_load(x + i);
        sum += v16_low(v);
        sum2 += v16_high(v);
    }
    double total = v8d_sum(sum + sum2);
    for (; i < count; i++)
        total += (double)x[i];
    return total;
}

TRM_VECTOR double row_squares(const float *x, int64_t count, double mean)
{
    v8d sum = {0}, sum2 = {0};
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16 v = v16_load(x + i);
        v8d low = v16_low(v) - mean, high = v16_high(v) - mean;
        sum += low * low;
        sum2 += high * high;
    }
    double total = v8d_sum(sum + sum2);
    for (; i < count; i++)
        total += ((double)x[i] - mean) * ((double)x[i] - mean);
    return total;
}

TRM_VECTOR void row_normalize(float *y, const float *x, const float *weight, const float *bias,
                              int64_t count, float mean, float rstd)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16 normal = (v16_load(x + i) - mean) * rstd;
        v16_store(y + i, normal * v16_load(weight + i) + v16_load(bias + i));
    }
    for (; i < count; i++)
        y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
}

TRM_VECTOR_CLONES
static void forward_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct forward *f = context;
    int64_t columns = f->x.shape[1];
    for (int64_t row = first; row < last; row++) {
        float *x = trm_cpu_row(f->x, row);
        if (f->branch.data != NULL)
            row_add(x, trm_cpu_row(f->stream, row), trm_cpu_row(f->branch, row), columns);
        double mean = row_sum(x, columns) / (double)columns;
        double variance = row_squares(x, columns, mean) / (double)columns;
        float rstd = (float)(1.0 / __builtin_sqrt(variance + (double)f->epsilon));
        ((float *)f->mean.data)[row] = (float)mean;
        ((float *)f->rstd.data)[row] = rstd;
        row_normalize(trm_cpu_row(f->y, row), x, f->weight.data, f->bias.data, columns, (float)mean,
                      rstd);
    }
}

static void run_forward(struct trm_device *dev, struct forward *f, enum trm_norm kind)
{
    int64_t rows = f->x.shape[0], columns = f->x.shape[1];
    TRM_ASSERT(kind == TRM_NORM_LAYER && trm_cpu_is2(f->x, rows, columns));
    TRM_ASSERT(trm_cpu_is2(f->y, rows, columns));
    TRM_ASSERT(trm_cpu_is1(f->mean, rows) && trm_cpu_is1(f->rstd, rows));
    TRM_ASSERT(trm_cpu_is1(f->weight, columns) && trm_cpu_is1(f->bias, columns));
    trm_cpu_for(dev, rows, 1 + TRM_CPU_GRAIN / (columns + 1), forward_rows, f);
}

void trm_cpu_norm_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor mean,
                          struct trm_tensor rstd, struct trm_tensor x, struct trm_tensor weight,
                          struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    if (!TRM_CPU_TAKES(dev, "norm_forward", y, mean, rstd, x, weight, bias))
        return;
    struct forward context = {y, mean, rstd, x, weight, bias, epsilon, {0}, {0}};
    run_forward(dev, &context, kind);
}

void trm_cpu_residual_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                   struct trm_tensor total, struct trm_tensor mean,
                                   struct trm_tensor rstd, struct trm_tensor x,
                                   struct trm_tensor branch, struct trm_tensor weight,
                                   struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    if (!TRM_CPU_TAKES(dev, "residual_norm_forward", y, total, mean, rstd, x, branch, weight, bias))
        return;
    TRM_ASSERT(trm_cpu_is2(x, total.shape[0], total.shape[1]));
    TRM_ASSERT(trm_cpu_is2(branch, total.shape[0], total.shape[1]));
    struct forward context = {y, mean, rstd, total, weight, bias, epsilon, x, branch};
    run_forward(dev, &context, kind);
}

struct backward {
    struct trm_tensor dx, dweight, dbias, dy, x, mean, rstd, weight;
    int64_t blocks;
    float *partial; /* [blocks, 2, C]: of dweight, of dbias */
};

/* Sums of dy * weight and of dy * weight * normal; adds the row to the partial sums. */
TRM_VECTOR void row_gradient_sums(const float *dy, const float *x, const float *weight,
                                  int64_t count, float mean, float rstd, float *dweight,
                                  float *dbias, double sums[2])
{
    v8d plain = {0}, with_normal = {0};
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(dy + i);
        v16_fetch(x + i);
        v16 g = v16_load(dy + i);
        v16 normal = (v16_load(x + i) - mean) * rstd;
        v16 product = g * normal;
        v16_store(dweight + i, v16_load(dweight + i) + product);
        v16_store(dbias + i, v16_load(dbias + i) + g);
        v16 w = v16_load(weight + i);
        plain += v16_widen_sum(g * w);
        with_normal += v16_widen_sum(product * w);
    }
    sums[0] = v8d_sum(plain);
    sums[1] = v8d_sum(with_normal);
    for (; i < count; i++) {
        float normal = (x[i] - mean) * rstd;
        dweight[i] += dy[i] * normal;
        dbias[i] += dy[i];
        sums[0] += (double)(dy[i] * weight[i]);
        sums[1] += (double)(dy[i] * normal * weight[i]);
    }
}

TRM_VECTOR void row_add_gradient(float *dx, const float *dy, const float *x, const float *weight,
                                 int64_t count, float mean, float rstd, float plain,
                                 float with_normal)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16 normal = (v16_load(x + i) - mean) * rstd;
        v16 g = v16_load(dy + i) * v16_load(weight + i) - plain - normal * with_normal;
        v16_store(dx + i, v16_load(dx + i) + g * rstd);
    }
    for (; i < count; i++) {
        float normal = (x[i] - mean) * rstd;
        dx[i] += (dy[i] * weight[i] - plain - normal * with_normal) * rstd;
    }
}

TRM_VECTOR_CLONES
static void backward_blocks(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct backward *b = context;
    int64_t rows = b->x.shape[0], columns = b->x.shape[1];
    const float *weight = b->weight.data;
    for (int64_t block = first; block < last; block++) {
        float *dweight = b->partial + block * 2 * columns, *dbias = dweight + columns;
        memset(dweight, 0, 2 * (size_t)columns * sizeof(*dweight));
        for (int64_t row = rows * block / b->blocks; row < rows * (block + 1) / b->blocks; row++) {
            const float *dy = trm_cpu_row(b->dy, row), *x = trm_cpu_row(b->x, row);
            float mean = ((const float *)b->mean.data)[row];
            float rstd = ((const float *)b->rstd.data)[row];
            double sums[2];
            row_gradient_sums(dy, x, weight, columns, mean, rstd, dweight, dbias, sums);
            row_add_gradient(trm_cpu_row(b->dx, row), dy, x, weight, columns, mean, rstd,
                             (float)(sums[0] / (double)columns),
                             (float)(sums[1] / (double)columns));
        }
    }
}

TRM_VECTOR_CLONES
static void add_partials(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct backward *b = context;
    int64_t columns = b->x.shape[1];
    float *out[2] = {b->dweight.data, b->dbias.data};
    for (int which = 0; which < 2; which++) {
        for (int64_t c = first; c < last; c++) {
            double sum = 0.0;
            for (int64_t block = 0; block < b->blocks; block++)
                sum += (double)b->partial[(2 * block + which) * columns + c];
            out[which][c] += (float)sum;
        }
    }
}

void trm_cpu_norm_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dweight,
                           struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                           struct trm_tensor mean, struct trm_tensor rstd, struct trm_tensor weight,
                           enum trm_norm kind)
{
    if (!TRM_CPU_TAKES(dev, "norm_backward", dx, dweight, dbias, dy, x, mean, rstd, weight))
        return;
    int64_t rows = x.shape[0], columns = x.shape[1];
    TRM_ASSERT(kind == TRM_NORM_LAYER && trm_cpu_is2(x, rows, columns));
    TRM_ASSERT(trm_cpu_is2(dx, rows, columns) && trm_cpu_is2(dy, rows, columns));
    TRM_ASSERT(trm_cpu_is1(dweight, columns) && trm_cpu_is1(dbias, columns));
    TRM_ASSERT(trm_cpu_is1(mean, rows) && trm_cpu_is1(rstd, rows) && trm_cpu_is1(weight, columns));
    struct backward context = {dx, dweight, dbias, dy, x, mean, rstd, weight, 0, NULL};
    context.blocks = trm_cpu_min(ROW_BLOCKS_MOST, trm_cpu_parts(rows, ROW_BLOCK_LEAST));
    context.partial = trm_cpu_workspace(dev, "norm_backward", trm_cpu_norm_bytes(columns));
    if (context.partial == NULL)
        return;
    trm_cpu_for(dev, context.blocks, 1, backward_blocks, &context);
    trm_cpu_for(dev, columns, 512, add_partials, &context);
}
