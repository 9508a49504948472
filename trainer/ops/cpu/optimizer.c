/* AdamW in one pass over memory, the exact sums that the norm and the loss are made of, and the
 * digest. */
#include <stdatomic.h>

#include "base/hash.h"
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

struct adamw_job {
    float *parameter, *exp_avg, *exp_avg_sq;
    const float *gradient;
    const struct trm_adamw *settings;
};

/* Left to the compiler's vectorizer, which knows the square root. */
TRM_VECTOR_CLONES
static void adamw_range(float *restrict p, float *restrict m, float *restrict v,
                        const float *restrict gradient, int64_t count, struct trm_adamw s)
{
    const float rate = s.learning_rate / s.bias_correction1;
    const float inverse2 = 1.0f / s.bias_correction2;
    const float decay = s.learning_rate * s.weight_decay;
    const float rest1 = 1.0f - s.beta1, rest2 = 1.0f - s.beta2;
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * s.gradient_scale;
        float first = s.beta1 * m[i] + rest1 * g;
        float second = s.beta2 * v[i] + rest2 * (g * g);
        m[i] = first;
        v[i] = second;
        p[i] =
            p[i] - decay * p[i] - rate * first / (__builtin_sqrtf(second * inverse2) + s.epsilon);
    }
}

static void adamw_piece(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct adamw_job *job = context;
    adamw_range(job->parameter + first, job->exp_avg + first, job->exp_avg_sq + first,
                job->gradient + first, last - first, *job->settings);
}

void trm_cpu_adamw(struct trm_device *dev, struct trm_tensor parameter, struct trm_tensor exp_avg,
                   struct trm_tensor exp_avg_sq, struct trm_tensor gradient,
                   const struct trm_adamw *settings)
{
    if (!TRM_CPU_TAKES(dev, "adamw", parameter, exp_avg, exp_avg_sq, gradient))
        return;
    int64_t count = trm_tensor_elements(parameter);
    TRM_ASSERT(trm_tensor_is_contiguous(parameter) && trm_tensor_is_contiguous(exp_avg) &&
               trm_tensor_is_contiguous(exp_avg_sq) && trm_tensor_is_contiguous(gradient));
    TRM_ASSERT(trm_tensor_elements(exp_avg) == count && trm_tensor_elements(exp_avg_sq) == count &&
               trm_tensor_elements(gradient) == count);
    struct adamw_job job = {parameter.data, exp_avg.data, exp_avg_sq.data, gradient.data, settings};
    trm_cpu_for(dev, count, 4 * TRM_CPU_GRAIN, adamw_piece, &job);
}

struct sum_job {
    const float *data;
    int64_t count;
    struct trm_exact_sum *total;
};

TRM_VECTOR_CLONES
static double block_squares(const float *x, int64_t count)
{
    v8d sum = {0}, sum2 = {0};
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(x + i);
        v16 v = v16_load(x + i);
        v8d low = v16_low(v), high = v16_high(v);
        sum += low * low;
        sum2 += high * high;
    }
    double total = v8d_sum(sum + sum2);
    for (; i < count; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

/* The sums are exact, so it doesn't matter which piece is added first. */
static void merge(const struct sum_job *job, struct trm_exact_sum *part)
{
    trm_exact_sum_normalize(part);
#pragma omp critical(trm_cpu_exact_sum)
    trm_exact_sum_merge(job->total, part);
}

static void squares_piece(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct sum_job *job = context;
    struct trm_exact_sum part;
    trm_exact_sum_init(&part);
    for (int64_t block = first; block < last; block++) {
        int64_t start = block * TRM_NORM_BLOCK;
        trm_exact_sum_add(&part, block_squares(job->data + start,
                                               trm_cpu_min(TRM_NORM_BLOCK, job->count - start)));
    }
    merge(job, &part);
}

static void sum_piece(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct sum_job *job = context;
    struct trm_exact_sum part;
    trm_exact_sum_init(&part);
    for (int64_t i = first; i < last; i++)
        trm_exact_sum_add(&part, (double)job->data[i]);
    merge(job, &part);
}

void trm_cpu_sum_of_squares(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    if (!TRM_CPU_TAKES(dev, "sum_of_squares", t))
        return;
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    struct sum_job job = {t.data, trm_tensor_elements(t), sum};
    trm_cpu_for(dev, trm_cpu_parts(job.count, TRM_NORM_BLOCK), 256, squares_piece, &job);
}

void trm_cpu_sum(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    if (!TRM_CPU_TAKES(dev, "sum", t))
        return;
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    struct sum_job job = {t.data, trm_tensor_elements(t), sum};
    trm_cpu_for(dev, job.count, TRM_CPU_GRAIN, sum_piece, &job);
}

struct digest_job {
    const char *data;
    int64_t bytes;
    _Atomic uint64_t total;
};

/* Whole numbers: it doesn't matter which is added first. */
static void digest_piece(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    struct digest_job *job = context;
    uint64_t sum = 0;
    for (int64_t i = first; i < last; i++) {
        int64_t start = i * TRM_DIGEST_BYTES;
        sum += trm_hash64_seeded(job->data + start,
                                 (size_t)trm_cpu_min(TRM_DIGEST_BYTES, job->bytes - start),
                                 (uint64_t)i);
    }
    atomic_fetch_add_explicit(&job->total, sum, memory_order_relaxed);
}

uint64_t trm_cpu_digest(struct trm_device *dev, struct trm_tensor t)
{
    if (!TRM_CPU_TAKES(dev, "digest", t))
        return 0;
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    struct digest_job job = {.data = t.data,
                             .bytes = trm_tensor_elements(t) * (int64_t)trm_type_bytes(t.type)};
    trm_cpu_for(dev, trm_cpu_parts(job.bytes, TRM_DIGEST_BYTES), 1, digest_piece, &job);
    return job.total;
}
