/*
 * What the log line says about the machine: the model FLOPs that a rank does per second, the share
 * of its peak that this is (MFU), and the state of rank 0's GPU. Only rank 0 has gauges; they
 * change nothing, and what can't be known is left out and said so once.
 */
#ifndef TRM_TRAINER_GAUGES_H
#define TRM_TRAINER_GAUGES_H

#include "base/log.h"
#include "trainer/config/config.h"
#include "trainer/nvml.h"
#include "trainer/ops/device.h"

struct trm_gauges {
    double flops_per_token;
    double peak_flops; /* of a rank, per second; 0: not known */
    int ranks;
    bool on_gpu;
    struct trm_nvml *nvml; /* owned; NULL: none */
};

/* Sets *gauges and logs what peak MFU is measured against, or that none is known. `type`: of the
 * products' operands. */
void trm_gauges_open(struct trm_gauges *gauges, const struct trm_config *config,
                     const struct trm_device *device, enum trm_type type, int ranks,
                     const struct trm_log *log);
void trm_gauges_close(struct trm_gauges *gauges);

/* Model FLOPs per second of the whole job. */
double trm_gauges_flops(const struct trm_gauges *gauges, double tokens_per_second);

/* " | 398.9 TFLOP/s per GPU, 37.3 % of 1071 | 61.2 GiB of 79.6 GiB, 64 C, 1755 MHz"; empty on CPUs
 * without a peak. Returns the text. */
char *trm_gauges_words(const struct trm_gauges *gauges, double tokens_per_second,
                       const struct trm_gpu_state *gpu, char *text, size_t text_bytes);

/* Members of a JSON object, each behind a comma: flops_per_second; mfu, with a peak; those of `gpu`
 * that are known. Returns the text. */
char *trm_gauges_json(const struct trm_gauges *gauges, double tokens_per_second,
                      const struct trm_gpu_state *gpu, char *text, size_t text_bytes);

/* False, and all -1, without NVML. */
bool trm_gauges_read(const struct trm_gauges *gauges, struct trm_gpu_state *gpu);

#endif
