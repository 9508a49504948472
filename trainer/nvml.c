/* NVML by its documented names and types (NVIDIA, "NVML API reference"): the few that are used are
 * declared here, since its header is part of a toolkit that a build may not have. */
#include "trainer/nvml.h"

#include <dlfcn.h>
#include <stdlib.h>

#define LIBRARY "libnvidia-ml.so.1"

enum { SUCCESS = 0, TEMPERATURE_GPU = 0, CLOCK_SM = 1, CLOCK_MEM = 2 };

struct memory {
    unsigned long long total, free, used; /* bytes */
};

typedef void *device_ref; /* the library's own */

struct trm_nvml {
    void *library;
    device_ref device;
    int (*shutdown)(void);
    /* NULL where this version of the library has it not. */
    int (*memory)(device_ref device, struct memory *memory);
    int (*temperature)(device_ref device, int sensor, unsigned *celsius);
    int (*clock)(device_ref device, int which, unsigned *mhz);
};

static enum trm_status refuse(struct trm_error *err, const char *what, const char *why)
{
    return trm_error_set(err, TRM_ERR_UNSUPPORTED, "%s of %s: %s", what, LIBRARY,
                         why != NULL ? why : "it has no words for why");
}

/* POSIX has a function in a void pointer be assigned through its bytes. */
static void find(void *library, const char *name, void *function)
{
    *(void **)function = dlsym(library, name);
}

static enum trm_status start(struct trm_nvml *nvml, const char *bus_id, struct trm_error *err)
{
    int (*init)(void), (*handle)(const char *bus_id, device_ref *device), code;
    const char *(*words)(int code);

    find(nvml->library, "nvmlInit_v2", &init);
    find(nvml->library, "nvmlDeviceGetHandleByPciBusId_v2", &handle);
    find(nvml->library, "nvmlErrorString", &words);
    if (init == NULL || handle == NULL || words == NULL)
        return refuse(err, "functions", "it is of another version");
    code = init();
    if (code != SUCCESS)
        return refuse(err, "start", words(code));
    find(nvml->library, "nvmlShutdown", &nvml->shutdown);
    code = handle(bus_id, &nvml->device);
    return code == SUCCESS ? TRM_OK : refuse(err, bus_id, words(code));
}

enum trm_status trm_nvml_open(const char *bus_id, struct trm_nvml **out, struct trm_error *err)
{
    struct trm_nvml *nvml = calloc(1, sizeof *nvml);
    enum trm_status status;

    if (nvml == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the GPU's gauges");
    nvml->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    status = nvml->library != NULL ? start(nvml, bus_id, err) : refuse(err, "loading", dlerror());
    if (status != TRM_OK) {
        trm_nvml_close(nvml);
        return status;
    }
    find(nvml->library, "nvmlDeviceGetMemoryInfo", &nvml->memory);
    find(nvml->library, "nvmlDeviceGetTemperature", &nvml->temperature);
    find(nvml->library, "nvmlDeviceGetClockInfo", &nvml->clock);
    *out = nvml;
    return TRM_OK;
}

static int clock_of(const struct trm_nvml *nvml, int which)
{
    unsigned mhz;
    return nvml->clock != NULL && nvml->clock(nvml->device, which, &mhz) == SUCCESS ? (int)mhz : -1;
}

void trm_nvml_read(const struct trm_nvml *nvml, struct trm_gpu_state *state)
{
    struct memory memory;
    unsigned celsius;

    *state = (struct trm_gpu_state){.memory_used_bytes = -1,
                                    .memory_bytes = -1,
                                    .temperature_c = -1,
                                    .clock_mhz = clock_of(nvml, CLOCK_SM),
                                    .memory_clock_mhz = clock_of(nvml, CLOCK_MEM)};
    if (nvml->memory != NULL && nvml->memory(nvml->device, &memory) == SUCCESS) {
        state->memory_used_bytes = (int64_t)memory.used;
        state->memory_bytes = (int64_t)memory.total;
    }
    if (nvml->temperature != NULL &&
        nvml->temperature(nvml->device, TEMPERATURE_GPU, &celsius) == SUCCESS)
        state->temperature_c = (int)celsius;
}

void trm_nvml_close(struct trm_nvml *nvml)
{
    if (nvml == NULL)
        return;
    if (nvml->shutdown != NULL)
        nvml->shutdown();
    if (nvml->library != NULL)
        dlclose(nvml->library);
    free(nvml);
}
