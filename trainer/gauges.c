#include "trainer/gauges.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "trainer/model/model.h"
#include "trainer/ops/cuda/cuda.h"

static void tell_peak(const struct trm_gauges *g, const struct trm_config *config,
                      const struct trm_cuda_properties *gpu, const struct trm_log *log)
{
    if (config->peak_tflops > 0)
        trm_log(log, TRM_LOG_INFO, "MFU is of %.1f TFLOP/s per %s, as peak_tflops has it",
                config->peak_tflops, g->on_gpu ? "GPU" : "rank");
    else if (g->peak_flops > 0)
        trm_log(log, TRM_LOG_INFO,
                "MFU is of %.1f TFLOP/s per GPU: %d multiprocessors x %d MHz x %d FLOPs a clock",
                g->peak_flops / 1e12, gpu->multiprocessors, gpu->clock_mhz, gpu->flops_per_clock);
    else if (g->on_gpu)
        trm_log(log, TRM_LOG_INFO,
                "the peak of this GPU is not known, so there is no MFU; peak_tflops gives one");
}

void trm_gauges_open(struct trm_gauges *g, const struct trm_config *config,
                     const struct trm_device *device, enum trm_type type, int ranks,
                     const struct trm_log *log)
{
    struct trm_cuda_properties gpu;
    struct trm_error why = {0};

    *g = (struct trm_gauges){.flops_per_token = trm_model_flops_per_token(config),
                             .peak_flops = config->peak_tflops * 1e12,
                             .ranks = ranks,
                             .on_gpu = trm_cuda_describe(device, type, &gpu)};
    if (g->on_gpu && config->peak_tflops <= 0)
        g->peak_flops = (double)gpu.multiprocessors * gpu.clock_mhz * 1e6 * gpu.flops_per_clock;
    tell_peak(g, config, &gpu, log);
    if (g->on_gpu && trm_nvml_open(gpu.bus_id, &g->nvml, &why) != TRM_OK)
        trm_log(log, TRM_LOG_INFO, "memory, temperature and clocks of the GPU are not shown: %s",
                why.text);
}

void trm_gauges_close(struct trm_gauges *g)
{
    trm_nvml_close(g->nvml);
    g->nvml = NULL;
}

double trm_gauges_flops(const struct trm_gauges *g, double tokens_per_second)
{
    return g->flops_per_token * tokens_per_second;
}

static double share_of_peak(const struct trm_gauges *g, double tokens_per_second)
{
    return trm_gauges_flops(g, tokens_per_second) / g->ranks / g->peak_flops;
}

bool trm_gauges_read(const struct trm_gauges *g, struct trm_gpu_state *gpu)
{
    if (g->nvml != NULL) {
        trm_nvml_read(g->nvml, gpu);
        return true;
    }
    *gpu = (struct trm_gpu_state){-1, -1, -1, -1, -1};
    return false;
}

/* Adds to `text` as far as it has room. */
static void add(char *text, size_t text_bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t text_bytes, const char *format, ...)
{
    const size_t length = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + length, text_bytes - length, format, arguments);
    va_end(arguments);
}

char *trm_gauges_words(const struct trm_gauges *g, double tokens_per_second,
                       const struct trm_gpu_state *gpu, char *text, size_t text_bytes)
{
    const double flops = trm_gauges_flops(g, tokens_per_second) / g->ranks;
    const char *separator = " | ";
    char used[32], whole[32];

    text[0] = '\0';
    if (g->on_gpu || g->peak_flops > 0)
        add(text, text_bytes, " | %.4g TFLOP/s per %s", flops / 1e12, g->on_gpu ? "GPU" : "rank");
    if (g->peak_flops > 0)
        add(text, text_bytes, ", MFU %.1f %% of %.4g", 100 * share_of_peak(g, tokens_per_second),
            g->peak_flops / 1e12);
    if (gpu->memory_used_bytes >= 0) {
        add(text, text_bytes, "%s%s of %s", separator,
            trm_human_bytes(used, sizeof used, (uint64_t)gpu->memory_used_bytes),
            trm_human_bytes(whole, sizeof whole, (uint64_t)gpu->memory_bytes));
        separator = ", ";
    }
    if (gpu->temperature_c >= 0) {
        add(text, text_bytes, "%s%d C", separator, gpu->temperature_c);
        separator = ", ";
    }
    if (gpu->clock_mhz >= 0)
        add(text, text_bytes, "%s%d MHz", separator, gpu->clock_mhz);
    return text;
}

char *trm_gauges_json(const struct trm_gauges *g, double tokens_per_second,
                      const struct trm_gpu_state *gpu, char *text, size_t text_bytes)
{
    const struct {
        const char *name;
        int64_t value;
    } members[] = {{"gpu_memory_used_bytes", gpu->memory_used_bytes},
                   {"gpu_memory_bytes", gpu->memory_bytes},
                   {"gpu_temperature_c", gpu->temperature_c},
                   {"gpu_clock_mhz", gpu->clock_mhz},
                   {"gpu_memory_clock_mhz", gpu->memory_clock_mhz}};

    text[0] = '\0';
    add(text, text_bytes, ", \"flops_per_second\": %.6g", trm_gauges_flops(g, tokens_per_second));
    if (g->peak_flops > 0)
        add(text, text_bytes, ", \"mfu\": %.4f", share_of_peak(g, tokens_per_second));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].value >= 0)
            add(text, text_bytes, ", \"%s\": %lld", members[i].name, (long long)members[i].value);
    return text;
}
