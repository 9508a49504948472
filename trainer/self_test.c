#include "trainer/self_test.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/machine.h"
#include "base/random.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/cuda/cuda.h"
#include "trainer/ops/reference/reference.h"

/* Larger than the kernels' tiles in each dimension, and no multiple of them; small enough for the
 * reference's loops. */
enum {
    BATCH = 2,
    LENGTH = 37,
    HEADS = 4,
    HEAD = 24,
    ROWS = BATCH * LENGTH,
    COLUMNS = HEADS * HEAD,
    FEATURES = 390,
    ELEMENTS = 5000,
};

/* A tensor with room behind it, so that the next one begins where devices want it to. */
#define ALIGNMENT    256
#define FLOATS(n)    ((((n) * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT) / sizeof(float))
#define TENSOR(f, n) float f[FLOATS(n)]

/* The same on the host and, as one piece of memory, on a device. */
struct inputs {
    TENSOR(x, ROWS *COLUMNS);
    TENSOR(w, FEATURES *COLUMNS);
    TENSOR(bias, FEATURES);
    TENSOR(dy, ROWS *FEATURES);
    TENSOR(weight, COLUMNS);
    TENSOR(shift, COLUMNS);
    TENSOR(q, ROWS *COLUMNS);
    TENSOR(k, ROWS *COLUMNS);
    TENSOR(v, ROWS *COLUMNS);
    TENSOR(dout, ROWS *COLUMNS);
    TENSOR(gradient, ELEMENTS);
};

/* The last three start as inputs. */
struct outputs {
    TENSOR(y, ROWS *FEATURES);
    TENSOR(pre, ROWS *FEATURES);
    TENSOR(activated, ROWS *FEATURES);
    TENSOR(dx, ROWS *COLUMNS);
    TENSOR(dw, FEATURES *COLUMNS);
    TENSOR(dbias, FEATURES);
    TENSOR(normed, ROWS *COLUMNS);
    TENSOR(mean, ROWS);
    TENSOR(rstd, ROWS);
    TENSOR(attended, ROWS *COLUMNS);
    TENSOR(log_sum_exp, BATCH *HEADS *LENGTH);
    TENSOR(dq, ROWS *COLUMNS);
    TENSOR(dk, ROWS *COLUMNS);
    TENSOR(dv, ROWS *COLUMNS);
    TENSOR(parameter, ELEMENTS);
    TENSOR(exp_avg, ELEMENTS);
    TENSOR(exp_avg_sq, ELEMENTS);
};

/* Results that are compared one by one, with the errors that float32 warrants. */
#define RESULT(field, what, tolerance)                                      \
    {                                                                       \
        what, offsetof(struct outputs, field),                              \
            sizeof(((struct outputs *)0)->field) / sizeof(float), tolerance \
    }
static const struct {
    const char *what;
    size_t offset, count;
    double tolerance;
} results[] = {
    RESULT(y, "a matrix product with an activation", 1e-5),
    RESULT(pre, "a matrix product", 1e-5),
    RESULT(activated, "an activation", 1e-5),
    RESULT(dx, "a matrix product backward", 1e-5),
    RESULT(dw, "a weight's gradient", 1e-5),
    RESULT(dbias, "a bias's gradient", 1e-5),
    RESULT(normed, "a norm", 1e-5),
    RESULT(mean, "a mean", 1e-5),
    RESULT(rstd, "a standard deviation", 1e-5),
    RESULT(attended, "attention", 1e-5),
    RESULT(log_sum_exp, "attention's sums", 1e-5),
    RESULT(dq, "attention backward (queries)", 1e-5),
    RESULT(dk, "attention backward (keys)", 1e-5),
    RESULT(dv, "attention backward (values)", 1e-5),
    RESULT(parameter, "an AdamW update", 1e-5),
    RESULT(exp_avg, "a first moment", 1e-5),
    RESULT(exp_avg_sq, "a second moment", 1e-5),
};
#define RESULTS (sizeof results / sizeof *results)

