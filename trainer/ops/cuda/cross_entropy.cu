/*
 * Cross-entropy over a vocabulary that may be split over ranks: a block for each row.
 *
 * In one pass, a row stays in the block's shared memory from its maximum to its gradient, when it
 * fits there: a vocabulary of 50,000 in bfloat16 does, on every GPU from sm_80 on. A longer row is
 * read again, through the second-level cache.
 */
#include "trainer/ops/cuda/launch.cuh"

#define THREADS     512
#define WARPS       (THREADS / TRM_WARP)
#define STRIDE      (THREADS * TRM_CHUNK)
#define SCRATCH     (WARPS * sizeof(float))
#define STAGE_BYTES (99 * 1024 - SCRATCH) /* 99 KiB: what a block of sm_86 and sm_89 may have */

template <typename T> struct arguments {
    trm_rows<T> logits;
    int64_t columns, valid, first_row;
    const int32_t *targets;
    float *maximum, *sums, *loss;
    int64_t rows;
};

/* The target's column here; -1 when another rank holds it. */
template <typename T>
static __device__ __forceinline__ int64_t target_column(const arguments<T> &a, int64_t n)
{
    const int64_t column = a.targets[n] - a.first_row;
    return column >= 0 && column < a.valid ? column : -1;
}

/* A NaN must not be passed over. */
static __device__ __forceinline__ float larger(float a, float b)
{
    return a > b || isnan(a) ? a : b;
}

struct add {
    static __device__ __forceinline__ float of(float a, float b)
    {
        return a + b;
    }
};

struct most {
    static __device__ __forceinline__ float of(float a, float b)
    {
        return larger(a, b);
    }
};

/* `value` of all threads combined in a fixed tree, in every thread. */
template <typename Combine> static __device__ float of_block(float value)
{
    TRM_SHARED(float, warps); /* [WARPS] */
    for (int mask = TRM_WARP / 2; mask > 0; mask /= 2)
        value = Combine::of(value, __shfl_xor_sync(TRM_ALL_LANES, value, mask));
    __syncthreads(); /* nobody reads an earlier result any more */
    if (threadIdx.x % TRM_WARP == 0)
        warps[threadIdx.x / TRM_WARP] = value;
    __syncthreads();
    float total = warps[0];
    for (int i = 1; i < WARPS; i++)
        total = Combine::of(total, warps[i]);
    return total;
}

/* Largest of eight logits from column c on and `largest`; padding does not count. */
template <typename T>
static __device__ __forceinline__ float larger_of(const arguments<T> &a, const float v[TRM_CHUNK],
                                                  int64_t c, float largest)
{
    for (int i = 0; i < TRM_CHUNK; i++)
        largest = c + i < a.valid ? larger(v[i], largest) : largest;
    return largest;
}

/* The sum of exponentials over the block, of logits that `load` gives. */
template <typename T, typename Load>
static __device__ __forceinline__ float sum_of_row(const arguments<T> &a, float maximum, Load load)
{
    alignas(16) float v[TRM_CHUNK];
    float sum = 0.0f;
    for (int64_t c = threadIdx.x * TRM_CHUNK; c < a.valid; c += STRIDE) {
        load(v, c);
        for (int i = 0; i < TRM_CHUNK; i++)
            sum += c + i < a.valid ? expf(v[i] - maximum) : 0.0f;
    }
    return of_block<add>(sum);
}

template <typename T, typename Load>
static __device__ __forceinline__ void write_gradient(const arguments<T> &a, int64_t n,
                                                      float maximum, float sum, Load load)
{
    const int64_t target = target_column(a, n);
    alignas(16) float v[TRM_CHUNK];
    for (int64_t c = threadIdx.x * TRM_CHUNK; c < a.columns; c += STRIDE) {
        load(v, c);
        for (int i = 0; i < TRM_CHUNK; i++) {
            const float one = c + i == target ? 1.0f : 0.0f;
            v[i] = c + i < a.valid ? expf(v[i] - maximum) / sum - one : 0.0f;
        }
        trm_store8(a.logits.row(n) + c, v, a.columns - c, a.logits.aligned);
    }
}

/* From memory. */
template <typename T> struct from_row {
    const arguments<T> &a;
    const T *row;

    __device__ __forceinline__ void operator()(float v[TRM_CHUNK], int64_t c) const
    {
        trm_load8(v, row + c, a.columns - c, a.logits.aligned);
    }
};

/* From shared memory, of what the same thread put there. */
template <typename T> struct from_stage {
    const T *stage;

    __device__ __forceinline__ void operator()(float v[TRM_CHUNK], int64_t c) const
    {
        trm_load_wide(v, stage + c);
    }
};

