/*
 * Embeddings by token and by position.
 *
 * The gradient of a table adds rows in ascending order without float atomics: integer atomics,
 * whose order is of no matter, find for each table row its first position and how often it occurs;
 * the block of that first position looks for the others from there on and adds them one by one.
 * Distinct tokens are few, and a block stops at its last occurrence.
 */
#include "trainer/ops/cuda/launch.cuh"

#define THREADS       128
#define BLOCK_COLUMNS (THREADS * TRM_CHUNK)
#define NOWHERE       0x7F7F7F7F /* what cudaMemset makes of the byte 0x7F */

size_t trm_cuda_embedding_bytes(int64_t vocabulary)
{
    return (size_t)(2 * vocabulary) * sizeof(int);
}

/* The row of the table that a token reads, -1 when this rank does not hold it. */
static __device__ __forceinline__ int64_t held_row(const int32_t *tokens, int64_t n,
                                                   int64_t first_row, int64_t held)
{
    const int64_t row = tokens[n] - first_row;
    return row >= 0 && row < held ? row : -1;
}

/* A thread's eight columns of a matrix: its row and where they begin. */
struct spot {
    int64_t row, column;
};

static __device__ __forceinline__ spot spot_of(int64_t columns)
{
    const int64_t chunks = (columns + TRM_CHUNK - 1) / TRM_CHUNK;
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    return {n / chunks, n % chunks * TRM_CHUNK};
}

static dim3 spots(int64_t rows, int64_t columns)
{
    return dim3((unsigned)trm_parts(rows * trm_parts(columns, TRM_CHUNK), THREADS));
}

template <typename T>
static __global__ void look_up(trm_rows<T> x, const int32_t *tokens, trm_rows<const T> table,
                               int64_t rows, int64_t columns, int64_t first_row, int64_t held)
{
    const spot at = spot_of(columns);
    alignas(16) float v[TRM_CHUNK] = {};
    if (at.row >= rows)
        return;
    const int64_t count = columns - at.column;
    const int64_t row = held_row(tokens, at.row, first_row, held);
    if (row >= 0)
        trm_load8(v, table.row(row) + at.column, count, table.aligned);
    trm_store8(x.row(at.row) + at.column, v, count, x.aligned);
}

static __global__ void count_tokens(int *first, int *occurrences, const int32_t *tokens,
                                    int64_t rows, int64_t first_row, int64_t held)
{
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t row = n < rows ? held_row(tokens, n, first_row, held) : -1;
    if (row < 0)
        return;
    atomicMin(&first[row], (int)n);
    atomicAdd(&occurrences[row], 1);
}

/* What the threads of a block find together in one stretch of tokens. */
struct found {
    int position[THREADS];
    int of_warp[THREADS / TRM_WARP];
};

/* Positions in [start, start + THREADS) that read `row`, in ascending order; returns how many. */
static __device__ int find(found *list, const int32_t *tokens, int64_t start, int64_t rows,
                           int64_t first_row, int64_t held, int64_t row)
{
    const int lane = (int)threadIdx.x % TRM_WARP, warp = (int)threadIdx.x / TRM_WARP;
    const int64_t n = start + threadIdx.x;
    const bool hit = n < rows && held_row(tokens, n, first_row, held) == row;
    const unsigned hits = __ballot_sync(TRM_ALL_LANES, hit);
    __syncthreads(); /* the list of the stretch before was read */
    if (lane == 0)
        list->of_warp[warp] = __popc(hits);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < THREADS / TRM_WARP; w++) {
        before += w < warp ? list->of_warp[w] : 0;
        all += list->of_warp[w];
    }
    if (hit)
        list->position[before + __popc(hits & ((1u << lane) - 1))] = (int)n;
    __syncthreads();
    return all;
}

template <typename T>
static __global__ void add_rows(trm_rows<float> dtable, trm_rows<const T> dx, const int32_t *tokens,
                                const int *first, const int *occurrences, int64_t rows,
                                int64_t columns, int64_t first_row, int64_t held)
{
    TRM_SHARED(found, list);
    const int64_t n = blockIdx.x, row = held_row(tokens, n, first_row, held);
    const int64_t column = (int64_t)blockIdx.y * BLOCK_COLUMNS + threadIdx.x * TRM_CHUNK;
    const int64_t count = columns - column;
    if (row < 0 || first[row] != n)
        return;
    alignas(16) float total[TRM_CHUNK], v[TRM_CHUNK];
    if (count > 0)
        trm_load8(total, dtable.row(row) + column, count, dtable.aligned);
    int left = occurrences[row];
    for (int64_t start = n; left > 0; start += THREADS) {
        const int here = find(list, tokens, start, rows, first_row, held, row);
        left -= here;
        for (int i = 0; i < here && count > 0; i++) {
            trm_load8(v, dx.row(list->position[i]) + column, count, dx.aligned);
            for (int k = 0; k < TRM_CHUNK; k++)
                total[k] += v[k];
        }
    }
    if (count > 0)
        trm_store8(dtable.row(row) + column, total, count, dtable.aligned);
}

