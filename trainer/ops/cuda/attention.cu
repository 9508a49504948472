/*
 * Attention without tensor cores: the oracle of flash.cu, and the way of float32 and of heads wider
 * than 128.
 *
 * Forward and the gradient of queries take a warp for each query, the gradients of keys and values
 * one for each key; columns of a head are dealt to the lanes, and the other side is walked in
 * ascending order. So nothing is added by atomics.
 */
#include "trainer/ops/cuda/launch.cuh"

#define WARPS         4
#define LANE_COLUMNS  8 /* of a lane: heads of up to 256 columns */
#define MAX_HEAD_SIZE (LANE_COLUMNS * TRM_WARP)

size_t trm_cuda_attention_bytes(const struct trm_attention *shape)
{
    return (size_t)shape->batch * (size_t)shape->heads * (size_t)shape->seq_length * sizeof(float);
}

template <typename T> struct arguments {
    trm_rows<const T> q, k, v, dout, out;
    trm_rows<T> result, dk, dv; /* of forward: out; of backward: dq, dk, dv */
    float *log_sum_exp, *delta; /* [B H, T]; delta = dout.out */
    struct trm_attention shape;
    int64_t keys;
};

static __device__ __forceinline__ int64_t first_key(const struct trm_attention &shape, int64_t t)
{
    const int64_t first = t + shape.position_offset - shape.window + 1;
    return shape.window > 0 && first > 0 ? first : 0;
}

/* A lane's columns of one head's row. */
template <typename T>
static __device__ __forceinline__ void load_row(float v[LANE_COLUMNS], const T *row, int size)
{
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const int d = i * TRM_WARP + (int)threadIdx.x;
        v[i] = d < size ? trm_load(row + d) : 0.0f;
    }
}

template <typename T>
static __device__ __forceinline__ void store_row(T *row, const float v[LANE_COLUMNS], int size)
{
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const int d = i * TRM_WARP + (int)threadIdx.x;
        if (d < size)
            trm_store(row + d, v[i]);
    }
}

static __device__ __forceinline__ float dot(const float a[LANE_COLUMNS],
                                            const float b[LANE_COLUMNS])
{
    float sum = 0.0f;
    for (int i = 0; i < LANE_COLUMNS; i++)
        sum += a[i] * b[i];
    return trm_warp_sum(sum);
}

/* delta[B H, T] = dout.out: a warp for each. */
template <typename T> static __global__ void row_products(arguments<T> a)
{
    const struct trm_attention s = a.shape;
    const int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.y, h = blockIdx.y, b = blockIdx.z;
    const int64_t row = b * s.seq_length + t;
    if (t >= s.seq_length)
        return;
    float dout[LANE_COLUMNS], out[LANE_COLUMNS];
    load_row(dout, a.dout.row(row) + h * s.head_size, s.head_size);
    load_row(out, a.out.row(row) + h * s.head_size, s.head_size);
    const float delta = dot(dout, out);
    if (threadIdx.x == 0)
        a.delta[(b * s.heads + h) * s.seq_length + t] = delta;
}

template <typename T> static __global__ void forward(arguments<T> a)
{
    const struct trm_attention s = a.shape;
    const int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.y, h = blockIdx.y, b = blockIdx.z;
    const int64_t column = h / (s.heads / s.kv_heads) * s.head_size;
    if (t >= s.seq_length)
        return;
    float q[LANE_COLUMNS], k[LANE_COLUMNS], v[LANE_COLUMNS], out[LANE_COLUMNS] = {};
    float largest = -INFINITY, sum = 0.0f;
    load_row(q, a.q.row(b * s.seq_length + t) + h * s.head_size, s.head_size);
    for (int64_t j = first_key(s, t); j <= t + s.position_offset; j++) {
        load_row(k, a.k.row(b * a.keys + j) + column, s.head_size);
        load_row(v, a.v.row(b * a.keys + j) + column, s.head_size);
        const float score = s.scale * dot(q, k);
        const float next = score > largest ? score : largest;
        const float kept = expf(largest - next), p = expf(score - next);
        for (int i = 0; i < LANE_COLUMNS; i++)
            out[i] = out[i] * kept + p * v[i];
        sum = sum * kept + p;
        largest = next;
    }
    for (int i = 0; i < LANE_COLUMNS; i++)
        out[i] /= sum;
    store_row(a.result.row(b * s.seq_length + t) + h * s.head_size, out, s.head_size);
    if (threadIdx.x == 0)
        a.log_sum_exp[(b * s.heads + h) * s.seq_length + t] = largest + logf(sum);
}

