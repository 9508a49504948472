/*
 * Softmax and cross-entropy over rows of logits, in three passes so that ranks can share a row, or
 * row by row, so that a row is read from memory once. The exponentials are computed twice, which is
 * cheaper than storing them.
 */
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector_math.h"

struct job {
    struct trm_tensor maximum, logits, sums, loss, targets;
    int64_t first_row, valid;
    bool want_gradient;
};

TRM_VECTOR_CLONES
static float row_maximum(const float *row, int64_t count)
{
    v16 a = v16_set(-__builtin_inff()), b = a;
    int64_t i = 0;
    for (; i + 2 * TRM_LANES <= count; i += 2 * TRM_LANES) {
        v16_fetch(row + i);
        v16_fetch(row + i + TRM_LANES);
        a = v16_max(a, v16_load(row + i));
        b = v16_max(b, v16_load(row + i + TRM_LANES));
    }
    float largest = v16_max_of(v16_max(a, b));
    for (; i < count; i++)
        largest = row[i] > largest ? row[i] : largest;
    return largest;
}

/* Sum of e^(x - maximum): 512 elements in 16 float sums, then in double. */
TRM_VECTOR_CLONES
static double row_exponentials(const float *row, int64_t count, float maximum)
{
    const int64_t group = 32 * TRM_LANES;
    v8d total = {0};
    int64_t i = 0;
    while (i + TRM_LANES <= count) {
        int64_t end = i + group < count ? i + group : count;
        v16 sum = v16_set(0.0f);
        for (; i + TRM_LANES <= end; i += TRM_LANES) {
            v16_fetch(row + i);
            sum += v16_exp(v16_load(row + i) - maximum);
        }
        total += v16_widen_sum(sum);
    }
    if (i < count) {
        v16 rest = v16_load_part(row + i, count - i, -__builtin_inff());
        total += v16_widen_sum(v16_exp(rest - maximum));
    }
    return v8d_sum(total);
}

TRM_VECTOR_CLONES
static void row_softmax(float *row, int64_t count, float maximum, float factor)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(row + i);
        v16_store(row + i, v16_exp(v16_load(row + i) - maximum) * factor);
    }
    if (i < count) {
        v16 rest = v16_load_part(row + i, count - i, -__builtin_inff());
        v16_store_part(row + i, v16_exp(rest - maximum) * factor, count - i);
    }
}

/* The column of row n's target here, or -1 when another rank holds it. */
static int64_t target_column(const struct job *job, int64_t n)
{
    int64_t column = ((const int32_t *)job->targets.data)[n] - job->first_row;
    return column >= 0 && column < job->valid ? column : -1;
}

static float target_logit(const float *row, int64_t column, float maximum)
{
    return column < 0 ? 0.0f : row[column] - maximum;
}

static float loss_of(float sum, float target)
{
    return (float)(trm_cpu_log((double)sum) - (double)target);
}

/* Logits become softmax - onehot; 0 in padding. */
static void row_gradient(const struct job *job, float *row, int64_t column, float maximum,
                         float sum)
{
    row_softmax(row, job->valid, maximum, 1.0f / sum);
    memset(row + job->valid, 0, (size_t)(job->logits.shape[1] - job->valid) * sizeof(*row));
    if (column >= 0)
        row[column] -= 1.0f;
}

static void whole_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = first; n < last; n++) {
        float *row = trm_cpu_row(job->logits, n);
        float maximum = row_maximum(row, job->valid);
        float sum = (float)row_exponentials(row, job->valid, maximum);
        int64_t column = target_column(job, n);
        ((float *)job->loss.data)[n] = loss_of(sum, target_logit(row, column, maximum));
        if (job->want_gradient)
            row_gradient(job, row, column, maximum, sum);
    }
}

static void maximum_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = first; n < last; n++)
        ((float *)job->maximum.data)[n] = row_maximum(trm_cpu_row(job->logits, n), job->valid);
}