static const struct trm_attention attention = {
    .batch = BATCH,
    .seq_length = LENGTH,
    .heads = HEADS,
    .kv_heads = HEADS,
    .head_size = HEAD,
    .scale = 0.2f,
};

static void fill(float *values, size_t count, const char *purpose)
{
    uint64_t key = trm_random_key(1, purpose, 0, 0);

    for (size_t i = 0; i < count; i++)
        values[i] = (float)(2 * trm_random_uniform(key, i) - 1);
}

static struct trm_tensor rows_of(const float *data, int64_t rows, int64_t columns)
{
    return trm_tensor_2d((void *)(uintptr_t)data, TRM_F32, rows, columns);
}

static struct trm_tensor row_of(const float *data, int64_t count)
{
    return trm_tensor_1d((void *)(uintptr_t)data, TRM_F32, count);
}

static void run_linear(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    struct trm_tensor x = rows_of(in->x, ROWS, COLUMNS), w = rows_of(in->w, FEATURES, COLUMNS);
    struct trm_tensor pre = rows_of(out->pre, ROWS, FEATURES), none = {0};

    dev->ops->linear_forward(dev, rows_of(out->y, ROWS, FEATURES), pre, x, w,
                             row_of(in->bias, FEATURES), TRM_ACT_GELU);
    dev->ops->activation_forward(dev, rows_of(out->activated, ROWS, FEATURES), pre, TRM_ACT_GELU);
    dev->ops->linear_backward(dev, rows_of(out->dx, ROWS, COLUMNS),
                              rows_of(out->dw, FEATURES, COLUMNS), row_of(out->dbias, FEATURES),
                              rows_of(in->dy, ROWS, FEATURES), x, w, none, TRM_ACT_NONE, false);
}

static void run_norm(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    dev->ops->norm_forward(dev, rows_of(out->normed, ROWS, COLUMNS), row_of(out->mean, ROWS),
                           row_of(out->rstd, ROWS), rows_of(in->x, ROWS, COLUMNS),
                           row_of(in->weight, COLUMNS), row_of(in->shift, COLUMNS), TRM_NORM_LAYER,
                           1e-5f);
}

static void run_attention(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    struct trm_tensor q = rows_of(in->q, ROWS, COLUMNS), k = rows_of(in->k, ROWS, COLUMNS);
    struct trm_tensor v = rows_of(in->v, ROWS, COLUMNS);
    struct trm_tensor attended = rows_of(out->attended, ROWS, COLUMNS);
    struct trm_tensor sums = rows_of(out->log_sum_exp, BATCH * HEADS, LENGTH);

    dev->ops->attention_forward(dev, attended, sums, q, k, v, &attention);
    dev->ops->attention_backward(dev, rows_of(out->dq, ROWS, COLUMNS),
                                 rows_of(out->dk, ROWS, COLUMNS), rows_of(out->dv, ROWS, COLUMNS),
                                 rows_of(in->dout, ROWS, COLUMNS), q, k, v, attended, sums,
                                 &attention);
}

static void run_adamw(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    const struct trm_adamw settings = {
        .learning_rate = 1e-2f,
        .beta1 = 0.9f,
        .beta2 = 0.95f,
        .epsilon = 1e-8f,
        .weight_decay = 0.1f,
        .bias_correction1 = 0.1f,
        .bias_correction2 = 0.05f,
        .gradient_scale = 0.5f,
    };

    dev->ops->adamw(dev, row_of(out->parameter, ELEMENTS), row_of(out->exp_avg, ELEMENTS),
                    row_of(out->exp_avg_sq, ELEMENTS), row_of(in->gradient, ELEMENTS), &settings);
}

static void run_all(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    run_linear(dev, in, out);
    run_norm(dev, in, out);
    run_attention(dev, in, out);
    run_adamw(dev, in, out);
}

