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

/* What decides the bits: GPU, library and the chosen algorithms. */
static void describe(const struct trm_device *dev, char *text, size_t text_bytes)
{
    const struct trm_cuda *cuda = trm_cuda_of(dev);
    const size_t bytes = (size_t)cuda->choices.count * sizeof(struct trm_cuda_choice);
    const int length =
        snprintf(text, text_bytes, "%s, cuBLASLt %zu", cuda->gpu, cublasLtGetVersion());
    if (cuda->choices.count > 0 && length > 0 && (size_t)length < text_bytes)
        snprintf(text + length, text_bytes - (size_t)length, ", algorithms %016llx",
                 (unsigned long long)trm_hash64(cuda->choices.choice, bytes));
}

static void add_arrived(struct trm_cuda *cuda)
{
    for (int i = 0; i < cuda->sum_count; i++)
        trm_exact_sum_merge(cuda->owners[i], &cuda->arrived[i]);
    cuda->sum_count = 0;
}

static void sync(struct trm_device *dev)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    if (trm_cuda_check(dev, "work", cudaStreamSynchronize(cuda->stream)))
        add_arrived(cuda);
    cuda->sum_count = 0;
}

struct trm_exact_sum *trm_cuda_sum_begin(struct trm_device *dev, struct trm_exact_sum *owner)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    if (cuda->sum_count == TRM_CUDA_SUMS)
        sync(dev);
    if (dev->error.status != TRM_OK)
        return NULL;
    struct trm_exact_sum *slot = &cuda->sums[cuda->sum_count];
    if (!trm_cuda_check(dev, "sum", cudaMemsetAsync(slot, 0, sizeof *slot, cuda->stream)))
        return NULL;
    cuda->owners[cuda->sum_count] = owner;
    return slot;
}

void trm_cuda_sum_end(struct trm_device *dev)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    const int i = cuda->sum_count;
    if (trm_cuda_check(dev, "sum",
                       cudaMemcpyAsync(&cuda->arrived[i], &cuda->sums[i], sizeof *cuda->sums,
                                       cudaMemcpyDeviceToHost, cuda->stream)))
        cuda->sum_count++;
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

static const struct trm_device_memory memory_calls = {
    .allocate = allocate,
    .release = release,
    .upload = upload,
    .download = download,
    .available_bytes = available_bytes,
};

static const struct trm_ops cuda_ops = {
    .name = "cuda",
    .describe = describe,
    .sync = sync,
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
    .cross_entropy_maximum = trm_cuda_cross_entropy_maximum,
    .cross_entropy_sums = trm_cuda_cross_entropy_sums,
    .cross_entropy_gradient = trm_cuda_cross_entropy_gradient,
    .sum_of_squares = trm_cuda_sum_of_squares,
    .sum = trm_cuda_sum,
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
    const size_t sum_bytes = TRM_CUDA_SUMS * sizeof(struct trm_exact_sum);

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
                          cudaMalloc(&cuda->product_workspace, TRM_CUDA_LIBRARY_BYTES)) &&
           trm_cuda_check(dev, "start", cudaMalloc((void **)&cuda->sums, sum_bytes)) &&
           trm_cuda_check(dev, "start", cudaMallocHost((void **)&cuda->arrived, sum_bytes));
}

enum trm_status trm_device_cuda(struct trm_device *dev, int local_rank, struct trm_error *err)
{
    struct trm_error why;
    const int count = trm_cuda_count(&why);

    if (count == 0)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "device is cuda, and %s; use --device cpu",
                             why.text);
    if (local_rank >= count)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "device is cuda, and this node has %d GPUs for its rank number %d; "
                             "start one rank per GPU",
                             count, local_rank + 1);
    *dev = (struct trm_device){.ops = &cuda_ops, .state = calloc(1, sizeof(struct trm_cuda))};
    if (dev->state == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the GPU's state");
    if (take(dev, local_rank))
        return TRM_OK;
    enum trm_status status = dev->error.status;
    if (err != NULL)
        *err = dev->error;
    trm_device_cuda_close(dev);
    return status;
}

void trm_cuda_search(struct trm_device *dev, bool on)
{
    trm_cuda_of(dev)->searching = on;
}

size_t trm_cuda_choices_bytes(void)
{
    return sizeof(struct trm_cuda_choices);
}

void trm_cuda_choices_get(const struct trm_device *dev, void *bytes)
{
    memcpy(bytes, &trm_cuda_of(dev)->choices, sizeof(struct trm_cuda_choices));
}

void trm_cuda_choices_set(struct trm_device *dev, const void *bytes)
{
    memcpy(&trm_cuda_of(dev)->choices, bytes, sizeof(struct trm_cuda_choices));
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
    cudaFreeHost(cuda->arrived);
    cudaFree(cuda->sums);
    cudaFree(cuda->product_workspace);
    if (cuda->blas != NULL)
        cublasLtDestroy(cuda->blas);
    free(cuda);
    dev->state = NULL;
}
