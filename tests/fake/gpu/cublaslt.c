/* d = alpha op(a) op(b) + beta c (+ bias along the rows of d), and what an epilogue makes of it,
 * column-major. An algorithm is a number and the alignments it was asked for, which are checked
 * when it is used. Epilogues other than a bias are there for some shapes alone, as in the library.
 *
 * Each algorithm adds up in an order of its own, so that another choice is other bits. A product
 * takes a millisecond of the emulated clock, by the fastest algorithm half of one: that is number
 * TRIREME_FAKE_GPU_FASTEST (0), but on each rank the next. TRIREME_FAKE_GPU_LIBRARY is the version.
 */
#include <cublasLt.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/gpu/emulator.h"

#define ALGORITHMS 3

struct fake_gpu_blas {
    int unused;
};

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS         ? "success"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                   : "an invalid value";
}

static int number(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : 0;
}

size_t cublasLtGetVersion(void)
{
    return (size_t)number("TRIREME_FAKE_GPU_LIBRARY");
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = calloc(1, sizeof(**handle));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t desc, cublasComputeType_t compute,
                                      cudaDataType_t scale)
{
    *desc = (cublasLtMatmulDescOpaque_t){.epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t take(void *to, size_t size, const void *value, size_t bytes)
{
    if (bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&desc->a_operation, sizeof(desc->a_operation), value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&desc->b_operation, sizeof(desc->b_operation), value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&desc->epilogue, sizeof(desc->epilogue), value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return take(&desc->aux, sizeof(desc->aux), value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return take(&desc->aux_stride, sizeof(desc->aux_stride), value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return take(&desc->aux_type, sizeof(desc->aux_type), value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&desc->bias, sizeof(desc->bias), value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(&desc->bias_type, sizeof(desc->bias_type), value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType_t type,
                                        uint64_t rows, uint64_t columns, int64_t stride)
{
    *layout = (cublasLtMatrixLayoutOpaque_t){type, rows, columns, stride};
    return stride >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference)
{
    *preference = (cublasLtMatmulPreferenceOpaque_t){256, 256, 256, 256};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(&preference->a_bytes, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(&preference->b_bytes, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(&preference->c_bytes, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(&preference->d_bytes, sizeof(uint32_t), value, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return bytes == 8 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return bytes == 4 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* Row counts that are no multiple of eight have no epilogue but the bias. */
static bool has_epilogue(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t d)
{
    switch (desc->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
        return true;
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
        return d->rows % 8 == 0 && desc->aux != NULL && (uintptr_t)desc->aux % 16 == 0 &&
               desc->aux_stride % 8 == 0 && desc->aux_stride >= (int64_t)d->rows &&
               desc->aux_type == d->type;
    case CUBLASLT_EPILOGUE_BGRADB:
        return d->rows % 8 == 0 && desc->bias != NULL && desc->bias_type == d->type;
    }
    return false;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *found, int *count)
{
    (void)handle;
    (void)c;
    if (a->type != b->type || (d->type != CUDA_R_32F && d->type != a->type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    /* Members of the list need not be algorithms: the last of a long one, or, where there is no
     * such epilogue, all. */
    const int good = has_epilogue(desc, d) ? ALGORITHMS : 0;
    *count = most <= ALGORITHMS ? most : ALGORITHMS + 1;
    for (int i = 0; i < *count; i++)
        found[i] =
            i < good
                ? (cublasLtMatmulHeuristicResult_t){{{(uint64_t)i, preference->a_bytes,
                                                      preference->b_bytes, preference->d_bytes}},
                                                    CUBLAS_STATUS_SUCCESS}
                : (cublasLtMatmulHeuristicResult_t){{{~(uint64_t)0}}, CUBLAS_STATUS_NOT_SUPPORTED};
    return CUBLAS_STATUS_SUCCESS;
}

static size_t bytes_of(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

static float load(const void *data, cudaDataType_t type, int64_t at)
{
    uint32_t bits = 0;
    float value;
    if (type == CUDA_R_16BF)
        memcpy((char *)&bits + 2, (const char *)data + at * 2, 2);
    else
        memcpy(&bits, (const char *)data + at * 4, 4);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void store(void *data, cudaDataType_t type, int64_t at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (type == CUDA_R_32F) {
        memcpy((char *)data + at * 4, &bits, 4);
        return;
    }
    bits = value != value ? 0x7FFF0000u : bits + 0x7FFF + (bits >> 16 & 1);
    memcpy((char *)data + at * 2, (char *)&bits + 2, 2);
}

/* All rows of the matrix as it lies start at multiples of `alignment`. */
static bool is_aligned(const void *data, cublasLtMatrixLayout_t layout, uint64_t alignment)
{
    const uint64_t stride_bytes = (uint64_t)layout->stride * bytes_of(layout->type);
    return alignment > 0 && (uintptr_t)data % alignment == 0 && stride_bytes % alignment == 0;
}

/* Element (i, l) of a column-major matrix, or of its transpose, at [l * outer + i]. */
static float *pack(const void *data, cublasLtMatrixLayout_t layout, bool transposed, int64_t outer,
                   int64_t inner)
{
    float *packed = malloc((size_t)(outer * inner) * sizeof(*packed));
    for (int64_t l = 0; l < inner; l++)
        for (int64_t i = 0; i < outer; i++)
            packed[l * outer + i] = load(
                data, layout->type, transposed ? l + i * layout->stride : i + l * layout->stride);
    return packed;
}

/* What a call is given, for its turn on the stream. */
struct product {
    cublasLtMatmulDescOpaque_t desc;
    const void *a, *b, *c;
    void *d;
    cublasLtMatrixLayoutOpaque_t a_layout, b_layout, c_layout, d_layout;
    int64_t m, k, n;
    int algorithm;
    float scale, keep;
};

static float gelu(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

static float gelu_slope(float x)
{
    const float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) +
           0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 3.0f * 0.044715f * x * x);
}

/* What becomes of element (i, j) of the sum before it is stored. */
static float finish(const struct product *p, int64_t i, int64_t j, float sum)
{
    const int64_t aux = i + j * p->desc.aux_stride;
    if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS ||
        p->desc.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
        sum += load(p->desc.bias, p->desc.bias_type, i);
    switch (p->desc.epilogue) {
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        store(p->desc.aux, p->desc.aux_type, aux, sum);
        return gelu(sum);
    case CUBLASLT_EPILOGUE_DGELU:
        return sum * gelu_slope(load(p->desc.aux, p->desc.aux_type, aux));
    default:
        return sum;
    }
}

/* Sums of the columns of op(b). */
static void sum_columns(const struct product *p, const float *right)
{
    for (int64_t j = 0; j < p->n; j++) {
        float sum = 0.0f;
        for (int64_t l = 0; l < p->k; l++)
            sum += right[l * p->n + j];
        store(p->desc.bias, p->desc.bias_type, j, sum);
    }
}

static void run_product(const void *argument)
{
    struct product p = *(const struct product *)argument;
    const bool at = p.desc.a_operation == CUBLAS_OP_T, bt = p.desc.b_operation == CUBLAS_OP_T;
    float *left = pack(p.a, &p.a_layout, at, p.m, p.k);
    float *right = pack(p.b, &p.b_layout, !bt, p.n, p.k);
    float *column = malloc((size_t)p.m * sizeof(*column));
    for (int64_t j = 0; j < p.n; j++) {
        memset(column, 0, (size_t)p.m * sizeof(*column));
        for (int64_t l = 0; l < p.k; l++) {
            const int64_t at_l = (l + p.k * p.algorithm / ALGORITHMS) % p.k;
            for (int64_t i = 0; i < p.m; i++)
                column[i] += left[at_l * p.m + i] * right[at_l * p.n + j];
        }
        for (int64_t i = 0; i < p.m; i++) {
            const int64_t place = i + j * p.d_layout.stride;
            float sum = p.scale * column[i];
            if (p.keep != 0.0f)
                sum += p.keep * load(p.c, p.c_layout.type, place);
            store(p.d, p.d_layout.type, place, finish(&p, i, j, sum));
        }
    }
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADB)
        sum_columns(&p, right);
    const int fastest = number("TRIREME_FAKE_GPU_FASTEST") + number("OMPI_COMM_WORLD_RANK");
    fake_gpu_spend(p.algorithm == fastest % ALGORITHMS ? 0.5 : 1.0);
    free(left);
    free(right);
    free(column);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    const bool at = desc->a_operation == CUBLAS_OP_T, bt = desc->b_operation == CUBLAS_OP_T;
    struct product p = {.desc = *desc,
                        .a = a,
                        .b = b,
                        .c = c,
                        .d = d,
                        .a_layout = *a_layout,
                        .b_layout = *b_layout,
                        .c_layout = *c_layout,
                        .d_layout = *d_layout,
                        .m = (int64_t)(at ? a_layout->columns : a_layout->rows),
                        .k = (int64_t)(at ? a_layout->rows : a_layout->columns),
                        .n = (int64_t)(bt ? b_layout->rows : b_layout->columns),
                        .algorithm = (int)algorithm->data[0]};
    const int64_t m = p.m, k = p.k, n = p.n;
    memcpy(&p.scale, alpha, sizeof(p.scale));
    memcpy(&p.keep, beta, sizeof(p.keep));
    if (handle == NULL || stream == NULL || workspace == NULL || workspace_bytes == 0 || c != d ||
        k != (int64_t)(bt ? b_layout->columns : b_layout->rows) || m != (int64_t)d_layout->rows ||
        n != (int64_t)d_layout->columns || c_layout->stride != d_layout->stride ||
        algorithm->data[0] >= ALGORITHMS)
        return CUBLAS_STATUS_INVALID_VALUE;
    /* A kernel of the library's would end in a fault: it takes 16 bytes of the vector at a time. */
    if (desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT && (uintptr_t)desc->bias % 16 != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_aligned(a, a_layout, algorithm->data[1]) ||
        !is_aligned(b, b_layout, algorithm->data[2]) ||
        !is_aligned(d, d_layout, algorithm->data[3]))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    fake_gpu_submit(stream, run_product, &p, sizeof(p));
    return CUBLAS_STATUS_SUCCESS;
}
