/*
 * Matrix products by cuBLASLt, which is column-major: a row-major matrix is its transpose there, so
 * c = a b is asked for as c^T = b^T a^T, and what lies in memory is described as it lies.
 */
#include <string.h>

#include "trainer/ops/cuda/product.h"

#define WIDE_BYTES  16 /* alignment that wide accesses ask for */
#define AUX_COLUMNS 8  /* the library wants rows of an auxiliary matrix a multiple of this apart */

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

bool trm_cuda_blas_check(struct trm_device *dev, const char *what, cublasStatus_t status)
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

static bool is_wide(const void *data)
{
    return (uintptr_t)data % WIDE_BYTES == 0;
}

/* What is beside the product where the library can have it; what it wants of a matrix is in its
 * manual at CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD. Of a vector it wants wide accesses, which no
 * preference tells it that it can't have: its kernels then fault (pytorch#194497). */
static bool fits(const struct trm_cuda_product *p)
{
    const struct trm_tensor aux = p->aux;
    if (!is_wide(p->bias.data))
        return false;
    switch (p->epilogue) {
    case TRM_CUDA_EPILOGUE_NONE:
        return true;
    case TRM_CUDA_EPILOGUE_ROW_SUMS:
        return p->bias.data == NULL && aux.type == p->c.type && is_wide(aux.data);
    default:
        return aux.type == p->c.type && !p->accumulate && aux.stride[1] == 1 && is_wide(aux.data) &&
               aux.stride[0] % AUX_COLUMNS == 0 && aux.stride[0] >= aux.shape[1];
    }
}

static bool set(cublasLtMatmulDescOpaque_t *product, cublasLtMatmulDescAttributes_t attribute,
                const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(product, attribute, value, bytes) ==
           CUBLAS_STATUS_SUCCESS;
}

/* The vector that a product reads or writes besides its matrices: bias, or sums of rows. */
static bool describe_vector(cublasLtMatmulDescOpaque_t *product, const void *data,
                            cudaDataType_t type)
{
    return data == NULL || (set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data, sizeof data) &&
                            set(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
}

static bool describe_aux(cublasLtMatmulDescOpaque_t *product, struct trm_tensor aux)
{
    const int64_t stride = aux.stride[0];
    const cudaDataType_t type = type_of(aux);
    return set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux.data, sizeof aux.data) &&
           set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &stride, sizeof stride) &&
           set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &type, sizeof type);
}

/* Bias and epilogue. Our rows are the library's columns, so the sums of a's rows are those that it
 * makes of its second operand. */
static bool describe_epilogue(const struct trm_cuda_product *p, cublasLtMatmulDescOpaque_t *product)
{
    const bool bias = p->bias.data != NULL;
    const bool sums = p->epilogue == TRM_CUDA_EPILOGUE_ROW_SUMS;
    const bool matrix = p->epilogue != TRM_CUDA_EPILOGUE_NONE && !sums;
    const cublasLtEpilogue_t names[] = {
        [TRM_CUDA_EPILOGUE_NONE] = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT,
        [TRM_CUDA_EPILOGUE_GELU] =
            bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX,
        [TRM_CUDA_EPILOGUE_GELU_SLOPE] = CUBLASLT_EPILOGUE_DGELU,
        [TRM_CUDA_EPILOGUE_ROW_SUMS] = CUBLASLT_EPILOGUE_BGRADB,
    };
    const cublasLtEpilogue_t epilogue = names[p->epilogue];

    return set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           describe_vector(product, sums ? p->aux.data : p->bias.data, type_of(p->c)) &&
           (!matrix || describe_aux(product, p->aux));
}

/* An algorithm may rely on the alignments it was chosen for, so they are part of the form. */
static int64_t form_of(const struct trm_cuda_product *p, const struct trm_cuda_call *call,
                       bool a_transposed, bool b_transposed)
{
    const int64_t narrow = (call->right_bytes < WIDE_BYTES) | (call->left_bytes < WIDE_BYTES) << 1 |
                           (call->out_bytes < WIDE_BYTES) << 2;
    return (int64_t)p->a.type | (int64_t)p->c.type << 4 | (int64_t)a_transposed << 8 |
           (int64_t)b_transposed << 9 | (int64_t)(p->bias.data != NULL) << 10 |
           (int64_t)p->accumulate << 11 | narrow << 12 | (int64_t)p->epilogue << 16;
}

