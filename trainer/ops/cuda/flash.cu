/*
 * Attention by tensor cores (Dao, "FlashAttention-2: faster attention with better parallelism and
 * work partitioning", 2023): scores live in registers, the softmax is renormalised as keys go by.
 *
 * All three kernels have one form. A block of four warps keeps 64 rows: queries in forward and in
 * the gradient of queries, keys in that of keys and values; each warp 16 of them. It walks the
 * other side in tiles, the next one copied while this one is multiplied. The gradients of keys and
 * of queries are two kernels that each compute the scores again: no block adds to what another
 * writes, so there are no atomics and no order to keep, for two products of seven more.
 *
 * Columns are padded to 64 or 128 with zeros. Sums and softmax are float32; probabilities and score
 * gradients are rounded to bfloat16 as operands of products.
 */
#include "trainer/ops/cuda/launch.cuh"
#include "trainer/ops/cuda/mma.cuh"

#define WARPS   4
#define THREADS (WARPS * TRM_WARP)
#define ROWS    64
#define LOG2_E  1.4426950408889634f
#define LN_2    0.69314718055994531f

/* Rows of the tiles that are walked: fewer where a row is wide, for the registers. */
template <int D> struct tile {
    static const int rows = D == 64 ? 64 : 32;
    static const int stride = D + TRM_TILE_PAD;
};

template <int D> struct memory {
    trm_bf16 mine[2][ROWS * tile<D>::stride];
    trm_bf16 theirs[2][2][tile<D>::rows * tile<D>::stride]; /* two stages of two operands */
    float row_values[2][2][tile<D>::rows];                  /* log_sum_exp and delta, by stage */
};

struct arguments {
    trm_rows<const trm_bf16> q, k, v, dout, out;
    trm_rows<trm_bf16> result, dk, dv; /* of forward: out; of backward: dq, dk, dv */
    float *log_sum_exp, *delta;        /* [B H, T]; delta = dout.out */
    struct trm_attention shape;
    int64_t keys;
};

bool trm_cuda_flash_takes(enum trm_type type, const struct trm_attention *shape)
{
    return type == TRM_BF16 && shape->head_size <= 128;
}

/* Does query t see key j? */
static __device__ __forceinline__ bool sees(const arguments &a, int64_t t, int64_t j)
{
    const int64_t last = t + a.shape.position_offset;
    return t < a.shape.seq_length && j < a.keys && j <= last &&
           (a.shape.window == 0 || j > last - a.shape.window);
}

/* Starts the copy of `Rows` rows of a head from row `first`, of which rows before `end` exist. */
template <int D, int Rows>
static __device__ __forceinline__ void
load_tile(trm_bf16 *tile_data, const trm_rows<const trm_bf16> &from, int64_t base, int64_t first,
          int64_t end, int64_t column, int columns)
{
    const bool wide = from.aligned && column % TRM_CHUNK == 0 && columns % TRM_CHUNK == 0;
    for (int i = (int)threadIdx.x; i < Rows * (D / TRM_CHUNK); i += THREADS) {
        const int row = i / (D / TRM_CHUNK), at = i % (D / TRM_CHUNK) * TRM_CHUNK;
        trm_bf16 *to = tile_data + row * tile<D>::stride + at;
        const bool is_zero = first + row >= end || at >= columns;
        const trm_bf16 *source = is_zero ? from.data : from.row(base + first + row) + column + at;
        if (wide || is_zero) {
            trm_copy_async(to, (const trm_bf16 *)((uintptr_t)source & ~(uintptr_t)15), is_zero);
            continue;
        }
        for (int k = 0; k < TRM_CHUNK; k++)
            to[k] = at + k < columns ? source[k] : __float2bfloat16(0.0f);
    }
}

/* Where an accumulator's element lies: [0, 1] and [2, 3] of a column tile. */
static __device__ __forceinline__ int row_of(int i)
{
    return ((int)threadIdx.x / TRM_WARP) * 16 + (int)threadIdx.x % TRM_WARP / 4 + i / 2 * 8;
}
static __device__ __forceinline__ int column_of(int n, int i)
{
    return n * 8 + (int)threadIdx.x % 4 * 2 + i % 2;
}

