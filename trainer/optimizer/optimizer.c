#include "trainer/optimizer/optimizer.h"

#include <math.h>
#include <stdlib.h>

#include "base/assert.h"

struct trm_optimizer {
    const struct trm_config *config;
    const struct trm_layout *layout;
    struct trm_device *device;
    struct trm_layout_run *runs;
    int run_count;
    enum trm_type type;
    float *masters; /* NULL: parameters are float32 */
    float *exp_avg, *exp_avg_sq;
};

enum trm_status trm_optimizer_create(const struct trm_config *config,
                                     const struct trm_layout *layout, int data_rank,
                                     struct trm_device *device, enum trm_type type,
                                     struct trm_optimizer **out, struct trm_error *err)
{
    struct trm_optimizer *o = calloc(1, sizeof *o);
    int count = trm_layout_owned_runs(layout, data_rank, NULL, 0);

    if (o)
        o->runs = calloc((size_t)count + 1, sizeof *o->runs);
    if (!o || !o->runs) {
        free(o);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the optimizer");
    }
    o->config = config;
    o->layout = layout;
    o->device = device;
    o->type = type;
    o->run_count = trm_layout_owned_runs(layout, data_rank, o->runs, count);
    *out = o;
    return TRM_OK;
}

void trm_optimizer_destroy(struct trm_optimizer *o)
{
    if (!o)
        return;
    free(o->runs);
    free(o);
}

void trm_optimizer_place(struct trm_optimizer *o, struct trm_arena *arena)
{
    size_t bytes = (size_t)o->layout->owned_elements * sizeof(float);
    if (o->type != TRM_F32)
        o->masters = trm_arena_alloc(arena, TRM_ARENA_OPTIMIZER, bytes);
    o->exp_avg = trm_arena_alloc(arena, TRM_ARENA_OPTIMIZER, bytes);
    o->exp_avg_sq = trm_arena_alloc(arena, TRM_ARENA_OPTIMIZER, bytes);
}

float *trm_optimizer_masters(struct trm_optimizer *o)
{
    return o->masters;
}

float *trm_optimizer_exp_avg(struct trm_optimizer *o)
{
    return o->exp_avg;
}

float *trm_optimizer_exp_avg_sq(struct trm_optimizer *o)
{
    return o->exp_avg_sq;
}

const struct trm_layout_run *trm_optimizer_runs(const struct trm_optimizer *o, int *count)
{
    *count = o->run_count;
    return o->runs;
}

void trm_optimizer_sum_of_squares(struct trm_optimizer *o, float *owned_gradient,
                                  struct trm_exact_sum *sum)
{
    int next;

    /* Fused tensors are one span: blocks count from the aligned start of the first, so that a cut
     * between shards, aligned too, never falls inside a block. */
    for (int i = 0; i < o->run_count; i = next) {
        const struct trm_layout_run *run = &o->runs[i];
        int64_t elements = run->end - run->begin;
        for (next = i + 1; next < o->run_count; next++) {
            const struct trm_layout_run *after = &o->runs[next];
            if (after->begin > 0 || !o->layout->tensors[after->tensor].spec.fused)
                break;
            elements += after->end;
        }
        TRM_ASSERT(run->flat_offset % TRM_NORM_BLOCK == 0);
        if (o->layout->tensors[run->tensor].counted)
            o->device->ops->sum_of_squares(
                o->device, sum,
                trm_tensor_1d(owned_gradient + run->owned_offset, TRM_F32, elements));
    }
}

/* What an update adds to. */
static float *weights_of(const struct trm_optimizer *o, const struct trm_layout_run *run,
                         void *parameters)
{
    return o->masters ? o->masters + run->owned_offset : (float *)parameters + run->flat_offset;
}

/* Where the parameters of a run lie in the flat vector. */
static void *place_of(const struct trm_optimizer *o, const struct trm_layout_run *run,
                      void *parameters)
{
    return (char *)parameters + (size_t)run->flat_offset * trm_type_bytes(o->type);
}

