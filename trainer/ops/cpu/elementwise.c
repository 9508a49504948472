/* Zero, copy and add, for tensors of any strides: contiguous runs fast, the rest by element. */
#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

/* An elementwise op as runs: [count] runs of `length` elements each, contiguous in all operands. */
struct runs {
    struct trm_tensor out, a, b; /* a.data, b.data may be NULL */
    int64_t length;
    int run_dims; /* leading dimensions that number the runs */
};

/* Bytes before run `index` of a tensor. */
static char *run_start(struct trm_tensor t, int run_dims, int64_t index)
{
    int64_t offset = 0;
    for (int d = run_dims - 1; d >= 0; d--) {
        offset += index % t.shape[d] * t.stride[d];
        index /= t.shape[d];
    }
    return (char *)t.data + offset * (int64_t)trm_type_bytes(t.type);
}

/* How many trailing dimensions are contiguous in `t`. */
static int contiguous_dims(struct trm_tensor t)
{
    int64_t stride = 1;
    int count = 0;
    for (int d = t.dims - 1; d >= 0; d--, count++) {
        if (t.shape[d] != 1 && t.stride[d] != stride)
            break;
        stride *= t.shape[d];
    }
    return count;
}

static int64_t plan(struct runs *runs)
{
    const struct trm_tensor *all[] = {&runs->out, &runs->a, &runs->b};
    int contiguous = TRM_MAX_DIMS;
    for (int i = 0; i < 3; i++) {
        if (all[i]->data == NULL)
            continue;
        TRM_ASSERT(all[i]->dims == runs->out.dims);
        for (int d = 0; d < runs->out.dims; d++)
            TRM_ASSERT(all[i]->shape[d] == runs->out.shape[d]);
        int here = contiguous_dims(*all[i]);
        contiguous = here < contiguous ? here : contiguous;
    }
    runs->run_dims = runs->out.dims > contiguous ? runs->out.dims - contiguous : 0;
    runs->length = 1;
    for (int d = runs->run_dims; d < runs->out.dims; d++)
        runs->length *= runs->out.shape[d];
    int64_t count = 1;
    for (int d = 0; d < runs->run_dims; d++)
        count *= runs->out.shape[d];
    return count;
}

TRM_VECTOR_CLONES
static void add_run(float *out, const float *a, const float *b, int64_t count)
{
    int64_t i = 0;
    for (; i + TRM_LANES <= count; i += TRM_LANES) {
        v16_fetch(a + i);
        v16_fetch(b + i);
        v16_store(out + i, v16_load(a + i) + v16_load(b + i));
    }
    for (; i < count; i++)
        out[i] = a[i] + b[i];
}

/* Elements [first, last) of one run. */
static void one_run(const struct runs *r, int64_t index, int64_t first, int64_t last)
{
    size_t element = trm_type_bytes(r->out.type), bytes = (size_t)(last - first) * element;
    char *out = run_start(r->out, r->run_dims, index) + (size_t)first * element;
    if (r->a.data == NULL) {
        memset(out, 0, bytes);
        return;
    }
    const char *a = run_start(r->a, r->run_dims, index) + (size_t)first * element;
    if (r->b.data == NULL) {
        memcpy(out, a, bytes);
        return;
    }
    const char *b = run_start(r->b, r->run_dims, index) + (size_t)first * element;
    add_run((float *)(void *)out, (const float *)(const void *)a, (const float *)(const void *)b,
            last - first);
}

static void whole_runs(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    const struct runs *r = context;
    for (int64_t index = first; index < last; index++)
        one_run(r, index, 0, r->length);
}

static void part_of_run(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    one_run(context, 0, first, last);
}

static void go(struct trm_device *dev, struct runs *runs)
{
    int64_t count = plan(runs);
    if (count == 0 || runs->length == 0)
        return;
    if (count == 1)
        trm_cpu_for(dev, runs->length, 4 * TRM_CPU_GRAIN, part_of_run, runs);
    else
        trm_cpu_for(dev, count, 1 + 4 * TRM_CPU_GRAIN / runs->length, whole_runs, runs);
}

void trm_cpu_zero(struct trm_device *dev, struct trm_tensor t)
{
    if (dev->error.status == TRM_OK)
        go(dev, &(struct runs){.out = t});
}

void trm_cpu_copy(struct trm_device *dev, struct trm_tensor to, struct trm_tensor from)
{
    if (dev->error.status != TRM_OK)
        return;
    if (to.type != from.type) {
        trm_cpu_fail(dev, TRM_ERR_UNSUPPORTED, "copy on the CPU can't turn %s into %s",
                     trm_type_name(from.type), trm_type_name(to.type));
        return;
    }
    go(dev, &(struct runs){.out = to, .a = from});
}

void trm_cpu_add(struct trm_device *dev, struct trm_tensor out, struct trm_tensor a,
                 struct trm_tensor b)
{
    if (TRM_CPU_TAKES(dev, "add", out, a, b))
        go(dev, &(struct runs){.out = out, .a = a, .b = b});
}
