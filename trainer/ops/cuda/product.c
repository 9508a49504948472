/*
 * Matrix products by cuBLASLt, which is column-major: a row-major matrix is its transpose there, so
 * c = a b is asked for as c^T = b^T a^T, and what lies in memory is described as it lies.
 *
 * The bias is fused into the product. GELU is not: activation_forward must give the bits that
 * linear_forward gave, and the library's own GELU is not at hand outside of a product.
 */
#include <string.h>

#include "trainer/ops/cuda/internal.h"

#define SEARCHED    8 /* algorithms that a search times */
#define SEARCH_RUNS 4
#define WIDE_BYTES  16 /* alignment that wide accesses ask for */

_Static_assert(sizeof(cublasLtMatmulAlgo_t) == TRM_CUDA_ALGORITHM_WORDS * sizeof(uint64_t),
               "the library's algorithm is what a choice holds");

/* A product in the library's words; on the stack, nothing is allocated. */
struct call {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t left, right, out; /* b^T, a^T and c^T */
    const void *left_data, *right_data;
    void *out_data;
    float alpha, beta;
    struct trm_cuda_key key;
};

/* A matrix in memory: rows of contiguous elements. `transposed` when it is the view's transpose. */
struct stored {
    int64_t rows, columns, stride;
    bool transposed;
};

static struct stored stored_of(struct trm_tensor t)
{
    if (t.stride[1] == 1 || t.shape[1] == 1)
        return (struct stored){t.shape[0], t.shape[1], t.stride[0], false};
    TRM_ASSERT(t.stride[0] == 1 || t.shape[0] == 1);
    return (struct stored){t.shape[1], t.shape[0], t.stride[1], true};
}

/* A row stride that the library takes: one row has none of its own. */
static int64_t stride_of(const struct stored *s)
{
    return s->rows == 1 || s->stride < s->columns ? s->columns : s->stride;
}

static bool check(struct trm_device *dev, const char *what, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return true;
    trm_cuda_fail(dev, TRM_ERR_INTERNAL, "%s: %s", what, cublasLtGetStatusString(status));
    return false;
}

static cudaDataType_t type_of(struct trm_tensor t)
{
    return t.type == TRM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool takes(struct trm_device *dev, const struct trm_cuda_product *p)
{
    const bool half = p->a.type == TRM_BF16;
    if (dev->error.status != TRM_OK)
        return false;
    if ((half || p->a.type == TRM_F32) && p->b.type == p->a.type &&
        (p->c.type == TRM_F32 || (half && p->c.type == TRM_BF16)) &&
        (p->bias.data == NULL || p->bias.type == p->c.type))
        return true;
    trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED, "products on the GPU don't take %s, %s and %s",
                  trm_type_name(p->a.type), trm_type_name(p->b.type), trm_type_name(p->c.type));
    return false;
}

/* 16 when the operand allows wide accesses to all its rows, else the size of an element. */
static uint32_t alignment_of(struct trm_tensor t, int64_t stride)
{
    const size_t size = trm_type_bytes(t.type);
    const bool wide =
        (uintptr_t)t.data % WIDE_BYTES == 0 && (size_t)stride * size % WIDE_BYTES == 0;
    return wide ? WIDE_BYTES : (uint32_t)size;
}

