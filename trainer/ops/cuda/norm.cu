/* Layer norm, alone or of a sum of two: a warp for each row, which stays in the first-level cache
 * between its passes. */
#include "trainer/ops/cuda/launch.cuh"

#define ROWS_OF_BLOCK 8
#define STRIDE        (TRM_WARP * TRM_CHUNK)

template <typename T> struct forward_arguments {
    trm_rows<T> y, x; /* x is written when it is the sum of `stream` and `branch` */
    trm_rows<const T> stream, branch, weight, bias;
    float *mean, *rstd;
    int64_t rows, columns;
    float epsilon;
};

/* Eight elements of x at column c; RESIDUAL: computed, and stored, as `add` does it. A later pass
 * reads what the same thread stored. */
template <typename T, bool RESIDUAL>
static __device__ __forceinline__ void first_load(float x[TRM_CHUNK], const forward_arguments<T> &a,
                                                  int64_t n, int64_t c)
{
    const int64_t count = a.columns - c;
    if (!RESIDUAL) {
        trm_load8(x, a.x.row(n) + c, count, a.x.aligned);
        return;
    }
    alignas(16) float branch[TRM_CHUNK];
    trm_load8(x, a.stream.row(n) + c, count, a.stream.aligned);
    trm_load8(branch, a.branch.row(n) + c, count, a.branch.aligned);
    for (int i = 0; i < TRM_CHUNK; i++)
        x[i] = trm_round<T>(x[i] + branch[i]);
    trm_store8(a.x.row(n) + c, x, count, a.x.aligned);
}

template <typename T, bool RESIDUAL> static __global__ void forward(forward_arguments<T> a)
{
    const int64_t n = (int64_t)blockIdx.x * ROWS_OF_BLOCK + threadIdx.y;
    const int64_t start = threadIdx.x * TRM_CHUNK;
    if (n >= a.rows)
        return;
    alignas(16) float x[TRM_CHUNK], w[TRM_CHUNK], b[TRM_CHUNK];
    float sum = 0.0f, squares = 0.0f;
    for (int64_t c = start; c < a.columns; c += STRIDE) {
        first_load<T, RESIDUAL>(x, a, n, c);
        for (int i = 0; i < TRM_CHUNK; i++)
            sum += x[i];
    }
    const float mean = trm_warp_sum(sum) / (float)a.columns;
    for (int64_t c = start; c < a.columns; c += STRIDE) {
        const int64_t count = a.columns - c;
        trm_load8(x, a.x.row(n) + c, count, a.x.aligned);
        for (int i = 0; i < TRM_CHUNK; i++) {
            const float d = i < count ? x[i] - mean : 0.0f;
            squares += d * d;
        }
    }
    const float rstd = 1.0f / sqrtf(trm_warp_sum(squares) / (float)a.columns + a.epsilon);
    for (int64_t c = start; c < a.columns; c += STRIDE) {
        const int64_t count = a.columns - c;
        trm_load8(x, a.x.row(n) + c, count, a.x.aligned);
        trm_load8(w, a.weight.data + c, count, a.weight.aligned);
        trm_load8(b, a.bias.data + c, count, a.bias.aligned);
        for (int i = 0; i < TRM_CHUNK; i++)
            x[i] = (x[i] - mean) * rstd * w[i] + b[i];
        trm_store8(a.y.row(n) + c, x, count, a.y.aligned);
    }
    if (threadIdx.x == 0) {
        a.mean[n] = mean;
        a.rstd[n] = rstd;
    }
}

template <typename T> struct backward_arguments {
    trm_rows<T> dx;
    trm_rows<const T> dy, x, weight;
    const float *mean, *rstd;
    int64_t rows, columns;
};

/* dx += rstd (g - mean(g) - xhat mean(g xhat)), where g = dy weight. */
template <typename T> static __global__ void backward(backward_arguments<T> a)
{
    const int64_t n = (int64_t)blockIdx.x * ROWS_OF_BLOCK + threadIdx.y;
    const int64_t start = threadIdx.x * TRM_CHUNK;
    if (n >= a.rows)
        return;
    const float mean = a.mean[n], rstd = a.rstd[n];
    alignas(16) float dy[TRM_CHUNK], x[TRM_CHUNK], w[TRM_CHUNK], dx[TRM_CHUNK];
    float sum = 0.0f, scaled = 0.0f;
    for (int64_t c = start; c < a.columns; c += STRIDE) {
        const int64_t count = a.columns - c;
        trm_load8(dy, a.dy.row(n) + c, count, a.dy.aligned);
        trm_load8(x, a.x.row(n) + c, count, a.x.aligned);
        trm_load8(w, a.weight.data + c, count, a.weight.aligned);
        for (int i = 0; i < TRM_CHUNK; i++) {
            const float g = dy[i] * w[i];
            sum += g;
            scaled += g * ((x[i] - mean) * rstd);
        }
    }
    const float g_mean = trm_warp_sum(sum) / (float)a.columns;
    const float g_scaled = trm_warp_sum(scaled) / (float)a.columns;
    for (int64_t c = start; c < a.columns; c += STRIDE) {
        const int64_t count = a.columns - c;
        trm_load8(dy, a.dy.row(n) + c, count, a.dy.aligned);
        trm_load8(x, a.x.row(n) + c, count, a.x.aligned);
        trm_load8(w, a.weight.data + c, count, a.weight.aligned);
        trm_load8(dx, a.dx.row(n) + c, count, a.dx.aligned);
        for (int i = 0; i < TRM_CHUNK; i++)
            dx[i] += rstd * (dy[i] * w[i] - g_mean - (x[i] - mean) * rstd * g_scaled);
        trm_store8(a.dx.row(n) + c, dx, count, a.dx.aligned);
    }
}