/* Writes a warp's 16 rows of a 64-row result. */
template <int D>
static __device__ __forceinline__ void
store_rows(const trm_rows<trm_bf16> &to, int64_t base, int64_t first, int64_t end, int64_t column,
           int columns, const float acc[D / 8][4], const float scale[2])
{
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t row = first + row_of(i);
            const int c = column_of(n, i);
            if (row < end && c < columns)
                trm_store(to.row(base + row) + column + c, acc[n][i] * scale[i / 2]);
        }
}

/* The maximum or sum over the four lanes that share a row. */
static __device__ __forceinline__ float row_maximum(float value)
{
    value = fmaxf(value, __shfl_xor_sync(TRM_ALL_LANES, value, 1));
    return fmaxf(value, __shfl_xor_sync(TRM_ALL_LANES, value, 2));
}
static __device__ __forceinline__ float row_sum(float value)
{
    value += __shfl_xor_sync(TRM_ALL_LANES, value, 1);
    return value + __shfl_xor_sync(TRM_ALL_LANES, value, 2);
}

/* The running softmax of a warp's rows, in base 2: this lane's two. */
struct softmax {
    float largest[2], sum[2];
};

/* Turns scores into probabilities against the new maximum, and tells by how much what was summed
 * before shrinks. `sum` is this lane's share. */
template <int N>
static __device__ __forceinline__ void renormalise(float s[N / 8][4], softmax *state,
                                                   float shrink[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = state->largest[half];
#pragma unroll
        for (int n = 0; n < N / 8; n++)
            most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        most = row_maximum(most);
        /* Nothing seen yet: any finite number does. */
        const float base = most == -INFINITY ? 0.0f : most;
        float sum = 0.0f;
        shrink[half] = exp2f(state->largest[half] - base);
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[n][i] = exp2f(s[n][i] - base);
                sum += s[n][i];
            }
        state->sum[half] = state->sum[half] * shrink[half] + sum;
        state->largest[half] = most;
    }
}

/* The tiles of the other side that a block walks. */
struct walk {
    int64_t first, end; /* rows; first is a multiple of the tile's */
};

/* Keys that queries [t, t + ROWS) see. */
template <int D> static __device__ __forceinline__ walk keys_of(const arguments &a, int64_t t)
{
    const int rows = tile<D>::rows;
    const int64_t last_query = t + ROWS < a.shape.seq_length ? t + ROWS : a.shape.seq_length;
    const int64_t end = last_query + a.shape.position_offset;
    int64_t first = t + a.shape.position_offset - a.shape.window + 1;
    first = a.shape.window > 0 && first > 0 ? first / rows * rows : 0;
    return {first, end < a.keys ? end : a.keys};
}

template <int D> static __global__ void __launch_bounds__(THREADS) forward(arguments a)
{
    TRM_SHARED(memory<D>, m);
    const int N = tile<D>::rows, stride = tile<D>::stride, size = a.shape.head_size;
    const int64_t h = blockIdx.y, b = blockIdx.z;
    /* The last queries see the most keys: they start first. */
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * ROWS;
    const int64_t length = a.shape.seq_length, row0 = b * length, key0 = b * a.keys;
    const int64_t column = h * size, kv_column = h / (a.shape.heads / a.shape.kv_heads) * size;
    const int warp_row = (int)threadIdx.x / TRM_WARP * 16;
    const walk keys = keys_of<D>(a, t);
    const float scale = a.shape.scale * LOG2_E;
    float out[D / 8][4] = {};
    softmax state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};

    load_tile<D, ROWS>(m->mine[0], a.q, row0, t, length, column, size);
    load_tile<D, N>(m->theirs[0][0], a.k, key0, keys.first, a.keys, kv_column, size);
    load_tile<D, N>(m->theirs[0][1], a.v, key0, keys.first, a.keys, kv_column, size);
    trm_copy_commit();
    int stage = 0;
    for (int64_t j = keys.first; j < keys.end; j += N, stage ^= 1) {
        if (j + N < keys.end) {
            load_tile<D, N>(m->theirs[stage ^ 1][0], a.k, key0, j + N, a.keys, kv_column, size);
            load_tile<D, N>(m->theirs[stage ^ 1][1], a.v, key0, j + N, a.keys, kv_column, size);
        }
        trm_copy_commit();
        trm_copy_wait<1>();
        __syncthreads();
        float s[N / 8][4] = {}, shrink[2];
        trm_mma_nt<N, D>(s, m->mine[0] + warp_row * stride, m->theirs[stage][0], stride);
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                s[n][i] = sees(a, t + row_of(i), j + column_of(n, i)) ? s[n][i] * scale : -INFINITY;
        renormalise<N>(s, &state, shrink);
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                out[n][i] *= shrink[i / 2];
        trm_mma_nn<D, N>(out, s, m->theirs[stage][1], stride);
        __syncthreads(); /* before the next copy overwrites what was read */
    }
    trm_copy_wait<0>();
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row = t + row_of(2 * half);
        const float sum = row_sum(state.sum[half]);
        inverse[half] = 1.0f / sum;
        if (threadIdx.x % 4 == 0 && row < length)
            a.log_sum_exp[(b * a.shape.heads + h) * length + row] =
                (state.largest[half] + log2f(sum)) * LN_2;
    }
    store_rows<D>(a.result, row0, t, length, column, size, out, inverse);
}