/* The row's maximum; with a stage, the row is left there. */
template <typename T>
static __device__ __forceinline__ float maximum_of(const arguments<T> &a, const from_row<T> &load,
                                                   T *stage)
{
    alignas(16) float v[TRM_CHUNK];
    float largest = -INFINITY;
    for (int64_t c = threadIdx.x * TRM_CHUNK; c < (stage ? a.columns : a.valid); c += STRIDE) {
        load(v, c);
        if (stage)
            trm_store_wide(stage + c, v);
        largest = larger_of(a, v, c, largest);
    }
    return of_block<most>(largest);
}

template <typename T>
static __global__ void whole_row(arguments<T> a, bool staged, bool want_gradient)
{
    TRM_SHARED(float, scratch); /* [WARPS], and the row */
    const int64_t n = blockIdx.x, target = target_column(a, n);
    const from_row<T> load = {a, a.logits.row(n)};
    T *stage = staged ? reinterpret_cast<T *>(scratch + WARPS) : NULL;
    const from_stage<T> again = {stage};
    /* Before any thread writes a gradient. */
    const float logit = target < 0 ? 0.0f : trm_load(load.row + target);
    const float maximum = maximum_of(a, load, stage);
    const float sum = staged ? sum_of_row(a, maximum, again) : sum_of_row(a, maximum, load);
    if (threadIdx.x == 0)
        a.loss[n] = logf(sum) - (target < 0 ? 0.0f : logit - maximum);
    if (want_gradient && staged)
        write_gradient(a, n, maximum, sum, again);
    else if (want_gradient)
        write_gradient(a, n, maximum, sum, load);
}

template <typename T> static __global__ void maximum_of_row(arguments<T> a)
{
    const int64_t n = blockIdx.x;
    const from_row<T> load = {a, a.logits.row(n)};
    const float maximum = maximum_of<T>(a, load, NULL);
    if (threadIdx.x == 0)
        a.maximum[n] = maximum;
}

template <typename T> static __global__ void sums_of_row(arguments<T> a)
{
    const int64_t n = blockIdx.x;
    const float maximum = a.maximum[n];
    const from_row<T> load = {a, a.logits.row(n)};
    const float sum = sum_of_row(a, maximum, load);
    if (threadIdx.x != 0)
        return;
    const int64_t target = target_column(a, n);
    a.sums[n] = sum;
    a.sums[a.rows + n] = target < 0 ? 0.0f : trm_load(load.row + target) - maximum;
}

template <typename T> static __global__ void gradient_of_row(arguments<T> a, bool want_gradient)
{
    const int64_t n = blockIdx.x;
    const float maximum = a.maximum[n], sum = a.sums[n];
    const from_row<T> load = {a, a.logits.row(n)};
    if (threadIdx.x == 0)
        a.loss[n] = logf(sum) - a.sums[a.rows + n];
    if (want_gradient)
        write_gradient(a, n, maximum, sum, load);
}

template <typename T>
static arguments<T> arguments_of(struct trm_tensor logits, struct trm_tensor maximum,
                                 struct trm_tensor sums, struct trm_tensor loss,
                                 struct trm_tensor targets, int64_t first_row, int64_t valid)
{
    return {trm_rows_of<T>(logits),
            logits.shape[1],
            valid,
            first_row,
            static_cast<const int32_t *>(targets.data),
            static_cast<float *>(maximum.data),
            static_cast<float *>(sums.data),
            static_cast<float *>(loss.data),
            logits.shape[0]};
}

static void check(struct trm_tensor logits, struct trm_tensor row_values, int64_t valid)
{
    TRM_ASSERT(logits.dims == 2 && trm_is2(logits, logits.shape[0], logits.shape[1]));
    TRM_ASSERT(valid >= 0 && valid <= logits.shape[1] && trm_is1(row_values, logits.shape[0]));
}

static void check_targets(struct trm_tensor logits, struct trm_tensor sums,
                          struct trm_tensor targets)
{
    TRM_ASSERT(trm_is2(sums, 2, logits.shape[0]) && trm_tensor_is_contiguous(sums));
    TRM_ASSERT(targets.type == TRM_I32 && trm_is1(targets, logits.shape[0]));
}

template <typename T>
static void run_whole(struct trm_device *dev, struct trm_tensor loss, struct trm_tensor logits,
                      struct trm_tensor targets, int64_t valid, bool want_gradient)
{
    const struct trm_tensor none = {};
    const arguments<T> a = arguments_of<T>(logits, none, none, loss, targets, 0, valid);
    const size_t row_bytes = (size_t)trm_parts(a.columns, TRM_CHUNK) * TRM_CHUNK * sizeof(T);
    const bool staged = row_bytes <= STAGE_BYTES;
    const size_t shared_bytes = SCRATCH + (staged ? row_bytes : 0);
    /* Blocks of more than 48 KiB of shared memory must be asked for. */
    if (!trm_cuda_check(dev, "cross_entropy",
                        cudaFuncSetAttribute(reinterpret_cast<const void *>(whole_row<T>),
                                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             (int)(SCRATCH + STAGE_BYTES))))
        return;
    TRM_LAUNCH(whole_row<T>, dim3((unsigned)a.rows), dim3(THREADS), shared_bytes,
               trm_cuda_of(dev)->stream, a, staged, want_gradient);
    trm_cuda_launched(dev, "cross_entropy");
}

