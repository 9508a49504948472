/*
 * Sums over the rows of a matrix, for the gradients of biases and norms.
 *
 * Rows are cut into parts of a fixed number; a block sums the columns of one part, its row lanes
 * added in order, and a second kernel adds the parts in order. So the bits are a function of the
 * shape, and the matrices are read once.
 */
#include "trainer/ops/cuda/launch.cuh"

#define PART_ROWS      256
#define ROW_LANES      8
#define COLUMN_THREADS 32
#define BLOCK_COLUMNS  (COLUMN_THREADS * TRM_CHUNK)
#define FINISH_THREADS 128

size_t trm_cuda_columns_bytes(int64_t rows, int64_t columns)
{
    return (size_t)(2 * trm_parts(rows, PART_ROWS) * columns) * sizeof(float);
}

/* What is summed: dy alone, or also dy times the normalised x. */
template <typename T> struct terms {
    trm_rows<const T> dy, x;
    const float *mean, *rstd; /* NULL: dy alone */
    int64_t rows, columns;
};

template <typename T>
static __device__ void add_rows(float plain[TRM_CHUNK], float scaled[TRM_CHUNK], const terms<T> &in,
                                int64_t first, int64_t last, int64_t column)
{
    const int64_t count = in.columns - column;
    for (int i = 0; i < TRM_CHUNK; i++)
        plain[i] = scaled[i] = 0.0f;
    for (int64_t n = first + threadIdx.y; n < last && count > 0; n += ROW_LANES) {
        alignas(16) float dy[TRM_CHUNK], x[TRM_CHUNK];
        trm_load8(dy, in.dy.row(n) + column, count, in.dy.aligned);
        for (int i = 0; i < TRM_CHUNK; i++)
            plain[i] += dy[i];
        if (in.mean == NULL)
            continue;
        trm_load8(x, in.x.row(n) + column, count, in.x.aligned);
        for (int i = 0; i < TRM_CHUNK; i++)
            scaled[i] += dy[i] * ((x[i] - in.mean[n]) * in.rstd[n]);
    }
}

/* Adds the row lanes of a block in order; its first lane writes part[column]. */
static __device__ void write_part(float *part, const float mine[TRM_CHUNK], int64_t column,
                                  int64_t columns)
{
    TRM_SHARED(float, lanes); /* [ROW_LANES][BLOCK_COLUMNS] */
    const int at = (int)threadIdx.x * TRM_CHUNK;
    __syncthreads();
    for (int i = 0; i < TRM_CHUNK; i++)
        lanes[(int)threadIdx.y * BLOCK_COLUMNS + at + i] = mine[i];
    __syncthreads();
    if (threadIdx.y != 0)
        return;
    for (int i = 0; i < TRM_CHUNK; i++) {
        float total = 0.0f;
        for (int lane = 0; lane < ROW_LANES; lane++)
            total += lanes[lane * BLOCK_COLUMNS + at + i];
        if (column + i < columns)
            part[column + i] = total;
    }
}

template <typename T>
static __global__ void sum_parts(float *plain_parts, float *scaled_parts, terms<T> in)
{
    const int64_t first = (int64_t)blockIdx.x * PART_ROWS;
    const int64_t last = first + PART_ROWS < in.rows ? first + PART_ROWS : in.rows;
    const int64_t column = (int64_t)blockIdx.y * BLOCK_COLUMNS + threadIdx.x * TRM_CHUNK;
    const int64_t part = (int64_t)blockIdx.x * in.columns;
    float plain[TRM_CHUNK], scaled[TRM_CHUNK];
    add_rows(plain, scaled, in, first, last, column);
    write_part(plain_parts + part, plain, column, in.columns);
    if (in.mean != NULL)
        write_part(scaled_parts + part, scaled, column, in.columns);
}

static __global__ void add_parts(float *out, const float *parts, int64_t part_count,
                                 int64_t columns, bool accumulate)
{
    const int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns)
        return;
    float total = 0.0f;
    for (int64_t part = 0; part < part_count; part++)
        total += parts[part * columns + column];
    out[column] = accumulate ? out[column] + total : total;
}

