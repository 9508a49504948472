/* The table of the CUDA device, its opening and closing, its memory and its words. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "trainer/ops/cuda/internal.h"

void trm_cuda_fail(struct trm_device *dev, enum trm_status status, const char *format, ...)
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

bool trm_cuda_check(struct trm_device *dev, const char *what, cudaError_t code)
{
    if (code == cudaSuccess)
        return true;
    cudaGetLastError(); /* forget it: the next launch would be told of it again */
    trm_cuda_fail(dev, code == cudaErrorMemoryAllocation ? TRM_ERR_MEMORY : TRM_ERR_INTERNAL,
                  "%s on the GPU: %s", what, cudaGetErrorString(code));
    return false;
}

void *trm_cuda_workspace(struct trm_device *dev, const char *op, size_t bytes)
{
    if (dev->workspace != NULL && dev->workspace_bytes >= bytes)
        return dev->workspace;
    trm_cuda_fail(dev, TRM_ERR_INTERNAL, "%s needs a workspace of %zu bytes, not %zu", op, bytes,
                  dev->workspace_bytes);
    return NULL;
}

/* What decides the bits, but for the chosen algorithms. */
static void describe(const struct trm_device *dev, char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "%s, cuBLASLt %zu", trm_cuda_of(dev)->gpu, cublasLtGetVersion());
}

static void sync(struct trm_device *dev)
{
    trm_cuda_check(dev, "work", cudaStreamSynchronize(trm_cuda_of(dev)->stream));
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Ops use the workspace one after the other, so it is as large as the hungriest of them wants. */
static size_t workspace_bytes(struct trm_device *dev, const struct trm_ops_limits *limits)
{
    (void)dev;
    size_t bytes = trm_cuda_columns_bytes(limits->max_rows, limits->max_columns);
    bytes = larger(bytes, trm_cuda_embedding_bytes(limits->vocabulary));
    bytes = larger(bytes, sizeof(uint64_t)); /* the digest's */
    return larger(bytes, trm_cuda_attention_bytes(&limits->attention));
}

static void *allocate(struct trm_device *dev, size_t bytes)
{
    void *memory = NULL;
    if (dev->error.status != TRM_OK ||
        !trm_cuda_check(dev, "memory", cudaMalloc(&memory, bytes > 0 ? bytes : 1)))
        return NULL;
    return memory;
}

static void release(struct trm_device *dev, void *memory)
{
    if (memory != NULL)
        trm_cuda_check(dev, "memory", cudaFree(memory));
}

static void upload(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    trm_cuda_check(
        dev, "copy to",
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, trm_cuda_of(dev)->stream));
}

static void download(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    trm_cuda_check(
        dev, "copy from",
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, trm_cuda_of(dev)->stream));
}

static size_t available_bytes(struct trm_device *dev)
{
    size_t available = 0, total = 0;
    trm_cuda_check(dev, "memory", cudaMemGetInfo(&available, &total));
    return available;
}

static void *allocate_host(struct trm_device *dev, size_t bytes)
{
    void *memory = NULL;
    if (dev->error.status != TRM_OK ||
        !trm_cuda_check(dev, "page-locked memory", cudaMallocHost(&memory, bytes > 0 ? bytes : 1)))
        return NULL;
    return memory;
}

static void release_host(struct trm_device *dev, void *memory)
{
    if (memory != NULL)
        trm_cuda_check(dev, "page-locked memory", cudaFreeHost(memory));
}

static void fetch_begin(struct trm_device *dev)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    if (trm_cuda_check(dev, "copy from", cudaEventRecord(cuda->fetch_from, cuda->stream)))
        trm_cuda_check(dev, "copy from", cudaStreamWaitEvent(cuda->beside, cuda->fetch_from, 0));
}

static void fetch(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    trm_cuda_check(
        dev, "copy from",
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, trm_cuda_of(dev)->beside));
}

static void fetch_wait(struct trm_device *dev)
{
    trm_cuda_check(dev, "work", cudaStreamSynchronize(trm_cuda_of(dev)->beside));
}

uint64_t trm_cuda_host_hash(struct trm_device *dev, const void *data, size_t bytes, uint64_t seed)
{
    unsigned char copy[TRM_CUDA_HOST_HASH_BYTES];
    TRM_ASSERT(bytes <= sizeof copy);
    download(dev, copy, data, bytes);
    return trm_device_sync(dev, NULL) == TRM_OK ? trm_hash64_seeded(copy, bytes, seed) : 0;
}

