/* AdamW in one pass over memory, and the exact sums that the norm and the loss are made of. */
#include "trainer/ops/cuda/launch.cuh"

#define THREADS    256
#define WARPS      (THREADS / TRM_WARP)
#define SUM_BLOCKS 512 /* at most; integers, so their number changes no bit */

#define LIMB_BITS     32
#define LIMB_MASK     0xFFFFFFFFull
#define MANTISSA_BITS 52
#define EXPONENT_MASK 0x7FF
#define FRACTION_BITS 1074 /* below the point */

typedef unsigned long long word;

/* base/exact_sum.c's addition, by integer atomics, whose order is of no matter. Limbs are signed;
 * in two's complement they add up like unsigned words. */
static __device__ void add_exactly(word *sum, double value)
{
    const word bits = (word)__double_as_longlong(value);
    const unsigned exponent = (unsigned)(bits >> MANTISSA_BITS) & EXPONENT_MASK;
    const bool negative = bits >> 63 != 0;
    const word fraction = bits & (((word)1 << MANTISSA_BITS) - 1);
    if (exponent == EXPONENT_MASK) {
        const int special = fraction != 0 ? 0 : negative ? 2 : 1;
        atomicAdd(&sum[TRM_EXACT_SUM_LIMBS + special], (word)1);
        return;
    }
    const word mantissa = fraction | (word)(exponent != 0) << MANTISSA_BITS;
    if (mantissa == 0)
        return;
    const unsigned position = exponent - (exponent != 0);
    const unsigned shift = position % LIMB_BITS;
    const word low = mantissa << shift;
    const word parts[3] = {low & LIMB_MASK, low >> LIMB_BITS, (mantissa >> 1) >> (63 - shift)};
    for (int i = 0; i < 3; i++)
        if (parts[i] != 0)
            atomicAdd(&sum[position / LIMB_BITS + i], negative ? (word)0 - parts[i] : parts[i]);
}

/* A block's own sum in shared memory. */
static __device__ word *begin_sum(void)
{
    TRM_SHARED(word, sum); /* [TRM_EXACT_SUM_WORDS] */
    for (int i = (int)threadIdx.x; i < TRM_EXACT_SUM_WORDS; i += THREADS)
        sum[i] = 0;
    __syncthreads();
    return sum;
}

/* Adds it to that of all blocks. Limbs that are not normalised may be added like any. */
static __device__ void end_sum(word *total, const word *sum)
{
    __syncthreads();
    for (int i = (int)threadIdx.x; i < TRM_EXACT_SUM_WORDS; i += THREADS)
        if (sum[i] != 0)
            atomicAdd(&total[i], sum[i]);
}

/* A warp for each aligned block of TRM_NORM_BLOCK elements, its lanes added in a fixed tree. */
template <typename T>
static __global__ void add_squares(word *total, trm_rows<const T> x, int64_t elements)
{
    word *sum = begin_sum();
    const int lane = (int)threadIdx.x % TRM_WARP;
    const int64_t blocks = (elements + TRM_NORM_BLOCK - 1) / TRM_NORM_BLOCK;
    const int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / TRM_WARP;
    for (int64_t block = warp; block < blocks; block += (int64_t)gridDim.x * WARPS) {
        const int64_t first = block * TRM_NORM_BLOCK;
        alignas(16) float v[TRM_CHUNK];
        double squares = 0.0;
        for (int at = lane * TRM_CHUNK; at < TRM_NORM_BLOCK; at += TRM_WARP * TRM_CHUNK) {
            if (first + at >= elements)
                break;
            trm_load8(v, x.data + first + at, elements - first - at, x.aligned);
            for (int i = 0; i < TRM_CHUNK; i++)
                squares += (double)v[i] * (double)v[i];
        }
        squares = trm_warp_sum(squares);
        if (lane == 0)
            add_exactly(sum, squares);
    }
    end_sum(total, sum);
}

template <typename T>
static __global__ void add_elements(word *total, trm_rows<const T> x, int64_t elements)
{
    word *sum = begin_sum();
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < elements;
         i += (int64_t)gridDim.x * THREADS)
        add_exactly(sum, (double)trm_load(x.data + i));
    end_sum(total, sum);
}

static dim3 sum_grid(int64_t items, int64_t items_of_block)
{
    const int64_t blocks = trm_parts(items, items_of_block);
    return dim3((unsigned)(blocks < 1 ? 1 : blocks > SUM_BLOCKS ? SUM_BLOCKS : blocks));
}