/* dq = scale sum over keys of dS k, where dS = P (dout.v - delta) and P = exp(S - statistic). */
template <typename T> static __global__ void backward_queries(arguments<T> a)
{
    const struct trm_attention s = a.shape;
    const int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.y, h = blockIdx.y, b = blockIdx.z;
    const int64_t row = b * s.seq_length + t;
    const int64_t column = h / (s.heads / s.kv_heads) * s.head_size;
    if (t >= s.seq_length)
        return;
    const float statistic = a.log_sum_exp[(b * s.heads + h) * s.seq_length + t];
    float q[LANE_COLUMNS], dout[LANE_COLUMNS], other[LANE_COLUMNS], dq[LANE_COLUMNS] = {};
    load_row(q, a.q.row(row) + h * s.head_size, s.head_size);
    load_row(dout, a.dout.row(row) + h * s.head_size, s.head_size);
    const float delta = a.delta[(b * s.heads + h) * s.seq_length + t];
    for (int64_t j = first_key(s, t); j <= t; j++) {
        load_row(other, a.v.row(b * a.keys + j) + column, s.head_size);
        const float dp = dot(dout, other);
        load_row(other, a.k.row(b * a.keys + j) + column, s.head_size);
        const float p = expf(s.scale * dot(q, other) - statistic);
        const float ds = s.scale * (p * (dp - delta));
        for (int i = 0; i < LANE_COLUMNS; i++)
            dq[i] += ds * other[i];
    }
    store_row(a.result.row(row) + h * s.head_size, dq, s.head_size);
}

template <typename T> static __global__ void backward_keys(arguments<T> a)
{
    const struct trm_attention s = a.shape;
    const int64_t j = (int64_t)blockIdx.x * WARPS + threadIdx.y, g = blockIdx.y, b = blockIdx.z;
    const int64_t group = s.heads / s.kv_heads, column = g * s.head_size;
    if (j >= a.keys)
        return;
    float k[LANE_COLUMNS], v[LANE_COLUMNS], q[LANE_COLUMNS], dout[LANE_COLUMNS];
    float dk[LANE_COLUMNS] = {}, dv[LANE_COLUMNS] = {};
    load_row(k, a.k.row(b * a.keys + j) + column, s.head_size);
    load_row(v, a.v.row(b * a.keys + j) + column, s.head_size);
    const int64_t end = s.window > 0 && j + s.window < s.seq_length ? j + s.window : s.seq_length;
    for (int64_t h = g * group; h < (g + 1) * group; h++)
        for (int64_t t = j; t < end; t++) {
            const int64_t row = b * s.seq_length + t;
            load_row(q, a.q.row(row) + h * s.head_size, s.head_size);
            load_row(dout, a.dout.row(row) + h * s.head_size, s.head_size);
            const int64_t at = (b * s.heads + h) * s.seq_length + t;
            const float p = expf(s.scale * dot(q, k) - a.log_sum_exp[at]);
            const float ds = s.scale * (p * (dot(dout, v) - a.delta[at]));
            for (int i = 0; i < LANE_COLUMNS; i++) {
                dv[i] += p * dout[i];
                dk[i] += ds * q[i];
            }
        }
    store_row(a.dk.row(b * a.keys + j) + column, dk, s.head_size);
    store_row(a.dv.row(b * a.keys + j) + column, dv, s.head_size);
}

static void check(const struct trm_attention *shape, struct trm_tensor q, struct trm_tensor k,
                  struct trm_tensor v, struct trm_tensor out, struct trm_tensor log_sum_exp)
{
    TRM_ASSERT(shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0);
    const int64_t rows = (int64_t)shape->batch * shape->seq_length;
    const int64_t key_rows = (int64_t)shape->batch * (shape->seq_length + shape->position_offset);
    const int64_t q_columns = (int64_t)shape->heads * shape->head_size;
    const int64_t kv_columns = (int64_t)shape->kv_heads * shape->head_size;
    TRM_ASSERT(trm_is2(q, rows, q_columns) && trm_is2(out, rows, q_columns));
    TRM_ASSERT(trm_is2(k, key_rows, kv_columns) && trm_is2(v, key_rows, kv_columns));
    TRM_ASSERT(trm_is2(log_sum_exp, (int64_t)shape->batch * shape->heads, shape->seq_length) &&
               trm_tensor_is_contiguous(log_sum_exp));
}

static bool has_width(struct trm_device *dev, const struct trm_attention *shape)
{
    if (shape->head_size <= MAX_HEAD_SIZE)
        return true;
    trm_cuda_fail(dev, TRM_ERR_UNSUPPORTED,
                  "attention on the GPU has heads of up to %d columns, "
                  "not %d",
                  MAX_HEAD_SIZE, shape->head_size);
    return false;
}

static dim3 grid_of(int64_t items, int heads, int batch)
{
    return dim3((unsigned)trm_parts(items, WARPS), (unsigned)heads, (unsigned)batch);
}