static bool set(cublasLtMatmulDescOpaque_t *product, cublasLtMatmulDescAttributes_t attribute,
                const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(product, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool describe(struct trm_device *dev, const struct trm_cuda_product *p, struct call *call)
{
    const struct stored a = stored_of(p->a), b = stored_of(p->b), c = stored_of(p->c);
    const int64_t a_stride = stride_of(&a), b_stride = stride_of(&b), c_stride = stride_of(&c);
    /* Stored as the view has it, a row-major matrix is its transpose already. */
    const cublasOperation_t left = b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t right = a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue =
        p->bias.data != NULL ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const cudaDataType_t bias_type = type_of(p->c);
    /* An algorithm may rely on the alignment it was chosen for. */
    const int64_t narrow = (alignment_of(p->a, a_stride) < WIDE_BYTES) |
                           (alignment_of(p->b, b_stride) < WIDE_BYTES) << 1 |
                           (alignment_of(p->c, c_stride) < WIDE_BYTES) << 2;

    TRM_ASSERT(!c.transposed);
    call->left_data = p->b.data;
    call->right_data = p->a.data;
    call->out_data = p->c.data;
    call->alpha = 1.0f;
    call->beta = p->accumulate ? 1.0f : 0.0f;
    call->key = (struct trm_cuda_key){
        .m = p->c.shape[0],
        .n = p->c.shape[1],
        .k = p->a.shape[1],
        .a_stride = a_stride,
        .b_stride = b_stride,
        .c_stride = c_stride,
        .form = (int64_t)p->a.type | (int64_t)p->c.type << 4 | (int64_t)a.transposed << 8 |
                (int64_t)b.transposed << 9 | (int64_t)(p->bias.data != NULL) << 10 |
                (int64_t)p->accumulate << 11 | narrow << 12,
    };
    if (cublasLtMatmulDescInit(&call->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
            CUBLAS_STATUS_SUCCESS &&
        cublasLtMatrixLayoutInit(&call->left, type_of(p->b), (uint64_t)b.columns, (uint64_t)b.rows,
                                 b_stride) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatrixLayoutInit(&call->right, type_of(p->a), (uint64_t)a.columns, (uint64_t)a.rows,
                                 a_stride) == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatrixLayoutInit(&call->out, type_of(p->c), (uint64_t)c.columns, (uint64_t)c.rows,
                                 c_stride) == CUBLAS_STATUS_SUCCESS &&
        set(&call->product, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left) &&
        set(&call->product, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right) &&
        set(&call->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
        (p->bias.data == NULL ||
         (set(&call->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias.data, sizeof(void *)) &&
          set(&call->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type))))
        return true;
    trm_cuda_fail(dev, TRM_ERR_INTERNAL, "a product of %lld x %lld x %lld could not be described",
                  (long long)call->key.m, (long long)call->key.n, (long long)call->key.k);
    return false;
}

static cublasStatus_t multiply(struct trm_device *dev, const struct call *call,
                               const cublasLtMatmulAlgo_t *algorithm)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    cublasLtMatmulDescOpaque_t product = call->product;
    cublasLtMatrixLayoutOpaque_t left = call->left, right = call->right, out = call->out;

    return cublasLtMatmul(cuda->blas, &product, &call->alpha, call->left_data, &left,
                          call->right_data, &right, &call->beta, call->out_data, &out,
                          call->out_data, &out, algorithm, cuda->product_workspace,
                          TRM_CUDA_LIBRARY_BYTES, cuda->stream);
}

/* The library's suggestions, best first, all of which give the same bits run after run: those that
 * split the inner dimension with atomics are left out. */
static int suggest(struct trm_device *dev, const struct trm_cuda_product *p, struct call *call,
                   cublasLtMatmulHeuristicResult_t *found, int most)
{
    const uint64_t bytes = TRM_CUDA_LIBRARY_BYTES;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t a_bytes = alignment_of(p->b, call->key.b_stride);
    const uint32_t b_bytes = alignment_of(p->a, call->key.a_stride);
    const uint32_t c_bytes = alignment_of(p->c, call->key.c_stride);
    cublasLtMatmulPreferenceOpaque_t preference;
    int count = 0;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a_bytes, sizeof a_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b_bytes, sizeof b_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c_bytes, sizeof c_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c_bytes, sizeof c_bytes},
    };

    if (!check(dev, "matrix product", cublasLtMatmulPreferenceInit(&preference)))
        return 0;
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (!check(dev, "matrix product",
                   cublasLtMatmulPreferenceSetAttribute(&preference, wishes[i].name,
                                                        wishes[i].value, wishes[i].bytes)))
            return 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        trm_cuda_of(dev)->blas, &call->product, &call->left, &call->right, &call->out, &call->out,
        &preference, most, found, &count);
    if (status == CUBLAS_STATUS_SUCCESS && count > 0)
        return count;
    trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED,
                  "the matrix library has no way to multiply %lld x %lld x %lld (form %llx): %s",
                  (long long)call->key.m, (long long)call->key.n, (long long)call->key.k,
                  (unsigned long long)call->key.form, cublasLtGetStatusString(status));
    return 0;
}