/* delta[B H, T] = dout.out: a warp for each. */
static __global__ void row_products(arguments a)
{
    const int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.y, h = blockIdx.y, b = blockIdx.z;
    const int64_t row = b * a.shape.seq_length + t, column = h * a.shape.head_size;
    if (t >= a.shape.seq_length)
        return;
    float sum = 0.0f;
    for (int d = (int)threadIdx.x; d < a.shape.head_size; d += TRM_WARP)
        sum += trm_load(a.dout.row(row) + column + d) * trm_load(a.out.row(row) + column + d);
    sum = trm_warp_sum(sum);
    if (threadIdx.x == 0)
        a.delta[(b * a.shape.heads + h) * a.shape.seq_length + t] = sum;
}

/* In place: p becomes the probability exp(p - statistic), dp the score's gradient. */
static __device__ __forceinline__ void score_gradient(float *p, float *dp, bool seen, float scale,
                                                      float statistic, float delta)
{
    *p = seen ? exp2f(*p * scale - statistic * LOG2_E) : 0.0f;
    *dp = *p * (*dp - delta);
}

template <int D> static __global__ void __launch_bounds__(THREADS) backward_queries(arguments a)
{
    TRM_SHARED(memory<D>, m);
    const int N = tile<D>::rows, stride = tile<D>::stride, size = a.shape.head_size;
    const int64_t h = blockIdx.y, b = blockIdx.z;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * ROWS;
    const int64_t length = a.shape.seq_length, row0 = b * length, key0 = b * a.keys;
    const int64_t column = h * size, kv_column = h / (a.shape.heads / a.shape.kv_heads) * size;
    const int warp_row = (int)threadIdx.x / TRM_WARP * 16;
    const walk keys = keys_of<D>(a, t);
    const float scale = a.shape.scale * LOG2_E;
    float dq[D / 8][4] = {}, statistic[2], delta[2];

    load_tile<D, ROWS>(m->mine[0], a.q, row0, t, length, column, size);
    load_tile<D, ROWS>(m->mine[1], a.dout, row0, t, length, column, size);
    load_tile<D, N>(m->theirs[0][0], a.k, key0, keys.first, a.keys, kv_column, size);
    load_tile<D, N>(m->theirs[0][1], a.v, key0, keys.first, a.keys, kv_column, size);
    trm_copy_commit();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row = t + row_of(2 * half), at = (b * a.shape.heads + h) * length + row;
        statistic[half] = row < length ? a.log_sum_exp[at] : 0.0f;
        delta[half] = row < length ? a.delta[at] : 0.0f;
    }
    int stage = 0;
    for (int64_t j = keys.first; j < keys.end; j += N, stage ^= 1) {
        if (j + N < keys.end) {
            load_tile<D, N>(m->theirs[stage ^ 1][0], a.k, key0, j + N, a.keys, kv_column, size);
            load_tile<D, N>(m->theirs[stage ^ 1][1], a.v, key0, j + N, a.keys, kv_column, size);
        }
        trm_copy_commit();
        trm_copy_wait<1>();
        __syncthreads();
        float s[N / 8][4] = {}, ds[N / 8][4] = {};
        trm_mma_nt<N, D>(s, m->mine[0] + warp_row * stride, m->theirs[stage][0], stride);
        trm_mma_nt<N, D>(ds, m->mine[1] + warp_row * stride, m->theirs[stage][1], stride);
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                score_gradient(&s[n][i], &ds[n][i], sees(a, t + row_of(i), j + column_of(n, i)),
                               scale, statistic[i / 2], delta[i / 2]);
        trm_mma_nn<D, N>(dq, ds, m->theirs[stage][0], stride);
        __syncthreads();
    }
    trm_copy_wait<0>();
    const float factor[2] = {a.shape.scale, a.shape.scale};
    store_rows<D>(a.result, row0, t, length, column, size, dq, factor);
}

