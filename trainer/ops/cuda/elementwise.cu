/* Zero, copy, sums of two, biases and activations: one read of each operand, one write. */
#include "trainer/ops/cuda/launch.cuh"

#define THREADS 256

struct extent {
    int64_t rows, columns, chunks; /* chunks of eight elements in a row */
};

/* A tensor as rows; one of other than two dimensions is one row and must be contiguous. */
static struct trm_tensor as_matrix(struct trm_tensor t)
{
    if (t.dims == 2) {
        TRM_ASSERT(t.shape[1] <= 1 || t.stride[1] == 1);
        if (!trm_tensor_is_contiguous(t))
            return t;
    }
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    return trm_tensor_2d(t.data, t.type, 1, trm_tensor_elements(t));
}

static bool same_shape(struct trm_tensor a, struct trm_tensor b)
{
    bool same = a.dims == b.dims;
    for (int d = 0; same && d < a.dims; d++)
        same = a.shape[d] == b.shape[d];
    return same;
}

struct sum {
    static __device__ __forceinline__ float of(float a, float b)
    {
        return a + b;
    }
};

struct first {
    static __device__ __forceinline__ float of(float a, float)
    {
        return a;
    }
};

#define GELU_SLOPE 0.79788456080286535588f /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

/* 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)) */
static __device__ __forceinline__ float gelu_gate(float x)
{
    const float u = GELU_SLOPE * (x + GELU_CUBIC * (x * x * x));
    return 1.0f / (1.0f + expf(-2.0f * u));
}

struct gelu {
    static __device__ __forceinline__ float of(float x, float)
    {
        return x * gelu_gate(x);
    }
};

/* The upstream gradient times the slope at `x`. */
struct gelu_gradient {
    static __device__ __forceinline__ float of(float x, float dy)
    {
        const float gate = gelu_gate(x), both = gate * (1.0f - gate);
        const float slope = 2.0f * GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * (x * x));
        /* Where the gate is flat, `slope` may be infinite. */
        return dy * (both == 0.0f ? gate : gate + x * both * slope);
    }
};

struct second {
    static __device__ __forceinline__ float of(float, float b)
    {
        return b;
    }
};

template <typename Out, typename In, typename Function>
static __global__ void combine(trm_rows<Out> out, trm_rows<In> a, trm_rows<In> b, extent size)
{
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= size.rows * size.chunks)
        return;
    const int64_t row = n / size.chunks, column = n % size.chunks * TRM_CHUNK;
    const int64_t count = size.columns - column;
    alignas(16) float x[TRM_CHUNK], y[TRM_CHUNK];
    trm_load8(x, a.row(row) + column, count, a.aligned);
    trm_load8(y, b.row(row) + column, count, b.aligned);
    for (int i = 0; i < TRM_CHUNK; i++)
        x[i] = Function::of(x[i], y[i]);
    trm_store8(out.row(row) + column, x, count, out.aligned);
}

template <typename Function, typename Out, typename In>
static void run(struct trm_device *dev, const char *op, struct trm_tensor out, struct trm_tensor a,
                struct trm_tensor b)
{
    const extent size = {out.shape[0], out.shape[1], trm_parts(out.shape[1], TRM_CHUNK)};
    const int64_t blocks = trm_parts(size.rows * size.chunks, THREADS);
    if (blocks == 0)
        return;
    TRM_LAUNCH((combine<Out, In, Function>), dim3((unsigned)blocks), dim3(THREADS), 0,
               trm_cuda_of(dev)->stream, trm_rows_of<Out>(out), trm_rows_of<In>(a),
               trm_rows_of<In>(b), size);
    trm_cuda_launched(dev, op);
}