/* Milliseconds of SEARCH_RUNS products; infinite when the algorithm fails. */
static float time_of(struct trm_device *dev, const struct call *call,
                     const cublasLtMatmulAlgo_t *algorithm, cudaEvent_t begin, cudaEvent_t end)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    float ms = __builtin_inff();
    bool good = multiply(dev, call, algorithm) == CUBLAS_STATUS_SUCCESS; /* warms up */

    cudaEventRecord(begin, cuda->stream);
    for (int i = 0; i < SEARCH_RUNS && good; i++)
        good = multiply(dev, call, algorithm) == CUBLAS_STATUS_SUCCESS;
    cudaEventRecord(end, cuda->stream);
    if (cudaEventSynchronize(end) != cudaSuccess || !good ||
        cudaEventElapsedTime(&ms, begin, end) != cudaSuccess)
        return __builtin_inff();
    return ms;
}

static int fastest(struct trm_device *dev, const struct call *call,
                   const cublasLtMatmulHeuristicResult_t *found, int count)
{
    cudaEvent_t begin = NULL, end = NULL;
    float best_ms = __builtin_inff();
    int best = 0;

    if (trm_cuda_check(dev, "search", cudaEventCreate(&begin)) &&
        trm_cuda_check(dev, "search", cudaEventCreate(&end)))
        for (int i = 0; i < count; i++) {
            float ms = time_of(dev, call, &found[i].algo, begin, end);
            if (ms < best_ms) {
                best_ms = ms;
                best = i;
            }
        }
    if (begin != NULL)
        cudaEventDestroy(begin);
    if (end != NULL)
        cudaEventDestroy(end);
    return best;
}

/* The algorithm kept for this call's key, or a new one. */
static bool choose(struct trm_device *dev, const struct trm_cuda_product *p, struct call *call,
                   cublasLtMatmulAlgo_t *algorithm)
{
    struct trm_cuda_choices *choices = &trm_cuda_of(dev)->choices;
    const bool searching = trm_cuda_of(dev)->searching;
    cublasLtMatmulHeuristicResult_t found[SEARCHED];
    int count, best = 0;

    for (int64_t i = 0; i < choices->count; i++)
        if (memcmp(&choices->choice[i].key, &call->key, sizeof call->key) == 0) {
            memcpy(algorithm, choices->choice[i].algorithm, sizeof *algorithm);
            return true;
        }
    count = suggest(dev, p, call, found, searching ? SEARCHED : 1);
    if (count == 0)
        return false;
    if (searching && count > 1)
        best = fastest(dev, call, found, count);
    *algorithm = found[best].algo;
    /* A full table costs time alone: the heuristics answer the same again. */
    if (choices->count < TRM_CUDA_CHOICES) {
        struct trm_cuda_choice *kept = &choices->choice[choices->count++];
        kept->key = call->key;
        memcpy(kept->algorithm, algorithm, sizeof kept->algorithm);
    }
    return true;
}

void trm_cuda_multiply(struct trm_device *dev, const struct trm_cuda_product *p)
{
    struct call call;
    cublasLtMatmulAlgo_t algorithm;

    TRM_ASSERT(p->a.dims == 2 && p->b.dims == 2 && p->c.dims == 2);
    TRM_ASSERT(p->a.shape[1] == p->b.shape[0] && p->c.shape[0] == p->a.shape[0] &&
               p->c.shape[1] == p->b.shape[1]);
    if (takes(dev, p) && describe(dev, p, &call) && choose(dev, p, &call, &algorithm))
        check(dev, "matrix product", multiply(dev, &call, &algorithm));
}

void trm_cuda_matmul(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                     struct trm_tensor b, bool accumulate)
{
    struct trm_cuda_product product = {.c = c, .a = a, .b = b, .accumulate = accumulate};
    trm_cuda_multiply(dev, &product);
}

void trm_cuda_linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                             struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                             enum trm_activation activation)
{
    /* The argument of the activation goes where it is kept, or, when it is not, to y. */
    struct trm_tensor product = activation != TRM_ACT_NONE && pre.data != NULL ? pre : y;
    struct trm_cuda_product p = {.c = product, .a = x, .b = trm_tensor_transpose(w), .bias = bias};
    trm_cuda_multiply(dev, &p);
    if (activation != TRM_ACT_NONE)
        trm_cuda_activation_forward(dev, y, product, activation);
}

void trm_cuda_linear_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dw,
                              struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                              struct trm_tensor w, bool accumulate)
{
    if (dx.data != NULL)
        trm_cuda_matmul(dev, dx, dy, w, false);
    trm_cuda_matmul(dev, dw, trm_tensor_transpose(dy), x, accumulate);
    if (dbias.data != NULL)
        trm_cuda_column_sums(dev, dbias, dy, accumulate);
}