/* Queries [t, t + N) of head h and what belongs to their rows, for the gradients of keys. */
template <int D>
static __device__ __forceinline__ void load_queries(memory<D> *m, int stage, const arguments &a,
                                                    int64_t b, int64_t h, int64_t t)
{
    const int N = tile<D>::rows, size = a.shape.head_size;
    const int64_t length = a.shape.seq_length, column = h * size;
    load_tile<D, N>(m->theirs[stage][0], a.q, b * length, t, length, column, size);
    load_tile<D, N>(m->theirs[stage][1], a.dout, b * length, t, length, column, size);
    for (int i = (int)threadIdx.x; i < N; i += THREADS) {
        const int64_t at = (b * a.shape.heads + h) * length + t + i;
        m->row_values[stage][0][i] = t + i < length ? a.log_sum_exp[at] : 0.0f;
        m->row_values[stage][1][i] = t + i < length ? a.delta[at] : 0.0f;
    }
}

/* Rows are keys here, columns queries: the scores are computed transposed, and so are the operands
 * that dv = P^T dout and dk = dS^T q ask for. The queries of all heads of a group are one walk. */
template <int D> static __global__ void __launch_bounds__(THREADS) backward_keys(arguments a)
{
    TRM_SHARED(memory<D>, m);
    const int N = tile<D>::rows, stride = tile<D>::stride, size = a.shape.head_size;
    const int64_t j = (int64_t)blockIdx.x * ROWS, g = blockIdx.y, b = blockIdx.z;
    const int64_t group = a.shape.heads / a.shape.kv_heads, kv_column = g * size;
    const int64_t length = a.shape.seq_length, key0 = b * a.keys;
    const int warp_row = (int)threadIdx.x / TRM_WARP * 16;
    /* Queries that see any of these keys. */
    const int64_t first = j / N * N;
    const int64_t last = j + ROWS - 1 + a.shape.window;
    const int64_t end = a.shape.window > 0 && last < length ? last : length;
    const int64_t tiles = (end - first + N - 1) / N;
    const float scale = a.shape.scale * LOG2_E;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};

    load_tile<D, ROWS>(m->mine[0], a.k, key0, j, a.keys, kv_column, size);
    load_tile<D, ROWS>(m->mine[1], a.v, key0, j, a.keys, kv_column, size);
    load_queries<D>(m, 0, a, b, g * group, first);
    trm_copy_commit();
    for (int64_t i = 0; i < tiles * group; i++) {
        const int stage = (int)(i % 2);
        const int64_t next = i + 1, t = first + i % tiles * N;
        if (next < tiles * group)
            load_queries<D>(m, stage ^ 1, a, b, g * group + next / tiles, first + next % tiles * N);
        trm_copy_commit();
        trm_copy_wait<1>();
        __syncthreads();
        float p[N / 8][4] = {}, ds[N / 8][4] = {};
        trm_mma_nt<N, D>(p, m->mine[0] + warp_row * stride, m->theirs[stage][0], stride);
        trm_mma_nt<N, D>(ds, m->mine[1] + warp_row * stride, m->theirs[stage][1], stride);
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int c = column_of(n, e);
                score_gradient(&p[n][e], &ds[n][e], sees(a, t + c, j + row_of(e)), scale,
                               m->row_values[stage][0][c], m->row_values[stage][1][c]);
            }
        trm_mma_nn<D, N>(dv, p, m->theirs[stage][1], stride);
        trm_mma_nn<D, N>(dk, ds, m->theirs[stage][0], stride);
        __syncthreads();
    }
    trm_copy_wait<0>();
    const float factor[2] = {a.shape.scale, a.shape.scale}, one[2] = {1.0f, 1.0f};
    store_rows<D>(a.dk, key0, j, a.keys, kv_column, size, dk, factor);
    store_rows<D>(a.dv, key0, j, a.keys, kv_column, size, dv, one);
}