template <typename T>
static void run_sum(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t,
                    bool squares)
{
    word *total = reinterpret_cast<word *>(sum);
    const int64_t elements = trm_tensor_elements(t);
    const cudaStream_t stream = trm_cuda_of(dev)->stream;
    const size_t shared_bytes = TRM_EXACT_SUM_WORDS * sizeof(word);
    const trm_rows<const T> x = {static_cast<const T *>(t.data), 0, (uintptr_t)t.data % 16 == 0};
    if (squares)
        TRM_LAUNCH(add_squares<T>, sum_grid(elements, TRM_NORM_BLOCK * WARPS), dim3(THREADS),
                   shared_bytes, stream, total, x, elements);
    else
        TRM_LAUNCH(add_elements<T>, sum_grid(elements, THREADS), dim3(THREADS), shared_bytes,
                   stream, total, x, elements);
    trm_cuda_launched(dev, squares ? "sum_of_squares" : "sum");
}

static void add_to(struct trm_device *dev, const char *op, struct trm_exact_sum *sum,
                   struct trm_tensor t, bool squares)
{
    TRM_ASSERT(trm_tensor_is_contiguous(t));
    if (!trm_cuda_takes(dev, op, t.type, {t}))
        return;
    if (t.type == TRM_BF16)
        run_sum<trm_bf16>(dev, sum, t, squares);
    else
        run_sum<float>(dev, sum, t, squares);
}

extern "C" void trm_cuda_sum_of_squares(struct trm_device *dev, struct trm_exact_sum *sum,
                                        struct trm_tensor t)
{
    add_to(dev, "sum_of_squares", sum, t, true);
}

extern "C" void trm_cuda_sum(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    add_to(dev, "sum", sum, t, false);
}

/* Carries between limbs, as trm_exact_sum_normalize does. */
static __device__ void normalize(int64_t *limb)
{
    int64_t carry = 0;
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS - 1; i++) {
        const int64_t total = limb[i] + carry;
        limb[i] = total & (int64_t)LIMB_MASK;
        carry = total >> LIMB_BITS;
    }
    limb[TRM_EXACT_SUM_LIMBS - 1] += carry;
}

/* A normalized sum that is not negative, rounded once to nearest even: its highest 64 bits, of
 * which the last also stands for all below, are more than a double keeps. */
static __device__ double magnitude_of(const int64_t *limb)
{
    int top = TRM_EXACT_SUM_LIMBS - 1;
    while (top > 0 && limb[top] == 0)
        top--;
    if (limb[top] > (int64_t)LIMB_MASK)
        return INFINITY;
    int length = 0; /* bits of the highest limb */
    while (limb[top] >> length != 0)
        length++;
    word window = (word)limb[top];
    int lowest = top * LIMB_BITS;
    bool below = false;
    for (int i = top - 1; i >= 0; i--) {
        /* Both limbs that fit as a whole, and as many bits of a third as there is room for. */
        const int room = i == top - 1 ? LIMB_BITS : i == top - 2 ? LIMB_BITS - length : 0;
        const word bits = (word)limb[i];
        window = room > 0 ? window << room | bits >> (LIMB_BITS - room) : window;
        lowest -= room;
        below = below || (bits & (((word)1 << (LIMB_BITS - room)) - 1)) != 0;
    }
    return ldexp((double)(window | (below ? 1 : 0)), lowest - FRACTION_BITS);
}

/* What trm_exact_sum_value gives. */
static __device__ double value_of(const struct trm_exact_sum *sum)
{
    int64_t limb[TRM_EXACT_SUM_LIMBS];
    if (sum->nan_count != 0 ||
        (sum->positive_infinity_count != 0 && sum->negative_infinity_count != 0))
        return NAN;
    if (sum->positive_infinity_count != 0)
        return INFINITY;
    if (sum->negative_infinity_count != 0)
        return -INFINITY;
    for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
        limb[i] = sum->limb[i];
    normalize(limb);
    const bool negative = limb[TRM_EXACT_SUM_LIMBS - 1] < 0;
    if (negative) {
        for (int i = 0; i < TRM_EXACT_SUM_LIMBS; i++)
            limb[i] = -limb[i];
        normalize(limb);
    }
    return negative ? -magnitude_of(limb) : magnitude_of(limb);
}

/* By one thread: what trm_step, trm_guard_judge and trm_clip_factor do on the host. */
static __global__ void judge(struct trm_step_verdict *verdict, const struct trm_exact_sum *loss_sum,
                             const struct trm_exact_sum *squares, struct trm_step_rules rules)
{
    if (threadIdx.x != 0)
        return;
    const double loss = value_of(loss_sum) / rules.tokens;
    const double norm = sqrt(value_of(squares)) / rules.tokens;
    const bool clips = rules.clip_grad > 0.0 && norm > rules.clip_grad;
    const double factor = clips ? rules.clip_grad / norm : 1.0;
    verdict->bad = !isfinite(loss) || !isfinite(norm) || loss > rules.loss_limit;
    verdict->gradient_scale = (float)(factor / rules.tokens);
}

