/*
 * A libnvidia-ml.so.1 that isn't one, for tests of what loads it: one GPU, at 0000:1B:00.0, that
 * always says the same. With TRM_FAKE_NVML_OLD it is a version without temperature and clocks.
 */
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6 };

struct memory {
    unsigned long long total, free, used;
};

static int gpu; /* its address is what a handle is */

SHOWN int nvmlInit_v2(void);
SHOWN int nvmlShutdown(void);
SHOWN const char *nvmlErrorString(int code);
SHOWN int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
SHOWN int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);

int nvmlInit_v2(void)
{
    return SUCCESS;
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    return code == NOT_FOUND ? "Not Found" : "Invalid Argument";
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
    *device = &gpu;
    return strcmp(bus_id, "0000:1B:00.0") == 0 ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
    *memory = (struct memory){.total = 80ull << 30, .free = 19ull << 30, .used = 61ull << 30};
    return device == &gpu ? SUCCESS : INVALID_ARGUMENT;
}

#ifndef TRM_FAKE_NVML_OLD
SHOWN int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
SHOWN int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz);

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
    *celsius = 64;
    return device == &gpu && sensor == 0 ? SUCCESS : INVALID_ARGUMENT;
}

/* 1: multiprocessors; 2: memory. */
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz)
{
    *mhz = which == 1 ? 1755 : 2619;
    return device == &gpu && (which == 1 || which == 2) ? SUCCESS : INVALID_ARGUMENT;
}
#endif