static void finish(struct trm_device *dev, struct trm_tensor out, const float *parts,
                   int64_t part_count, bool accumulate)
{
    const int64_t columns = out.shape[0];
    float *data = static_cast<float *>(out.data);
    TRM_LAUNCH(add_parts, dim3((unsigned)trm_parts(columns, FINISH_THREADS)), dim3(FINISH_THREADS),
               0, trm_cuda_of(dev)->stream, data, parts, part_count, columns, accumulate);
    trm_cuda_launched(dev, "sums of columns");
}

template <typename T>
static void run(struct trm_device *dev, struct trm_tensor plain, struct trm_tensor scaled,
                const terms<T> &in, bool accumulate)
{
    const int64_t parts = trm_parts(in.rows, PART_ROWS);
    const terms<T> terms = in;
    float *plain_parts = static_cast<float *>(
        trm_cuda_workspace(dev, "sums of columns", trm_cuda_columns_bytes(in.rows, in.columns)));
    float *scaled_parts = plain_parts + parts * in.columns;
    if (plain_parts == NULL || in.rows == 0 || in.columns == 0)
        return;
    TRM_LAUNCH(sum_parts<T>, dim3((unsigned)parts, (unsigned)trm_parts(in.columns, BLOCK_COLUMNS)),
               dim3(COLUMN_THREADS, ROW_LANES), ROW_LANES * BLOCK_COLUMNS * sizeof(float),
               trm_cuda_of(dev)->stream, plain_parts, scaled_parts, terms);
    trm_cuda_launched(dev, "sums of columns");
    finish(dev, plain, plain_parts, parts, accumulate);
    if (scaled.data != NULL)
        finish(dev, scaled, scaled_parts, parts, accumulate);
}

template <typename T>
static void run_typed(struct trm_device *dev, struct trm_tensor plain, struct trm_tensor scaled,
                      struct trm_tensor dy, struct trm_tensor x, const float *mean,
                      const float *rstd, bool accumulate)
{
    const terms<T> in = {
        trm_rows_of<const T>(dy), trm_rows_of<const T>(x), mean, rstd, dy.shape[0], dy.shape[1]};
    run(dev, plain, scaled, in, accumulate);
}

extern "C" void trm_cuda_column_sums(struct trm_device *dev, struct trm_tensor out,
                                     struct trm_tensor dy, bool accumulate)
{
    const struct trm_tensor none = {};
    TRM_ASSERT(dy.dims == 2 && trm_is2(dy, dy.shape[0], dy.shape[1]) && trm_is1(out, dy.shape[1]));
    if (!trm_cuda_takes(dev, "sums of columns", dy.type, {dy}) ||
        !trm_cuda_takes(dev, "sums of columns", TRM_F32, {out}))
        return;
    if (dy.type == TRM_BF16)
        run_typed<trm_bf16>(dev, out, none, dy, none, NULL, NULL, accumulate);
    else
        run_typed<float>(dev, out, none, dy, none, NULL, NULL, accumulate);
}

extern "C" void trm_cuda_bias_backward(struct trm_device *dev, struct trm_tensor dbias,
                                       struct trm_tensor dy)
{
    trm_cuda_column_sums(dev, dbias, dy, true);
}

extern "C" void trm_cuda_norm_sums(struct trm_device *dev, struct trm_tensor dweight,
                                   struct trm_tensor dbias, struct trm_tensor dy,
                                   struct trm_tensor x, struct trm_tensor mean,
                                   struct trm_tensor rstd)
{
    const float *m = static_cast<const float *>(mean.data);
    const float *r = static_cast<const float *>(rstd.data);
    if (dy.type == TRM_BF16)
        run_typed<trm_bf16>(dev, dbias, dweight, dy, x, m, r, true);
    else
        run_typed<float>(dev, dbias, dweight, dy, x, m, r, true);
}