/* Are parameters and moments of runs [first, first + count) finite? */
static bool are_finite(struct trm_optimizer *o, void *parameters, int first, int count,
                       struct trm_exact_sum *scratch)
{
    struct trm_device *device = o->device;
    struct trm_exact_sum sum;

    device->ops->zero(device, trm_tensor_1d(scratch, TRM_F32, sizeof sum / sizeof(float)));
    for (int i = first; i < first + count; i++) {
        const struct trm_layout_run *run = &o->runs[i];
        float *places[] = {weights_of(o, run, parameters), o->exp_avg + run->owned_offset,
                           o->exp_avg_sq + run->owned_offset};
        /* In double, so that the square of no finite float is infinite. */
        for (int k = 0; k < 3; k++)
            device->ops->sum_of_squares(device, scratch,
                                        trm_tensor_1d(places[k], TRM_F32, run->end - run->begin));
    }
    trm_device_download(device, &sum, scratch, sizeof sum);
    return trm_device_sync(device, NULL) != TRM_OK || isfinite(trm_exact_sum_value(&sum));
}

enum trm_status trm_optimizer_find_not_finite(struct trm_optimizer *o, void *parameters,
                                              struct trm_exact_sum *scratch, const char **name,
                                              struct trm_error *err)
{
    int i = 0;

    *name = NULL;
    if (!are_finite(o, parameters, 0, o->run_count, scratch)) {
        while (i < o->run_count - 1 && are_finite(o, parameters, i, 1, scratch))
            i++;
        *name = o->layout->tensors[o->runs[i].tensor].spec.name;
    }
    return trm_device_check(o->device, err);
}

/* base^exponent by squaring: the same bits with any C library. */
static double power(double base, int64_t exponent)
{
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

void trm_optimizer_update(struct trm_optimizer *o, int64_t step, double learning_rate,
                          double gradient_scale, const struct trm_step_verdict *verdict,
                          void *parameters, float *owned_gradient)
{
    const struct trm_config *config = o->config;
    struct trm_adamw settings = {
        .learning_rate = (float)learning_rate,
        .beta1 = (float)config->adam_beta1,
        .beta2 = (float)config->adam_beta2,
        .epsilon = (float)config->adam_eps,
        .bias_correction1 = (float)(1.0 - power(config->adam_beta1, step)),
        .bias_correction2 = (float)(1.0 - power(config->adam_beta2, step)),
        .gradient_scale = (float)gradient_scale,
        .verdict = verdict,
    };

    for (int i = 0; i < o->run_count; i++) {
        const struct trm_layout_run *run = &o->runs[i];
        int64_t count = run->end - run->begin;
        bool decay = o->layout->tensors[run->tensor].spec.decay;
        settings.weight_decay = decay ? (float)config->weight_decay : 0.0f;
        settings.rounded = o->masters ? place_of(o, run, parameters) : NULL;
        o->device->ops->adamw(
            o->device, trm_tensor_1d(weights_of(o, run, parameters), TRM_F32, count),
            trm_tensor_1d(o->exp_avg + run->owned_offset, TRM_F32, count),
            trm_tensor_1d(o->exp_avg_sq + run->owned_offset, TRM_F32, count),
            trm_tensor_1d(owned_gradient + run->owned_offset, TRM_F32, count), &settings);
    }
}

void trm_optimizer_round(struct trm_optimizer *o, void *parameters)
{
    for (int i = 0; o->masters && i < o->run_count; i++) {
        const struct trm_layout_run *run = &o->runs[i];
        int64_t count = run->end - run->begin;
        o->device->ops->copy(o->device, trm_tensor_1d(place_of(o, run, parameters), o->type, count),
                             trm_tensor_1d(weights_of(o, run, parameters), TRM_F32, count));
    }
}

double trm_clip_factor(double norm, double limit)
{
    return limit > 0.0 && norm > limit ? limit / norm : 1.0;
}