static const struct trm_device_memory memory_calls = {
    .allocate = allocate,
    .release = release,
    .upload = upload,
    .download = download,
    .available_bytes = available_bytes,
    .allocate_host = allocate_host,
    .release_host = release_host,
    .fetch_begin = fetch_begin,
    .fetch = fetch,
    .fetch_wait = fetch_wait,
};

static const struct trm_ops cuda_ops = {
    .name = "cuda",
    .describe = describe,
    .sync = sync,
    .mark = trm_cuda_mark,
    .memory = &memory_calls,
    .workspace_bytes = workspace_bytes,
    .zero = trm_cuda_zero,
    .copy = trm_cuda_copy,
    .add = trm_cuda_add,
    .matmul = trm_cuda_matmul,
    .linear_forward = trm_cuda_linear_forward,
    .linear_backward = trm_cuda_linear_backward,
    .bias_forward = trm_cuda_bias_forward,
    .bias_backward = trm_cuda_bias_backward,
    .activation_forward = trm_cuda_activation_forward,
    .activation_backward = trm_cuda_activation_backward,
    .norm_forward = trm_cuda_norm_forward,
    .residual_norm_forward = trm_cuda_residual_norm_forward,
    .norm_backward = trm_cuda_norm_backward,
    .attention_forward = trm_cuda_attention_forward,
    .attention_backward = trm_cuda_attention_backward,
    .embedding_forward = trm_cuda_embedding_forward,
    .embedding_backward = trm_cuda_embedding_backward,
    .position_forward = trm_cuda_position_forward,
    .position_backward = trm_cuda_position_backward,
    .cross_entropy = trm_cuda_cross_entropy,
    .cross_entropy_maximum = trm_cuda_cross_entropy_maximum,
    .cross_entropy_sums = trm_cuda_cross_entropy_sums,
    .cross_entropy_gradient = trm_cuda_cross_entropy_gradient,
    .sum_of_squares = trm_cuda_sum_of_squares,
    .sum = trm_cuda_sum,
    .digest = trm_cuda_digest,
    .judge = trm_cuda_judge,
    .adamw = trm_cuda_adamw,
};

int trm_cuda_count(struct trm_error *err)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0) {
        cudaGetLastError(); /* forget it */
        trm_error_set(err, TRM_ERR_UNSUPPORTED, "this machine has no GPU that CUDA can use (%s)",
                      code != cudaSuccess ? cudaGetErrorString(code) : "none is visible");
        return 0;
    }
    return count;
}

/* Everything that opening takes; the caller closes what a failure leaves. */
static bool take(struct trm_device *dev, int ordinal)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    struct cudaDeviceProp properties;

    cuda->ordinal = ordinal;
    if (!trm_cuda_check(dev, "start", cudaSetDevice(ordinal)) ||
        !trm_cuda_check(dev, "start", cudaGetDeviceProperties(&properties, ordinal)))
        return false;
    snprintf(cuda->gpu, sizeof cuda->gpu, "%.48s, sm_%d%d", properties.name, properties.major,
             properties.minor);
    if (properties.major < 8) {
        trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED,
                      "GPU %d is a %s; compute capability 8.0 or newer is needed", ordinal,
                      cuda->gpu);
        return false;
    }
    const cublasStatus_t started = cublasLtCreate(&cuda->blas);
    if (started != CUBLAS_STATUS_SUCCESS) {
        trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED, "cuBLASLt does not start on GPU %d: %s", ordinal,
                      cublasLtGetStatusString(started));
        return false;
    }
    return trm_cuda_check(dev, "start",
                          cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking)) &&
           trm_cuda_check(dev, "start",
                          cudaStreamCreateWithFlags(&cuda->beside, cudaStreamNonBlocking)) &&
           trm_cuda_check(dev, "start",
                          cudaEventCreateWithFlags(&cuda->fetch_from, cudaEventDisableTiming)) &&
           trm_cuda_check(dev, "start",
                          cudaMalloc(&cuda->product_workspace, TRM_CUDA_LIBRARY_BYTES));
}

bool trm_cuda_identify(int number, struct trm_cuda_identity *out)
{
    struct cudaDeviceProp properties;

    if (cudaGetDeviceProperties(&properties, number) != cudaSuccess) {
        cudaGetLastError(); /* forget it */
        return false;
    }
    memcpy(out->uuid, &properties.uuid, sizeof out->uuid);
    snprintf(out->bus_id, sizeof out->bus_id, "%04x:%02x:%02x.0", (unsigned)properties.pciDomainID,
             (unsigned)properties.pciBusID, (unsigned)properties.pciDeviceID);
    return true;
}