template <typename T>
static __global__ void add_positions(trm_rows<T> x, trm_rows<const T> table, int64_t rows,
                                     int64_t columns, int64_t seq_length, int64_t position_offset)
{
    const spot at = spot_of(columns);
    alignas(16) float v[TRM_CHUNK], p[TRM_CHUNK];
    if (at.row >= rows)
        return;
    const int64_t count = columns - at.column;
    trm_load8(v, x.row(at.row) + at.column, count, x.aligned);
    trm_load8(p, table.row(position_offset + at.row % seq_length) + at.column, count,
              table.aligned);
    for (int i = 0; i < TRM_CHUNK; i++)
        v[i] += p[i];
    trm_store8(x.row(at.row) + at.column, v, count, x.aligned);
}

template <typename T>
static __global__ void add_batch(trm_rows<float> dtable, trm_rows<const T> dx, int64_t rows,
                                 int64_t columns, int64_t seq_length)
{
    const spot at = spot_of(columns);
    alignas(16) float total[TRM_CHUNK], v[TRM_CHUNK];
    if (at.row >= seq_length)
        return;
    const int64_t count = columns - at.column;
    trm_load8(total, dtable.row(at.row) + at.column, count, dtable.aligned);
    for (int64_t n = at.row; n < rows; n += seq_length) {
        trm_load8(v, dx.row(n) + at.column, count, dx.aligned);
        for (int i = 0; i < TRM_CHUNK; i++)
            total[i] += v[i];
    }
    trm_store8(dtable.row(at.row) + at.column, total, count, dtable.aligned);
}

static void check(struct trm_tensor x, struct trm_tensor table, struct trm_tensor tokens)
{
    TRM_ASSERT(x.dims == 2 && trm_is2(x, x.shape[0], x.shape[1]));
    TRM_ASSERT(trm_is2(table, table.shape[0], x.shape[1]));
    TRM_ASSERT(tokens.type == TRM_I32 && trm_is1(tokens, x.shape[0]));
}

template <typename T>
static void run_look_up(struct trm_device *dev, struct trm_tensor x, struct trm_tensor tokens,
                        struct trm_tensor table, int64_t first_row)
{
    const int32_t *ids = static_cast<const int32_t *>(tokens.data);
    TRM_LAUNCH(look_up<T>, spots(x.shape[0], x.shape[1]), dim3(THREADS), 0,
               trm_cuda_of(dev)->stream, trm_rows_of<T>(x), ids, trm_rows_of<const T>(table),
               x.shape[0], x.shape[1], first_row, table.shape[0]);
    trm_cuda_launched(dev, "embedding_forward");
}

extern "C" void trm_cuda_embedding_forward(struct trm_device *dev, struct trm_tensor x,
                                           struct trm_tensor tokens, struct trm_tensor table,
                                           int64_t first_row)
{
    check(x, table, tokens);
    if (!trm_cuda_takes(dev, "embedding_forward", x.type, {x, table}))
        return;
    if (x.type == TRM_BF16)
        run_look_up<trm_bf16>(dev, x, tokens, table, first_row);
    else
        run_look_up<float>(dev, x, tokens, table, first_row);
}

template <typename T>
static void run_add_rows(struct trm_device *dev, struct trm_tensor dtable, struct trm_tensor dx,
                         struct trm_tensor tokens, int64_t first_row, int *first, int *occurrences)
{
    const int32_t *ids = static_cast<const int32_t *>(tokens.data);
    const int64_t rows = dx.shape[0], columns = dx.shape[1], held = dtable.shape[0];
    TRM_LAUNCH(add_rows<T>, dim3((unsigned)rows, (unsigned)trm_parts(columns, BLOCK_COLUMNS)),
               dim3(THREADS), sizeof(found), trm_cuda_of(dev)->stream, trm_rows_of<float>(dtable),
               trm_rows_of<const T>(dx), ids, first, occurrences, rows, columns, first_row, held);
    trm_cuda_launched(dev, "embedding_backward");
}