/* On a device with memory of its own: there and back. */
static void run_elsewhere(struct trm_device *dev, const struct inputs *in, struct outputs *out)
{
    struct inputs *in_there = trm_device_allocate(dev, sizeof *in);
    struct outputs *out_there = trm_device_allocate(dev, sizeof *out);

    if (in_there && out_there) {
        trm_device_upload(dev, in_there, in, sizeof *in);
        trm_device_upload(dev, out_there, out, sizeof *out);
        run_all(dev, in_there, out_there);
        trm_device_download(dev, out, out_there, sizeof *out);
        (void)trm_device_sync(dev, NULL); /* its error stays with the device */
    }
    trm_device_release(dev, in_there);
    trm_device_release(dev, out_there);
}

static enum trm_status run_ops(struct trm_device *dev, const struct inputs *in, struct outputs *out,
                               struct trm_error *err)
{
    const struct trm_ops_limits limits = {
        .type = TRM_F32, .max_rows = ROWS, .max_columns = FEATURES, .attention = attention};

    memset(out, 0, sizeof *out);
    fill(out->parameter, ELEMENTS, "parameter");
    fill(out->exp_avg, ELEMENTS, "exp_avg");
    fill(out->exp_avg_sq, ELEMENTS, "exp_avg_sq");
    for (int i = 0; i < ELEMENTS; i++)
        out->exp_avg_sq[i] *= out->exp_avg_sq[i];
    dev->workspace_bytes = dev->ops->workspace_bytes(dev, &limits) + 1; /* some need none */
    dev->workspace = trm_device_allocate(dev, dev->workspace_bytes);
    if (!dev->workspace)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a self-test");
    if (trm_device_is_host(dev))
        run_all(dev, in, out);
    else
        run_elsewhere(dev, in, out);
    enum trm_status status = trm_device_sync(dev, err);
    trm_device_release(dev, dev->workspace);
    dev->workspace = NULL;
    dev->workspace_bytes = 0;
    return status;
}

static const float *result(const struct outputs *out, size_t number)
{
    return (const float *)((const char *)out + results[number].offset);
}

/* |a - b| / |b| by the largest elements: one wrong element stands out from a million. */
static double error_of(const float *a, const float *b, size_t count)
{
    double largest = 0, difference = 0;

    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= difference)) /* a NaN is no small difference */
            difference = isnan(d) ? INFINITY : d;
        if (fabs((double)b[i]) > largest)
            largest = fabs((double)b[i]);
    }
    return difference / largest;
}

static enum trm_status judge(const struct outputs *first, const struct outputs *second,
                             const struct outputs *reference, const char *where,
                             double *largest_error, struct trm_error *err)
{
    *largest_error = 0;
    for (size_t i = 0; i < RESULTS; i++) {
        double error = error_of(result(first, i), result(reference, i), results[i].count);
        if (!(error <= results[i].tolerance))
            return trm_error_set(err, TRM_ERR_INTERNAL,
                                 "this %s computes wrongly: %s is off by %.1e of its largest "
                                 "value, more than %.0e; test its processor and memory, or use "
                                 "another node",
                                 where, results[i].what, error, results[i].tolerance);
        if (memcmp(result(first, i), result(second, i), results[i].count * sizeof(float)) != 0)
            return trm_error_set(err, TRM_ERR_INTERNAL,
                                 "this %s does not compute the same twice: %s; test its "
                                 "processor and memory, or use another node",
                                 where, results[i].what);
        if (error > *largest_error)
            *largest_error = error;
    }
    return TRM_OK;
}

static void fill_inputs(struct inputs *in)
{
    fill(in->x, ROWS * COLUMNS, "x");
    fill(in->w, FEATURES * COLUMNS, "w");
    fill(in->bias, FEATURES, "bias");
    fill(in->dy, ROWS * FEATURES, "dy");
    fill(in->weight, COLUMNS, "weight");
    fill(in->shift, COLUMNS, "shift");
    fill(in->q, ROWS * COLUMNS, "q");
    fill(in->k, ROWS * COLUMNS, "k");
    fill(in->v, ROWS * COLUMNS, "v");
    fill(in->dout, ROWS * COLUMNS, "dout");
    fill(in->gradient, ELEMENTS, "gradient");
}

