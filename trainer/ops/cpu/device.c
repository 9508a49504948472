/* The table of the CPU device, its making and its words. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "trainer/ops/cpu/internal.h"

static const char *instruction_set(void)
{
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
        return "sse41";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    default:
        return "other instruction set";
    }
}

/* What decides the bits: not the number of threads. */
static void describe(const struct trm_device *dev, char *text, size_t text_bytes)
{
    (void)dev;
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, text_bytes, "oneDNN %d.%d.%d %s", version->major, version->minor, version->patch,
             instruction_set());
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Ops use the workspace one at a time, so it is as large as the hungriest of them wants. */
static size_t workspace_bytes(struct trm_device *dev, const struct trm_ops_limits *limits)
{
    size_t threads = (size_t)trm_cpu_threads(dev);
    int64_t side = limits->max_rows;
    side = limits->max_columns > side ? limits->max_columns : side;
    size_t bytes = larger(trm_cpu_product_bytes(side), trm_cpu_norm_bytes(limits->max_columns));
    return larger(bytes, threads * trm_cpu_attention_bytes(&limits->attention));
}

static const struct trm_ops cpu_ops = {
    .name = "cpu",
    .describe = describe,
    .workspace_bytes = workspace_bytes,
    .zero = trm_cpu_zero,
    .copy = trm_cpu_copy,
    .add = trm_cpu_add,
    .matmul = trm_cpu_matmul,
    .linear_forward = trm_cpu_linear_forward,
    .linear_backward = trm_cpu_linear_backward,
    .bias_forward = trm_cpu_bias_forward,
    .bias_backward = trm_cpu_bias_backward,
    .activation_forward = trm_cpu_activation_forward,
    .activation_backward = trm_cpu_activation_backward,
    .norm_forward = trm_cpu_norm_forward,
    .residual_norm_forward = trm_cpu_residual_norm_forward,
    .norm_backward = trm_cpu_norm_backward,
    .attention_forward = trm_cpu_attention_forward,
    .attention_backward = trm_cpu_attention_backward,
    .embedding_forward = trm_cpu_embedding_forward,
    .embedding_backward = trm_cpu_embedding_backward,
    .position_forward = trm_cpu_position_forward,
    .position_backward = trm_cpu_position_backward,
    .cross_entropy = trm_cpu_cross_entropy,
    .cross_entropy_maximum = trm_cpu_cross_entropy_maximum,
    .cross_entropy_sums = trm_cpu_cross_entropy_sums,
    .cross_entropy_gradient = trm_cpu_cross_entropy_gradient,
    .sum_of_squares = trm_cpu_sum_of_squares,
    .sum = trm_cpu_sum,
    .digest = trm_cpu_digest,
    .adamw = trm_cpu_adamw,
};

enum trm_status trm_device_cpu(struct trm_device *dev, int threads, struct trm_error *err)
{
    if (threads < 1 || threads > TRM_CPU_MAX_THREADS)
        return trm_error_set(err, TRM_ERR_CONFIG, "%d threads per process: must be 1 to %d",
                             threads, TRM_CPU_MAX_THREADS);
    omp_set_dynamic(0);
    omp_set_num_threads(threads); /* for loops outside ops, too */
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
        team = omp_get_num_threads();
    }
    if (team != threads)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "OpenMP gives %d threads where %d were asked for: raise "
                             "OMP_THREAD_LIMIT or ask for fewer threads",
                             team, threads);
    /* The number of threads is all the state there is: no allocation, nothing to free. */
    *dev = (struct trm_device){.ops = &cpu_ops, .state = (void *)(intptr_t)threads};
    return TRM_OK;
}

int trm_cpu_threads(const struct trm_device *dev)
{
    return (int)(intptr_t)dev->state;
}

void trm_cpu_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
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

bool trm_cpu_takes(struct trm_device *dev, const char *op, const struct trm_tensor *tensors,
                   size_t count)
{
    if (dev->error.status != TRM_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].data == NULL || tensors[i].type == TRM_F32)
            continue;
        trm_cpu_fail(dev, TRM_ERR_UNSUPPORTED, "%s on the CPU takes float32 tensors, not %s", op,
                     trm_type_name(tensors[i].type));
        return false;
    }
    return true;
}
