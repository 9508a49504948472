/* Without streams: work is done when it was asked for. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/gpu/emulator.h"

#define ALIGNMENT    256
#define MEMORY_BYTES ((size_t)1 << 30)

struct fake_gpu_stream {
    int unused;
};

struct fake_gpu_event {
    double at_ms;
};

static double clock_ms;

void fake_gpu_spend(double ms)
{
    clock_ms += ms;
}

const char *cudaGetErrorString(cudaError_t code)
{
    return code == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

cudaError_t cudaGetLastError(void)
{
    return (cudaError_t)fake_gpu_last_error();
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int ordinal)
{
    return ordinal == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int ordinal)
{
    *properties = (struct cudaDeviceProp){.name = "emulated GPU", .major = 9, .minor = 0};
    return ordinal == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

/* Those of an H100 SXM. Its data sheet has 989 TFLOP/s, which is for 1830 MHz. */
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal)
{
    *value = attribute == cudaDevAttrClockRate ? 1980000 : 132;
    return ordinal == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int text_bytes, int ordinal)
{
    snprintf(text, (size_t)text_bytes, "0000:1B:00.0");
    return ordinal == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = *total = MEMORY_BYTES;
    return cudaSuccess;
}

/* Memory starts as NaN, whatever its type. */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (bytes > MEMORY_BYTES || posix_memalign(memory, ALIGNMENT, bytes) != 0)
        return (cudaError_t)fake_gpu_note(cudaErrorMemoryAllocation);
    memset(*memory, 0xFF, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    return cudaMalloc(memory, bytes);
}

cudaError_t cudaFreeHost(void *memory)
{
    return cudaFree(memory);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(to, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream)
{
    (void)stream;
    if (width > pitch && height > 1)
        return cudaErrorInvalidValue;
    for (size_t row = 0; row < height; row++)
        memset((char *)to + row * pitch, value, width);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, cudaStream_t stream)
{
    (void)kind;
    (void)stream;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = calloc(1, sizeof(**stream));
    return *stream != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return stream != NULL ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = calloc(1, sizeof(**event));
    return *event != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    return cudaEventCreate(event);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    return stream != NULL && event != NULL && flags == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

void fake_gpu_submit(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                     size_t bytes)
{
    (void)stream;
    (void)bytes;
    run(argument);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    event->at_ms = clock_ms;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return event != NULL ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    *ms = (float)(end->at_ms - begin->at_ms);
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