extern "C" void trm_cuda_cross_entropy(struct trm_device *dev, struct trm_tensor loss,
                                       struct trm_tensor logits, struct trm_tensor targets,
                                       int64_t valid, bool want_gradient)
{
    check(logits, loss, valid);
    TRM_ASSERT(targets.type == TRM_I32 && trm_is1(targets, logits.shape[0]));
    if (!trm_cuda_takes(dev, "cross_entropy", logits.type, {logits}) ||
        !trm_cuda_takes(dev, "cross_entropy", TRM_F32, {loss}))
        return;
    if (logits.type == TRM_BF16)
        run_whole<trm_bf16>(dev, loss, logits, targets, valid, want_gradient);
    else
        run_whole<float>(dev, loss, logits, targets, valid, want_gradient);
}

template <typename T>
static void run_maximum(struct trm_device *dev, struct trm_tensor maximum, struct trm_tensor logits,
                        int64_t valid)
{
    const struct trm_tensor none = {};
    const arguments<T> a = arguments_of<T>(logits, maximum, none, none, none, 0, valid);
    TRM_LAUNCH(maximum_of_row<T>, dim3((unsigned)logits.shape[0]), dim3(THREADS), SCRATCH,
               trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "cross_entropy_maximum");
}

extern "C" void trm_cuda_cross_entropy_maximum(struct trm_device *dev, struct trm_tensor maximum,
                                               struct trm_tensor logits, int64_t valid)
{
    check(logits, maximum, valid);
    if (!trm_cuda_takes(dev, "cross_entropy_maximum", logits.type, {logits}) ||
        !trm_cuda_takes(dev, "cross_entropy_maximum", TRM_F32, {maximum}))
        return;
    if (logits.type == TRM_BF16)
        run_maximum<trm_bf16>(dev, maximum, logits, valid);
    else
        run_maximum<float>(dev, maximum, logits, valid);
}

template <typename T>
static void run_sums(struct trm_device *dev, struct trm_tensor sums, struct trm_tensor logits,
                     struct trm_tensor maximum, struct trm_tensor targets, int64_t first_row,
                     int64_t valid)
{
    const struct trm_tensor none = {};
    const arguments<T> a = arguments_of<T>(logits, maximum, sums, none, targets, first_row, valid);
    TRM_LAUNCH(sums_of_row<T>, dim3((unsigned)logits.shape[0]), dim3(THREADS), SCRATCH,
               trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "cross_entropy_sums");
}

extern "C" void trm_cuda_cross_entropy_sums(struct trm_device *dev, struct trm_tensor sums,
                                            struct trm_tensor logits, struct trm_tensor maximum,
                                            struct trm_tensor targets, int64_t first_row,
                                            int64_t valid)
{
    check(logits, maximum, valid);
    check_targets(logits, sums, targets);
    if (!trm_cuda_takes(dev, "cross_entropy_sums", logits.type, {logits}) ||
        !trm_cuda_takes(dev, "cross_entropy_sums", TRM_F32, {sums, maximum}))
        return;
    if (logits.type == TRM_BF16)
        run_sums<trm_bf16>(dev, sums, logits, maximum, targets, first_row, valid);
    else
        run_sums<float>(dev, sums, logits, maximum, targets, first_row, valid);
}

template <typename T>
static void run_gradient(struct trm_device *dev, const arguments<T> &arguments, bool want_gradient)
{
    const auto a = arguments;
    TRM_LAUNCH(gradient_of_row<T>, dim3((unsigned)a.rows), dim3(THREADS), 0,
               trm_cuda_of(dev)->stream, a, want_gradient);
    trm_cuda_launched(dev, "cross_entropy_gradient");
}

extern "C" void trm_cuda_cross_entropy_gradient(struct trm_device *dev, struct trm_tensor loss,
                                                struct trm_tensor logits, struct trm_tensor maximum,
                                                struct trm_tensor sums, struct trm_tensor targets,
                                                int64_t first_row, int64_t valid,
                                                bool want_gradient)
{
    check(logits, maximum, valid);
    check_targets(logits, sums, targets);
    TRM_ASSERT(trm_is1(loss, logits.shape[0]));
    if (!trm_cuda_takes(dev, "cross_entropy_gradient", logits.type, {logits}) ||
        !trm_cuda_takes(dev, "cross_entropy_gradient", TRM_F32, {loss, sums, maximum}))
        return;
    if (logits.type == TRM_BF16)
        run_gradient(dev,
                     arguments_of<trm_bf16>(logits, maximum, sums, loss, targets, first_row, valid),
                     want_gradient);
    else
        run_gradient(dev,
                     arguments_of<float>(logits, maximum, sums, loss, targets, first_row, valid),
                     want_gradient);
}