static bool is_layer_norm(struct trm_device *dev, enum trm_norm kind)
{
    if (kind == TRM_NORM_LAYER)
        return true;
    trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED, "the GPU device has no norm of kind %d", (int)kind);
    return false;
}

template <typename T>
static void run_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                        struct trm_tensor stream, struct trm_tensor branch, struct trm_tensor mean,
                        struct trm_tensor rstd, struct trm_tensor weight, struct trm_tensor bias,
                        float epsilon)
{
    const forward_arguments<T> a = {trm_rows_of<T>(y),
                                    trm_rows_of<T>(x),
                                    trm_rows_of<const T>(stream),
                                    trm_rows_of<const T>(branch),
                                    trm_rows_of<const T>(weight),
                                    trm_rows_of<const T>(bias),
                                    static_cast<float *>(mean.data),
                                    static_cast<float *>(rstd.data),
                                    x.shape[0],
                                    x.shape[1],
                                    epsilon};
    const dim3 grid((unsigned)trm_parts(a.rows, ROWS_OF_BLOCK)), block(TRM_WARP, ROWS_OF_BLOCK);
    if (branch.data != NULL)
        TRM_LAUNCH((forward<T, true>), grid, block, 0, trm_cuda_of(dev)->stream, a);
    else
        TRM_LAUNCH((forward<T, false>), grid, block, 0, trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "norm_forward");
}

/* `stream` and `branch` without data: of x as it is. */
static void norm_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                         struct trm_tensor stream, struct trm_tensor branch, struct trm_tensor mean,
                         struct trm_tensor rstd, struct trm_tensor weight, struct trm_tensor bias,
                         enum trm_norm kind, float epsilon)
{
    TRM_ASSERT(x.dims == 2);
    const int64_t rows = x.shape[0], columns = x.shape[1];
    TRM_ASSERT(trm_is2(x, rows, columns) && trm_is2(y, rows, columns));
    TRM_ASSERT(trm_is1(mean, rows) && trm_is1(rstd, rows));
    TRM_ASSERT(trm_is1(weight, columns) && trm_is1(bias, columns));
    TRM_ASSERT(branch.data == NULL ||
               (trm_is2(stream, rows, columns) && trm_is2(branch, rows, columns)));
    if (!is_layer_norm(dev, kind) ||
        !trm_cuda_takes(dev, "norm_forward", x.type, {y, x, stream, branch, weight, bias}) ||
        !trm_cuda_takes(dev, "norm_forward", TRM_F32, {mean, rstd}))
        return;
    if (x.type == TRM_BF16)
        run_forward<trm_bf16>(dev, y, x, stream, branch, mean, rstd, weight, bias, epsilon);
    else
        run_forward<float>(dev, y, x, stream, branch, mean, rstd, weight, bias, epsilon);
}

extern "C" void trm_cuda_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                      struct trm_tensor mean, struct trm_tensor rstd,
                                      struct trm_tensor x, struct trm_tensor weight,
                                      struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    const struct trm_tensor none = {};
    norm_forward(dev, y, x, none, none, mean, rstd, weight, bias, kind, epsilon);
}

extern "C" void trm_cuda_residual_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                               struct trm_tensor total, struct trm_tensor mean,
                                               struct trm_tensor rstd, struct trm_tensor x,
                                               struct trm_tensor branch, struct trm_tensor weight,
                                               struct trm_tensor bias, enum trm_norm kind,
                                               float epsilon)
{
    norm_forward(dev, y, total, x, branch, mean, rstd, weight, bias, kind, epsilon);
}

template <typename T>
static void run_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dy,
                         struct trm_tensor x, struct trm_tensor mean, struct trm_tensor rstd,
                         struct trm_tensor weight)
{
    const backward_arguments<T> a = {trm_rows_of<T>(dx),
                                     trm_rows_of<const T>(dy),
                                     trm_rows_of<const T>(x),
                                     trm_rows_of<const T>(weight),
                                     static_cast<const float *>(mean.data),
                                     static_cast<const float *>(rstd.data),
                                     x.shape[0],
                                     x.shape[1]};
    TRM_LAUNCH(backward<T>, dim3((unsigned)trm_parts(a.rows, ROWS_OF_BLOCK)),
               dim3(TRM_WARP, ROWS_OF_BLOCK), 0, trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "norm_backward");
}

extern "C" void trm_cuda_norm_backward(struct trm_device *dev, struct trm_tensor dx,
                                       struct trm_tensor dweight, struct trm_tensor dbias,
                                       struct trm_tensor dy, struct trm_tensor x,
                                       struct trm_tensor mean, struct trm_tensor rstd,
                                       struct trm_tensor weight, enum trm_norm kind)
{
    TRM_ASSERT(x.dims == 2);
    const int64_t rows = x.shape[0], columns = x.shape[1];
    TRM_ASSERT(trm_is2(x, rows, columns) && trm_is2(dx, rows, columns) &&
               trm_is2(dy, rows, columns));
    TRM_ASSERT(trm_is1(mean, rows) && trm_is1(rstd, rows) && trm_is1(weight, columns));
    TRM_ASSERT(trm_is1(dweight, columns) && trm_is1(dbias, columns));
    if (!is_layer_norm(dev, kind) ||
        !trm_cuda_takes(dev, "norm_backward", x.type, {dx, dy, x, weight}) ||
        !trm_cuda_takes(dev, "norm_backward", TRM_F32, {dweight, dbias, mean, rstd}))
        return;
    trm_cuda_norm_sums(dev, dweight, dbias, dy, x, mean, rstd);
    if (x.type == TRM_BF16)
        run_backward<trm_bf16>(dev, dx, dy, x, mean, rstd, weight);
    else
        run_backward<float>(dev, dx, dy, x, mean, rstd, weight);
}