template <typename T>
static void run_forward(struct trm_device *dev, struct trm_tensor out,
                        struct trm_tensor log_sum_exp, struct trm_tensor q, struct trm_tensor k,
                        struct trm_tensor v, const struct trm_attention *shape)
{
    arguments<T> a = {};
    a.q = trm_rows_of<const T>(q);
    a.k = trm_rows_of<const T>(k);
    a.v = trm_rows_of<const T>(v);
    a.result = trm_rows_of<T>(out);
    a.log_sum_exp = static_cast<float *>(log_sum_exp.data);
    a.shape = *shape;
    a.keys = (int64_t)shape->seq_length + shape->position_offset;
    TRM_LAUNCH(forward<T>, grid_of(a.shape.seq_length, a.shape.heads, a.shape.batch),
               dim3(TRM_WARP, WARPS), 0, trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "attention_forward");
}

extern "C" void trm_cuda_attention_forward(struct trm_device *dev, struct trm_tensor out,
                                           struct trm_tensor log_sum_exp, struct trm_tensor q,
                                           struct trm_tensor k, struct trm_tensor v,
                                           const struct trm_attention *shape)
{
    check(shape, q, k, v, out, log_sum_exp);
    if (!trm_cuda_takes(dev, "attention_forward", q.type, {q, k, v, out}) ||
        !trm_cuda_takes(dev, "attention_forward", TRM_F32, {log_sum_exp}) || !has_width(dev, shape))
        return;
    if (trm_cuda_flash_takes(q.type, shape))
        trm_cuda_flash_forward(dev, out, log_sum_exp, q, k, v, shape);
    else if (q.type == TRM_BF16)
        run_forward<trm_bf16>(dev, out, log_sum_exp, q, k, v, shape);
    else
        run_forward<float>(dev, out, log_sum_exp, q, k, v, shape);
}

template <typename T>
static void run_backward(struct trm_device *dev, struct trm_tensor dq, struct trm_tensor dk,
                         struct trm_tensor dv, struct trm_tensor dout, struct trm_tensor q,
                         struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                         struct trm_tensor log_sum_exp, const struct trm_attention *shape,
                         float *delta)
{
    const arguments<T> a = {trm_rows_of<const T>(q),
                            trm_rows_of<const T>(k),
                            trm_rows_of<const T>(v),
                            trm_rows_of<const T>(dout),
                            trm_rows_of<const T>(out),
                            trm_rows_of<T>(dq),
                            trm_rows_of<T>(dk),
                            trm_rows_of<T>(dv),
                            static_cast<float *>(log_sum_exp.data),
                            delta,
                            *shape,
                            shape->seq_length};
    const cudaStream_t stream = trm_cuda_of(dev)->stream;
    TRM_LAUNCH(row_products<T>, grid_of(a.keys, a.shape.heads, a.shape.batch),
               dim3(TRM_WARP, WARPS), 0, stream, a);
    trm_cuda_launched(dev, "attention_backward");
    TRM_LAUNCH(backward_queries<T>, grid_of(a.keys, a.shape.heads, a.shape.batch),
               dim3(TRM_WARP, WARPS), 0, stream, a);
    trm_cuda_launched(dev, "attention_backward");
    TRM_LAUNCH(backward_keys<T>, grid_of(a.keys, a.shape.kv_heads, a.shape.batch),
               dim3(TRM_WARP, WARPS), 0, stream, a);
    trm_cuda_launched(dev, "attention_backward");
}

extern "C" void trm_cuda_attention_backward(struct trm_device *dev, struct trm_tensor dq,
                                            struct trm_tensor dk, struct trm_tensor dv,
                                            struct trm_tensor dout, struct trm_tensor q,
                                            struct trm_tensor k, struct trm_tensor v,
                                            struct trm_tensor out, struct trm_tensor log_sum_exp,
                                            const struct trm_attention *shape)
{
    TRM_ASSERT(shape->position_offset == 0);
    check(shape, q, k, v, out, log_sum_exp);
    check(shape, dq, dk, dv, dout, log_sum_exp);
    if (!trm_cuda_takes(dev, "attention_backward", q.type, {q, k, v, out, dout, dq, dk, dv}) ||
        !trm_cuda_takes(dev, "attention_backward", TRM_F32, {log_sum_exp}) ||
        !has_width(dev, shape))
        return;
    if (trm_cuda_flash_takes(q.type, shape)) {
        trm_cuda_flash_backward(dev, dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape);
        return;
    }
    float *delta = static_cast<float *>(
        trm_cuda_workspace(dev, "attention_backward", trm_cuda_attention_bytes(shape)));
    if (delta == NULL)
        return;
    if (q.type == TRM_BF16)
        run_backward<trm_bf16>(dev, dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape, delta);
    else
        run_backward<float>(dev, dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape, delta);
}