static bool describe(struct trm_device *dev, const struct trm_cuda_product *p,
                     struct trm_cuda_call *call)
{
    const struct stored a = stored_of(p->a), b = stored_of(p->b), c = stored_of(p->c);
    const int64_t a_stride = stride_of(&a), b_stride = stride_of(&b), c_stride = stride_of(&c);
    /* Stored as the view has it, a row-major matrix is its transpose already. */
    const cublasOperation_t left = b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t right = a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;

    TRM_ASSERT(!c.transposed);
    *call = (struct trm_cuda_call){
        .left_data = p->b.data,
        .right_data = p->a.data,
        .out_data = p->c.data,
        .alpha = 1.0f,
        .beta = p->accumulate ? 1.0f : 0.0f,
        .left_bytes = alignment_of(p->b, b_stride),
        .right_bytes = alignment_of(p->a, a_stride),
        .out_bytes = alignment_of(p->c, c_stride),
    };
    call->key = (struct trm_cuda_key){
        .m = p->c.shape[0],
        .n = p->c.shape[1],
        .k = p->a.shape[1],
        .a_stride = a_stride,
        .b_stride = b_stride,
        .c_stride = c_stride,
        .aux_stride = p->epilogue == TRM_CUDA_EPILOGUE_NONE ? 0 : p->aux.stride[0],
        .form = form_of(p, call, a.transposed, b.transposed),
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
        describe_epilogue(p, &call->product))
        return true;
    trm_cuda_fail(dev, TRM_ERR_INTERNAL, "a product of %lld x %lld x %lld could not be described",
                  (long long)call->key.m, (long long)call->key.n, (long long)call->key.k);
    return false;
}

cublasStatus_t trm_cuda_call_run(struct trm_device *dev, const struct trm_cuda_call *call,
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

/* The chosen algorithm, if there is one; `choice` is not NULL. */
static bool run(struct trm_device *dev, const struct trm_cuda_call *call,
                const struct trm_cuda_choice *choice, enum trm_cuda_epilogue epilogue)
{
    cublasLtMatmulAlgo_t algorithm;

    if (choice->found) {
        memcpy(&algorithm, choice->algorithm, sizeof algorithm);
        trm_cuda_blas_check(dev, "matrix product", trm_cuda_call_run(dev, call, &algorithm));
        return true;
    }
    if (epilogue != TRM_CUDA_EPILOGUE_NONE)
        return false;
    trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED,
                  "the matrix library has no way to multiply %lld x %lld x %lld (form %llx)",
                  (long long)call->key.m, (long long)call->key.n, (long long)call->key.k,
                  (unsigned long long)call->key.form);
    return true;
}

bool trm_cuda_multiply(struct trm_device *dev, const struct trm_cuda_product *p)
{
    struct trm_cuda_call call;
    struct trm_cuda_choice room;

    TRM_ASSERT(p->a.dims == 2 && p->b.dims == 2 && p->c.dims == 2);
    TRM_ASSERT(p->a.shape[1] == p->b.shape[0] && p->c.shape[0] == p->a.shape[0] &&
               p->c.shape[1] == p->b.shape[1]);
    if (!takes(dev, p))
        return true;
    if (!fits(p))
        return false;
    if (!describe(dev, p, &call))
        return true;
    const struct trm_cuda_choice *choice = trm_cuda_choose(dev, &call, &room);
    return choice == NULL || run(dev, &call, choice, p->epilogue);
}

void trm_cuda_matmul(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                     struct trm_tensor b, bool accumulate)
{
    struct trm_cuda_product product = {.c = c, .a = a, .b = b, .accumulate = accumulate};
    trm_cuda_multiply(dev, &product);
}
