/*
 * The runtime of an emulated GPU whose streams are queues: kernels, products and copies run in
 * their turn, in some order of the streams, when the host asks for progress (tests/fake/device.h,
 * which has the streams, events and plain memory). Beside what runtime.c has of them, this has what
 * a whole trainer asks of a device.
 *
 * CUDA_VISIBLE_DEVICES: numbers of those that may be used, as the real runtime has it, but that
 * none is the same as not set; then TRIREME_FAKE_GPUS: how many there are (64).
 * TRIREME_FAKE_GPU_NOTE: a file in which each process notes the number of the GPU that it takes.
 * TRIREME_FAKE_GPU_BYTES: free memory of each (4 GiB). TRIREME_FAKE_GPU_SEED: the order in which
 * streams run.
 * TRIREME_FAKE_GPU_ILL: the number of one whose kernels do nothing (none).
 */
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/gpu/emulator.h"

/* Of tests/fake/device.h, which includes the real header of the runtime. */
void fake_launch(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                 size_t bytes);
void fake_seed(uint64_t seed);
void fake_spend(double ms);

static int current; /* the GPU in use */

static long long number(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? atoll(text) : otherwise;
}

void fake_gpu_submit(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                     size_t bytes)
{
    if (current != number("TRIREME_FAKE_GPU_ILL", -1))
        fake_launch(stream, run, argument, bytes);
}

void fake_gpu_spend(double ms)
{
    fake_spend(ms);
}

cudaError_t cudaGetLastError(void)
{
    return (cudaError_t)fake_gpu_last_error();
}

/* The number of the GPU that this process sees as `ordinal`; -1: it sees none there. */
static int physical(int ordinal)
{
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    if (text == NULL || *text == '\0')
        return ordinal < number("TRIREME_FAKE_GPUS", 64) ? ordinal : -1;
    for (; ordinal > 0 && text != NULL; ordinal--) {
        text = strchr(text, ',');
        text += text != NULL;
    }
    return text != NULL ? atoi(text) : -1;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    for (*count = 0; physical(*count) >= 0; ++*count) {
    }
    return cudaSuccess;
}

static void note(int rank, int ordinal)
{
    const char *path = getenv("TRIREME_FAKE_GPU_NOTE");
    FILE *file = path != NULL ? fopen(path, "a") : NULL;
    if (file != NULL) {
        fprintf(file, "rank %d takes GPU %d\n", rank, physical(ordinal));
        fclose(file);
    }
}

cudaError_t cudaSetDevice(int ordinal)
{
    const int rank = (int)number("OMPI_COMM_WORLD_RANK", 0);
    note(rank, ordinal);
    current = ordinal;
    fake_seed((uint64_t)number("TRIREME_FAKE_GPU_SEED", 1) * 64 + (uint64_t)rank);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int ordinal)
{
    *properties = (struct cudaDeviceProp){.name = "emulated GPU", .major = 9, .minor = 0};
    properties->uuid.bytes[0] = (char)(physical(ordinal) + 1);
    properties->pciBusID = physical(ordinal) + 1;
    return physical(ordinal) >= 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal)
{
    (void)ordinal;
    *value = attribute == cudaDevAttrClockRate ? 1980000 : 132;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int text_bytes, int ordinal)
{
    (void)ordinal;
    snprintf(text, (size_t)text_bytes, "0000:1B:00.0");
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = (size_t)4 << 30;
    *available = (size_t)number("TRIREME_FAKE_GPU_BYTES", (long long)*total);
    return cudaSuccess;
}

/* Memory starts as NaN, whatever its type. */
cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    if (posix_memalign(memory, 256, bytes) != 0)
        return (cudaError_t)fake_gpu_note(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    free(memory);
    return cudaSuccess;
}

struct set {
    char *to;
    size_t pitch, width, height;
    int value;
};

static void run_set(const void *argument)
{
    const struct set *s = argument;
    for (size_t row = 0; row < s->height; row++)
        memset(s->to + row * s->pitch, s->value, s->width);
}

cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream)
{
    const struct set set = {to, pitch, width, height, value};
    if (width > pitch && height > 1)
        return cudaErrorInvalidValue;
    fake_launch(stream, run_set, &set, sizeof(set));
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, int attribute, int value)
{
    /* What an H100 gives a block. */
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value > 227 * 1024)
        return (cudaError_t)fake_gpu_note(cudaErrorInvalidValue);
    fake_gpu_allow_shared(kernel, (size_t)value);
    return cudaSuccess;
}