static void sums_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = first; n < last; n++) {
        const float *row = trm_cpu_row(job->logits, n);
        float maximum = ((const float *)job->maximum.data)[n];
        trm_cpu_row(job->sums, 0)[n] = (float)row_exponentials(row, job->valid, maximum);
        trm_cpu_row(job->sums, 1)[n] = target_logit(row, target_column(job, n), maximum);
    }
}

static void gradient_rows(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct job *job = context;
    for (int64_t n = first; n < last; n++) {
        float sum = trm_cpu_row(job->sums, 0)[n];
        ((float *)job->loss.data)[n] = loss_of(sum, trm_cpu_row(job->sums, 1)[n]);
        if (job->want_gradient)
            row_gradient(job, trm_cpu_row(job->logits, n), target_column(job, n),
                         ((const float *)job->maximum.data)[n], sum);
    }
}

static void run(struct trm_device *dev, struct job *job, trm_cpu_range_fn fn)
{
    int64_t rows = job->logits.shape[0], columns = job->logits.shape[1];
    TRM_ASSERT(trm_cpu_is2(job->logits, rows, columns));
    TRM_ASSERT(job->maximum.data == NULL || trm_cpu_is1(job->maximum, rows));
    TRM_ASSERT(job->valid >= 0 && job->valid <= columns);
    trm_cpu_for(dev, rows, 1 + TRM_CPU_GRAIN / (columns + 1), fn, job);
}

void trm_cpu_cross_entropy(struct trm_device *dev, struct trm_tensor loss, struct trm_tensor logits,
                           struct trm_tensor targets, int64_t valid, bool want_gradient)
{
    if (!TRM_CPU_TAKES(dev, "cross_entropy", loss, logits))
        return;
    TRM_ASSERT(targets.type == TRM_I32 && trm_cpu_is1(targets, logits.shape[0]) &&
               trm_cpu_is1(loss, logits.shape[0]));
    struct job job = {.logits = logits,
                      .loss = loss,
                      .targets = targets,
                      .valid = valid,
                      .want_gradient = want_gradient};
    run(dev, &job, whole_rows);
}

void trm_cpu_cross_entropy_maximum(struct trm_device *dev, struct trm_tensor maximum,
                                   struct trm_tensor logits, int64_t valid)
{
    if (!TRM_CPU_TAKES(dev, "cross_entropy_maximum", maximum, logits))
        return;
    struct job job = {.maximum = maximum, .logits = logits, .valid = valid};
    run(dev, &job, maximum_rows);
}

void trm_cpu_cross_entropy_sums(struct trm_device *dev, struct trm_tensor sums,
                                struct trm_tensor logits, struct trm_tensor maximum,
                                struct trm_tensor targets, int64_t first_row, int64_t valid)
{
    if (!TRM_CPU_TAKES(dev, "cross_entropy_sums", sums, logits, maximum))
        return;
    TRM_ASSERT(targets.type == TRM_I32 && trm_cpu_is1(targets, logits.shape[0]) &&
               trm_cpu_is2(sums, 2, logits.shape[0]));
    struct job job = {.maximum = maximum,
                      .logits = logits,
                      .sums = sums,
                      .targets = targets,
                      .first_row = first_row,
                      .valid = valid};
    run(dev, &job, sums_rows);
}

void trm_cpu_cross_entropy_gradient(struct trm_device *dev, struct trm_tensor loss,
                                    struct trm_tensor logits, struct trm_tensor maximum,
                                    struct trm_tensor sums, struct trm_tensor targets,
                                    int64_t first_row, int64_t valid, bool want_gradient)
{
    if (!TRM_CPU_TAKES(dev, "cross_entropy_gradient", loss, logits, maximum, sums))
        return;
    TRM_ASSERT(targets.type == TRM_I32 && trm_cpu_is1(targets, logits.shape[0]) &&
               trm_cpu_is2(sums, 2, logits.shape[0]) && trm_cpu_is1(loss, logits.shape[0]));
    struct job job = {.maximum = maximum,
                      .logits = logits,
                      .sums = sums,
                      .loss = loss,
                      .targets = targets,
                      .first_row = first_row,
                      .valid = valid,
                      .want_gradient = want_gradient};
    run(dev, &job, gradient_rows);
}