/* All operands of one shape and type, as few rows as can be. */
template <typename Function>
static void run_alike(struct trm_device *dev, const char *op, struct trm_tensor out,
                      struct trm_tensor a, struct trm_tensor b)
{
    TRM_ASSERT(same_shape(out, a) && same_shape(out, b));
    if (!trm_cuda_takes(dev, op, out.type, {out, a, b}))
        return;
    if (out.dims != 2 || (trm_tensor_is_contiguous(out) && trm_tensor_is_contiguous(a) &&
                          trm_tensor_is_contiguous(b))) {
        out = as_matrix(out);
        a = as_matrix(a);
        b = as_matrix(b);
    }
    TRM_ASSERT(out.stride[1] == 1 || out.shape[1] <= 1);
    if (out.type == TRM_BF16)
        run<Function, trm_bf16, trm_bf16>(dev, op, out, a, b);
    else
        run<Function, float, float>(dev, op, out, a, b);
}

extern "C" void trm_cuda_zero(struct trm_device *dev, struct trm_tensor t)
{
    if (dev->error.status != TRM_OK)
        return;
    const size_t size = trm_type_bytes(t.type);
    t = as_matrix(t);
    if (t.shape[0] == 1) { /* of any length: a pitch is limited */
        trm_cuda_check(
            dev, "zero",
            cudaMemsetAsync(t.data, 0, (size_t)t.shape[1] * size, trm_cuda_of(dev)->stream));
        return;
    }
    trm_cuda_check(dev, "zero",
                   cudaMemset2DAsync(t.data, (size_t)t.stride[0] * size, 0,
                                     (size_t)t.shape[1] * size, (size_t)t.shape[0],
                                     trm_cuda_of(dev)->stream));
}

extern "C" void trm_cuda_copy(struct trm_device *dev, struct trm_tensor to, struct trm_tensor from)
{
    TRM_ASSERT(same_shape(to, from));
    if (!trm_cuda_takes(dev, "copy", to.type, {to}) ||
        !trm_cuda_takes(dev, "copy", from.type, {from}))
        return;
    if (to.type == from.type) {
        run_alike<first>(dev, "copy", to, from, from);
        return;
    }
    if (to.dims != 2 || (trm_tensor_is_contiguous(to) && trm_tensor_is_contiguous(from))) {
        to = as_matrix(to);
        from = as_matrix(from);
    }
    if (to.type == TRM_BF16)
        run<first, trm_bf16, float>(dev, "copy", to, from, from);
    else
        run<first, float, trm_bf16>(dev, "copy", to, from, from);
}

extern "C" void trm_cuda_add(struct trm_device *dev, struct trm_tensor out, struct trm_tensor a,
                             struct trm_tensor b)
{
    run_alike<sum>(dev, "add", out, a, b);
}

extern "C" void trm_cuda_bias_forward(struct trm_device *dev, struct trm_tensor y,
                                      struct trm_tensor x, struct trm_tensor bias)
{
    TRM_ASSERT(y.dims == 2 && trm_is2(x, y.shape[0], y.shape[1]) && trm_is1(bias, y.shape[1]));
    if (!trm_cuda_takes(dev, "bias_forward", y.type, {y, x, bias}))
        return;
    /* One dimension: all rows are the same. */
    if (y.type == TRM_BF16)
        run<sum, trm_bf16, trm_bf16>(dev, "bias_forward", y, x, bias);
    else
        run<sum, float, float>(dev, "bias_forward", y, x, bias);
}

extern "C" void trm_cuda_activation_forward(struct trm_device *dev, struct trm_tensor y,
                                            struct trm_tensor pre, enum trm_activation activation)
{
    if (activation == TRM_ACT_GELU)
        run_alike<gelu>(dev, "activation_forward", y, pre, pre);
    else
        run_alike<first>(dev, "activation_forward", y, pre, pre);
}

extern "C" void trm_cuda_activation_backward(struct trm_device *dev, struct trm_tensor dpre,
                                             struct trm_tensor dy, struct trm_tensor pre,
                                             enum trm_activation activation)
{
    if (activation == TRM_ACT_GELU)
        run_alike<gelu_gradient>(dev, "activation_backward", dpre, pre, dy);
    else
        run_alike<second>(dev, "activation_backward", dpre, pre, dy);
}