/* Blocks of more than 48 KiB of shared memory must be asked for. */
static bool allow_memory(struct trm_device *dev, void (*kernel)(arguments), size_t bytes)
{
    return trm_cuda_check(dev, "attention's shared memory",
                          cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               (int)bytes));
}

template <int D>
static void launch(struct trm_device *dev, void (*kernel)(arguments), const arguments &a,
                   int64_t rows, int heads)
{
    const arguments copy = a;
    const size_t bytes = sizeof(memory<D>);
    if (dev->error.status != TRM_OK || !allow_memory(dev, kernel, bytes))
        return;
    TRM_LAUNCH(kernel,
               dim3((unsigned)trm_parts(rows, ROWS), (unsigned)heads, (unsigned)a.shape.batch),
               dim3(THREADS), bytes, trm_cuda_of(dev)->stream, copy);
    trm_cuda_launched(dev, "attention");
}

static arguments arguments_of(struct trm_tensor q, struct trm_tensor k, struct trm_tensor v,
                              struct trm_tensor result, struct trm_tensor log_sum_exp,
                              const struct trm_attention *shape)
{
    arguments a = {};
    a.q = trm_rows_of<const trm_bf16>(q);
    a.k = trm_rows_of<const trm_bf16>(k);
    a.v = trm_rows_of<const trm_bf16>(v);
    a.result = trm_rows_of<trm_bf16>(result);
    a.log_sum_exp = static_cast<float *>(log_sum_exp.data);
    a.shape = *shape;
    a.keys = (int64_t)shape->seq_length + shape->position_offset;
    return a;
}

extern "C" void trm_cuda_flash_forward(struct trm_device *dev, struct trm_tensor out,
                                       struct trm_tensor log_sum_exp, struct trm_tensor q,
                                       struct trm_tensor k, struct trm_tensor v,
                                       const struct trm_attention *shape)
{
    const arguments a = arguments_of(q, k, v, out, log_sum_exp, shape);
    if (shape->head_size <= 64)
        launch<64>(dev, forward<64>, a, shape->seq_length, shape->heads);
    else
        launch<128>(dev, forward<128>, a, shape->seq_length, shape->heads);
}

extern "C" void trm_cuda_flash_backward(struct trm_device *dev, struct trm_tensor dq,
                                        struct trm_tensor dk, struct trm_tensor dv,
                                        struct trm_tensor dout, struct trm_tensor q,
                                        struct trm_tensor k, struct trm_tensor v,
                                        struct trm_tensor out, struct trm_tensor log_sum_exp,
                                        const struct trm_attention *shape)
{
    arguments a = arguments_of(q, k, v, dq, log_sum_exp, shape);
    a.dout = trm_rows_of<const trm_bf16>(dout);
    a.out = trm_rows_of<const trm_bf16>(out);
    a.dk = trm_rows_of<trm_bf16>(dk);
    a.dv = trm_rows_of<trm_bf16>(dv);
    a.delta = static_cast<float *>(
        trm_cuda_workspace(dev, "attention_backward", trm_cuda_attention_bytes(shape)));
    if (a.delta == NULL)
        return;
    const arguments copy = a;
    TRM_LAUNCH(row_products,
               dim3((unsigned)trm_parts(shape->seq_length, WARPS), (unsigned)shape->heads,
                    (unsigned)shape->batch),
               dim3(TRM_WARP, WARPS), 0, trm_cuda_of(dev)->stream, copy);
    trm_cuda_launched(dev, "attention_backward");
    if (shape->head_size <= 64) {
        launch<64>(dev, backward_queries<64>, a, shape->seq_length, shape->heads);
        launch<64>(dev, backward_keys<64>, a, shape->seq_length, shape->kv_heads);
    } else {
        launch<128>(dev, backward_queries<128>, a, shape->seq_length, shape->heads);
        launch<128>(dev, backward_keys<128>, a, shape->seq_length, shape->kv_heads);
    }
}