enum trm_status trm_device_cuda(struct trm_device *dev, int number, struct trm_error *err)
{
    struct trm_error why;
    const int count = trm_cuda_count(&why);

    if (count == 0)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "device is cuda, and %s; use --device cpu",
                             why.text);
    if (number >= count)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "device is cuda, and this node has %d GPUs for its rank number %d; "
                             "start one rank per GPU",
                             count, number + 1);
    *dev = (struct trm_device){.ops = &cuda_ops, .state = calloc(1, sizeof(struct trm_cuda))};
    if (dev->state == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the GPU's state");
    if (take(dev, number))
        return TRM_OK;
    enum trm_status status = dev->error.status;
    if (err != NULL)
        *err = dev->error;
    trm_device_cuda_close(dev);
    return status;
}

/* Dense FLOPs per clock of a multiprocessor: tensor cores for bfloat16, a multiply-add per lane for
 * float32 (NVIDIA, "CUDA C++ programming guide", arithmetic throughput; the architectures'
 * whitepapers). An architecture that is not here has no peak. */
static int flops_per_clock(int major, int minor, enum trm_type type)
{
    static const struct {
        int capability, bf16, f32;
    } known[] = {{80, 2048, 128}, {86, 1024, 256},  {89, 1024, 256},
                 {90, 4096, 256}, {100, 8192, 256}, {103, 8192, 256}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].capability == 10 * major + minor)
            return type == TRM_BF16 ? known[i].bf16 : known[i].f32;
    return 0;
}

bool trm_cuda_describe(const struct trm_device *dev, enum trm_type type,
                       struct trm_cuda_properties *out)
{
    if (dev->ops != &cuda_ops)
        return false;
    struct cudaDeviceProp properties = {.major = 0};
    const int ordinal = trm_cuda_of(dev)->ordinal;
    int count = 0, khz = 0;
    /* What can't be read is not known: nobody computes with it. */
    if (cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess ||
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, ordinal) != cudaSuccess ||
        cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, ordinal) != cudaSuccess)
        cudaGetLastError(); /* forget it */
    *out = (struct trm_cuda_properties){
        .multiprocessors = count,
        .clock_mhz = khz / 1000,
        .flops_per_clock = flops_per_clock(properties.major, properties.minor, type)};
    if (cudaDeviceGetPCIBusId(out->bus_id, (int)sizeof out->bus_id, ordinal) != cudaSuccess) {
        cudaGetLastError();
        out->bus_id[0] = '\0';
    }
    return true;
}

void trm_cuda_search(struct trm_device *dev, bool on)
{
    trm_cuda_of(dev)->searching = on;
}

void *trm_cuda_stream(const struct trm_device *dev)
{
    return trm_cuda_of(dev)->stream;
}

size_t trm_cuda_choices_bytes(void)
{
    return sizeof(struct trm_cuda_choices);
}

int trm_cuda_choices_count(const struct trm_device *dev)
{
    return (int)trm_cuda_of(dev)->choices.count;
}

void trm_cuda_choices_get(const struct trm_device *dev, void *bytes)
{
    memcpy(bytes, &trm_cuda_of(dev)->choices, sizeof(struct trm_cuda_choices));
}

bool trm_cuda_choices_set(struct trm_device *dev, const void *bytes)
{
    int64_t count;
    memcpy(&count, bytes, sizeof count); /* their first member */
    if (count < 0 || count > TRM_CUDA_CHOICES)
        return false;
    memcpy(&trm_cuda_of(dev)->choices, bytes, sizeof(struct trm_cuda_choices));
    return true;
}

void trm_device_cuda_close(struct trm_device *dev)
{
    if (dev->ops != &cuda_ops || dev->state == NULL)
        return;
    struct trm_cuda *cuda = trm_cuda_of(dev);
    if (cuda->stream != NULL) {
        cudaStreamSynchronize(cuda->stream);
        cudaStreamDestroy(cuda->stream);
    }
    if (cuda->beside != NULL) {
        cudaStreamSynchronize(cuda->beside);
        cudaStreamDestroy(cuda->beside);
    }
    if (cuda->fetch_from != NULL)
        cudaEventDestroy(cuda->fetch_from);
    cudaFree(cuda->product_workspace);
    if (cuda->blas != NULL)
        cublasLtDestroy(cuda->blas);
    free(cuda);
    dev->state = NULL;
}