extern "C" void trm_cuda_embedding_backward(struct trm_device *dev, struct trm_tensor dtable,
                                            struct trm_tensor dx, struct trm_tensor tokens,
                                            int64_t first_row)
{
    check(dx, dtable, tokens);
    if (!trm_cuda_takes(dev, "embedding_backward", dx.type, {dx}) ||
        !trm_cuda_takes(dev, "embedding_backward", TRM_F32, {dtable}))
        return;
    const int64_t rows = dx.shape[0], held = dtable.shape[0];
    const cudaStream_t stream = trm_cuda_of(dev)->stream;
    const int32_t *ids = static_cast<const int32_t *>(tokens.data);
    int *first = static_cast<int *>(
        trm_cuda_workspace(dev, "embedding_backward", trm_cuda_embedding_bytes(held)));
    int *occurrences = first + held;
    const size_t bytes = (size_t)held * sizeof(int);
    if (first == NULL ||
        !trm_cuda_check(dev, "embedding_backward", cudaMemsetAsync(first, 0x7F, bytes, stream)) ||
        !trm_cuda_check(dev, "embedding_backward", cudaMemsetAsync(occurrences, 0, bytes, stream)))
        return;
    TRM_ASSERT(rows < NOWHERE);
    TRM_LAUNCH(count_tokens, dim3((unsigned)trm_parts(rows, THREADS)), dim3(THREADS), 0, stream,
               first, occurrences, ids, rows, first_row, held);
    trm_cuda_launched(dev, "embedding_backward");
    if (dx.type == TRM_BF16)
        run_add_rows<trm_bf16>(dev, dtable, dx, tokens, first_row, first, occurrences);
    else
        run_add_rows<float>(dev, dtable, dx, tokens, first_row, first, occurrences);
}

template <typename T>
static void run_positions(struct trm_device *dev, struct trm_tensor x, struct trm_tensor table,
                          int64_t seq_length, int64_t position_offset)
{
    TRM_LAUNCH(add_positions<T>, spots(x.shape[0], x.shape[1]), dim3(THREADS), 0,
               trm_cuda_of(dev)->stream, trm_rows_of<T>(x), trm_rows_of<const T>(table), x.shape[0],
               x.shape[1], seq_length, position_offset);
    trm_cuda_launched(dev, "position_forward");
}

extern "C" void trm_cuda_position_forward(struct trm_device *dev, struct trm_tensor x,
                                          struct trm_tensor table, int64_t seq_length,
                                          int64_t position_offset)
{
    TRM_ASSERT(x.dims == 2 && trm_is2(x, x.shape[0], x.shape[1]));
    TRM_ASSERT(trm_is2(table, table.shape[0], x.shape[1]));
    TRM_ASSERT(seq_length > 0 && x.shape[0] % seq_length == 0);
    TRM_ASSERT(position_offset >= 0 && position_offset + seq_length <= table.shape[0]);
    if (!trm_cuda_takes(dev, "position_forward", x.type, {x, table}))
        return;
    if (x.type == TRM_BF16)
        run_positions<trm_bf16>(dev, x, table, seq_length, position_offset);
    else
        run_positions<float>(dev, x, table, seq_length, position_offset);
}

template <typename T>
static void run_batch(struct trm_device *dev, struct trm_tensor dtable, struct trm_tensor dx,
                      int64_t seq_length)
{
    TRM_LAUNCH(add_batch<T>, spots(seq_length, dx.shape[1]), dim3(THREADS), 0,
               trm_cuda_of(dev)->stream, trm_rows_of<float>(dtable), trm_rows_of<const T>(dx),
               dx.shape[0], dx.shape[1], seq_length);
    trm_cuda_launched(dev, "position_backward");
}

extern "C" void trm_cuda_position_backward(struct trm_device *dev, struct trm_tensor dtable,
                                           struct trm_tensor dx, int64_t seq_length)
{
    TRM_ASSERT(dx.dims == 2 && trm_is2(dx, dx.shape[0], dx.shape[1]));
    TRM_ASSERT(trm_is2(dtable, dtable.shape[0], dx.shape[1]));
    TRM_ASSERT(seq_length > 0 && dx.shape[0] % seq_length == 0 && seq_length <= dtable.shape[0]);
    if (!trm_cuda_takes(dev, "position_backward", dx.type, {dx}) ||
        !trm_cuda_takes(dev, "position_backward", TRM_F32, {dtable}))
        return;
    if (dx.type == TRM_BF16)
        run_batch<trm_bf16>(dev, dtable, dx, seq_length);
    else
        run_batch<float>(dev, dtable, dx, seq_length);
}