enum trm_status trm_self_test_run(struct trm_device *dev, struct trm_self_test *out,
                                  struct trm_error *err)
{
    int64_t begin_ns = trm_clock_now_ns();
    struct inputs *in = malloc(sizeof *in);
    struct outputs *runs = calloc(3, sizeof *runs);
    struct trm_self_test test = {0};
    struct trm_device reference;
    enum trm_status status = TRM_OK;

    if (!in || !runs) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a self-test");
        goto out;
    }
    trm_device_reference(&reference);
    fill_inputs(in);
    status = run_ops(&reference, in, &runs[2], err);
    for (int i = 0; i < 2 && status == TRM_OK; i++)
        status = run_ops(dev, in, &runs[i], err);
    if (status == TRM_OK)
        status = judge(&runs[0], &runs[1], &runs[2], trm_device_is_host(dev) ? "machine" : "GPU",
                       &test.largest_error, err);
    if (status != TRM_OK)
        goto out;
    trm_device_describe(dev, test.fingerprint, sizeof test.fingerprint);
    test.checksum = trm_hash64(&runs[0], sizeof runs[0]);
    test.seconds = (double)(trm_clock_now_ns() - begin_ns) / 1e9;
    *out = test;
out:
    free(in);
    free(runs);
    return status;
}

/* Each GPU; what they have in common. */
static enum trm_status test_gpus(int count, struct trm_self_test *out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;

    for (int i = 0; i < count && status == TRM_OK; i++) {
        struct trm_self_test one;
        struct trm_device dev;
        struct trm_error why;
        status = trm_device_cuda(&dev, i, err);
        if (status != TRM_OK)
            return status;
        status = trm_self_test_run(&dev, &one, &why);
        trm_device_cuda_close(&dev);
        if (status != TRM_OK)
            return trm_error_set(err, status, "GPU %d: %s", i, why.text);
        if (i == 0)
            *out = one;
        else if (one.checksum != out->checksum)
            return trm_error_set(err, TRM_ERR_INTERNAL,
                                 "GPU %d (%s) computes otherwise than GPU 0 (%s); use GPUs of one "
                                 "kind, and test these",
                                 i, one.fingerprint, out->fingerprint);
        else
            out->seconds += one.seconds;
    }
    return status;
}

static enum trm_status test_cpu(struct trm_self_test *out, struct trm_error *err)
{
    struct trm_device dev;
    int cores = trm_machine_cores();
    enum trm_status status =
        trm_device_cpu(&dev, cores < TRM_CPU_MAX_THREADS ? cores : TRM_CPU_MAX_THREADS, err);

    return status == TRM_OK ? trm_self_test_run(&dev, out, err) : status;
}

enum trm_status trm_self_test_report(const char *version, enum trm_device_kind kind, char **text,
                                     struct trm_error *err)
{
    struct trm_self_test test;
    struct trm_error why;
    int gpus = kind == TRM_DEVICE_CPU ? 0 : trm_cuda_count(&why);
    enum trm_status status;
    json_t *report;

    if (kind == TRM_DEVICE_CUDA && gpus == 0)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "%s", why.text);
    status = gpus > 0 ? test_gpus(gpus, &test, err) : test_cpu(&test, err);
    if (status != TRM_OK)
        return status;
    report =
        json_pack("{s:s, s:s, s:o, s:f, s:I, s:i, s:i, s:f}", "version", version, "fingerprint",
                  test.fingerprint, "checksum", trm_json_hex64(test.checksum), "largest_error",
                  test.largest_error, "memory_bytes", (json_int_t)trm_machine_available_bytes(),
                  "cores", trm_machine_cores(), "gpus", gpus, "seconds", test.seconds);
    *text = report ? json_dumps(report, JSON_REAL_PRECISION(6)) : NULL;
    json_decref(report);
    return *text ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "no memory for a report");
}
