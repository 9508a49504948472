/*
 * What a GPU says about itself, by NVML (libnvidia-ml.so.1, which comes with the driver): loaded
 * when it is opened, since a node without a driver has none, and a build needs none. Asking does
 * not wait for the GPU's work.
 *
 * Threads: one at a time. Memory: the library's own, taken when it is opened.
 */
#ifndef TRM_TRAINER_NVML_H
#define TRM_TRAINER_NVML_H

#include <stdint.h>

#include "base/status.h"

struct trm_nvml;

/* What is not known is -1. */
struct trm_gpu_state {
    int64_t memory_used_bytes, memory_bytes; /* of all processes; of the GPU */
    int temperature_c;
    int clock_mhz, memory_clock_mhz; /* of the multiprocessors, and of the memory */
};

/* The GPU at `bus_id` ("0000:1b:00.0"). *out is returned owned. TRM_ERR_UNSUPPORTED: no library, or
 * one that does not know that GPU, with its words. */
enum trm_status trm_nvml_open(const char *bus_id, struct trm_nvml **out, struct trm_error *err);

void trm_nvml_read(const struct trm_nvml *nvml, struct trm_gpu_state *state);

/* Takes NULL. */
void trm_nvml_close(struct trm_nvml *nvml);

#endif