extern "C" void trm_cuda_judge(struct trm_device *dev, struct trm_step_verdict *verdict,
                               const struct trm_exact_sum *loss,
                               const struct trm_exact_sum *squares,
                               const struct trm_step_rules *rules)
{
    if (dev->error.status != TRM_OK)
        return;
    TRM_LAUNCH(judge, dim3(1), dim3(TRM_WARP), 0, trm_cuda_of(dev)->stream, verdict, loss, squares,
               *rules);
    trm_cuda_launched(dev, "judge");
}

struct adamw_arguments {
    trm_rows<float> parameter, exp_avg, exp_avg_sq;
    trm_rows<const float> gradient;
    trm_rows<trm_bf16> rounded; /* data NULL: none */
    int64_t elements;
    struct trm_adamw settings;
};

static __global__ void adamw(adamw_arguments a)
{
    const int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * TRM_CHUNK;
    const int64_t count = a.elements - at;
    const struct trm_adamw s = a.settings;
    if (count <= 0 || (s.verdict != NULL && s.verdict->bad != 0))
        return;
    const float scale = s.verdict != NULL ? s.verdict->gradient_scale : s.gradient_scale;
    const float rate = s.learning_rate / s.bias_correction1;
    const float inverse2 = 1.0f / s.bias_correction2;
    const float decay = s.learning_rate * s.weight_decay;
    alignas(16) float p[TRM_CHUNK], m[TRM_CHUNK], v[TRM_CHUNK], g[TRM_CHUNK];
    trm_load8(p, a.parameter.data + at, count, a.parameter.aligned);
    trm_load8(m, a.exp_avg.data + at, count, a.exp_avg.aligned);
    trm_load8(v, a.exp_avg_sq.data + at, count, a.exp_avg_sq.aligned);
    trm_load8(g, a.gradient.data + at, count, a.gradient.aligned);
    for (int i = 0; i < TRM_CHUNK; i++) {
        const float gradient = g[i] * scale;
        m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * gradient;
        v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * (gradient * gradient);
        p[i] = p[i] - decay * p[i] - rate * m[i] / (sqrtf(v[i] * inverse2) + s.epsilon);
    }
    trm_store8(a.parameter.data + at, p, count, a.parameter.aligned);
    trm_store8(a.exp_avg.data + at, m, count, a.exp_avg.aligned);
    trm_store8(a.exp_avg_sq.data + at, v, count, a.exp_avg_sq.aligned);
    if (a.rounded.data != NULL)
        trm_store8(a.rounded.data + at, p, count, a.rounded.aligned);
}

template <typename T> static trm_rows<T> flat(struct trm_tensor t)
{
    return {static_cast<T *>(t.data), 0, (uintptr_t)t.data % 16 == 0};
}

extern "C" void trm_cuda_adamw(struct trm_device *dev, struct trm_tensor parameter,
                               struct trm_tensor exp_avg, struct trm_tensor exp_avg_sq,
                               struct trm_tensor gradient, const struct trm_adamw *settings)
{
    const int64_t elements = trm_tensor_elements(parameter);
    TRM_ASSERT(trm_tensor_is_contiguous(parameter) && trm_tensor_is_contiguous(exp_avg) &&
               trm_tensor_is_contiguous(exp_avg_sq) && trm_tensor_is_contiguous(gradient));
    TRM_ASSERT(trm_tensor_elements(exp_avg) == elements &&
               trm_tensor_elements(exp_avg_sq) == elements &&
               trm_tensor_elements(gradient) == elements);
    if (!trm_cuda_takes(dev, "adamw", TRM_F32, {parameter, exp_avg, exp_avg_sq, gradient}) ||
        elements == 0)
        return;
    trm_bf16 *rounded = static_cast<trm_bf16 *>(settings->rounded);
    const adamw_arguments a = {flat<float>(parameter),
                               flat<float>(exp_avg),
                               flat<float>(exp_avg_sq),
                               flat<const float>(gradient),
                               {rounded, 0, (uintptr_t)rounded % 16 == 0},
                               elements,
                               *settings};
    TRM_LAUNCH(adamw, dim3((unsigned)trm_parts(elements, (int64_t)THREADS * TRM_CHUNK)),
               dim3(THREADS), 0, trm_cuda_of(dev)->stream, a);
    trm_cuda_launched(dev, "adamw");
}
