#include "bench/op_times.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>

#include "base/clock.h"
#include "trainer/ops/cuda/cuda.h"

enum op_class {
    CLASS_PRODUCT,
    CLASS_ATTENTION,
    CLASS_NORM,
    CLASS_LOSS,
    CLASS_EMBEDDING,
    CLASS_ELEMENTWISE,
    CLASS_SUM,
    CLASS_UPDATE,
    CLASS_COUNT
};

static const char *const class_names[CLASS_COUNT] = {
    "matrix products", "attention",   "norms", "cross-entropy",
    "embeddings",      "elementwise", "sums",  "AdamW",
};

struct call {
    enum op_class class;
    cudaEvent_t begin, end;
    double flops, bytes;
    int64_t host_ns;
};

/* The device's table is the first member, by which its ops find the rest. */
struct op_times {
    struct trm_ops timed;
    const struct trm_ops *plain;
    struct trm_device *dev;
    struct call *calls;
    int count, capacity, made; /* calls; of which so many have events */
    bool on, failed;
};

static struct op_times *times_of(const struct trm_device *dev)
{
    return (struct op_times *)(uintptr_t)dev->ops;
}

static const struct trm_ops *plain(const struct trm_device *dev)
{
    return times_of(dev)->plain;
}

static bool make_room(struct op_times *t)
{
    if (t->count == t->capacity) {
        int capacity = t->capacity > 0 ? 2 * t->capacity : 1024;
        struct call *calls = realloc(t->calls, (size_t)capacity * sizeof *calls);
        if (!calls)
            return false;
        t->calls = calls;
        t->capacity = capacity;
    }
    if (t->count == t->made) {
        if (cudaEventCreate(&t->calls[t->made].begin) != cudaSuccess ||
            cudaEventCreate(&t->calls[t->made].end) != cudaSuccess)
            return false;
        t->made++;
    }
    return true;
}

static void begin(struct trm_device *dev, enum op_class class, double flops, double bytes)
{
    struct op_times *t = times_of(dev);
    struct call *call;

    t->failed = t->failed || (t->on && !make_room(t));
    if (t->failed || !t->on)
        return;
    call = &t->calls[t->count];
    call->class = class;
    call->flops = flops;
    call->bytes = bytes;
    t->failed = cudaEventRecord(call->begin, trm_cuda_stream(dev)) != cudaSuccess;
    call->host_ns = trm_clock_now_ns();
}

static void end(struct trm_device *dev)
{
    struct op_times *t = times_of(dev);
    struct call *call;

    if (t->failed || !t->on)
        return;
    call = &t->calls[t->count];
    call->host_ns = trm_clock_now_ns() - call->host_ns;
    t->failed = cudaEventRecord(call->end, trm_cuda_stream(dev)) != cudaSuccess;
    t->count++;
}

static double bytes_of(struct trm_tensor t)
{
    return t.data ? (double)trm_tensor_elements(t) * (double)trm_type_bytes(t.type) : 0;
}

/* --- the ops, each with its class, FLOPs and bytes */

static void zero(struct trm_device *dev, struct trm_tensor t)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(t));
    plain(dev)->zero(dev, t);
    end(dev);
}

static void copy(struct trm_device *dev, struct trm_tensor to, struct trm_tensor from)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(to) + bytes_of(from));
    plain(dev)->copy(dev, to, from);
    end(dev);
}

static void add(struct trm_device *dev, struct trm_tensor out, struct trm_tensor a,
                struct trm_tensor b)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(out) + bytes_of(a) + bytes_of(b));
    plain(dev)->add(dev, out, a, b);
    end(dev);
}

static void matmul(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                   struct trm_tensor b, bool accumulate)
{
    begin(dev, CLASS_PRODUCT, 2.0 * (double)trm_tensor_elements(c) * (double)a.shape[1], 0);
    plain(dev)->matmul(dev, c, a, b, accumulate);
    end(dev);
}

static void linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                           struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                           enum trm_activation activation)
{
    begin(dev, CLASS_PRODUCT, 2.0 * (double)x.shape[0] * (double)trm_tensor_elements(w), 0);
    plain(dev)->linear_forward(dev, y, pre, x, w, bias, activation);
    end(dev);
}

static void linear_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dw,
                            struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                            struct trm_tensor w, struct trm_tensor pre,
                            enum trm_activation activation, bool accumulate)
{
    begin(dev, CLASS_PRODUCT,
          (dx.data ? 4.0 : 2.0) * (double)x.shape[0] * (double)trm_tensor_elements(w), 0);
    plain(dev)->linear_backward(dev, dx, dw, dbias, dy, x, w, pre, activation, accumulate);
    end(dev);
}

static void bias_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor x,
                         struct trm_tensor bias)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(y) + bytes_of(x) + bytes_of(bias));
    plain(dev)->bias_forward(dev, y, x, bias);
    end(dev);
}

static void bias_backward(struct trm_device *dev, struct trm_tensor dbias, struct trm_tensor dy)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(dbias) + bytes_of(dy));
    plain(dev)->bias_backward(dev, dbias, dy);
    end(dev);
}

static void activation_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                               enum trm_activation activation)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(y) + bytes_of(pre));
    plain(dev)->activation_forward(dev, y, pre, activation);
    end(dev);
}

static void activation_backward(struct trm_device *dev, struct trm_tensor dpre,
                                struct trm_tensor dy, struct trm_tensor pre,
                                enum trm_activation activation)
{
    begin(dev, CLASS_ELEMENTWISE, 0, bytes_of(dpre) + bytes_of(dy) + bytes_of(pre));
    plain(dev)->activation_backward(dev, dpre, dy, pre, activation);
    end(dev);
}

static void norm_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor mean,
                         struct trm_tensor rstd, struct trm_tensor x, struct trm_tensor weight,
                         struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    begin(dev, CLASS_NORM, 0, bytes_of(y) + bytes_of(x) + bytes_of(mean) + bytes_of(rstd));
    plain(dev)->norm_forward(dev, y, mean, rstd, x, weight, bias, kind, epsilon);
    end(dev);
}

static void residual_norm_forward(struct trm_device *dev, struct trm_tensor y,
                                  struct trm_tensor total, struct trm_tensor mean,
                                  struct trm_tensor rstd, struct trm_tensor x,
                                  struct trm_tensor branch, struct trm_tensor weight,
                                  struct trm_tensor bias, enum trm_norm kind, float epsilon)
{
    begin(dev, CLASS_NORM, 0,
          bytes_of(y) + bytes_of(total) + bytes_of(x) + bytes_of(branch) + bytes_of(mean) +
              bytes_of(rstd));
    plain(dev)->residual_norm_forward(dev, y, total, mean, rstd, x, branch, weight, bias, kind,
                                      epsilon);
    end(dev);
}

static void norm_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dweight,
                          struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                          struct trm_tensor mean, struct trm_tensor rstd, struct trm_tensor weight,
                          enum trm_norm kind)
{
    begin(dev, CLASS_NORM, 0,
          2 * bytes_of(dx) + bytes_of(dy) + bytes_of(x) + bytes_of(mean) + bytes_of(rstd));
    plain(dev)->norm_backward(dev, dx, dweight, dbias, dy, x, mean, rstd, weight, kind);
    end(dev);
}

/* Two products of T x T x D for each head, of which causality needs half. */
static double attention_flops(const struct trm_attention *shape)
{
    return 2.0 * shape->batch * shape->heads * (double)shape->seq_length * shape->seq_length *
           shape->head_size;
}

static void attention_forward(struct trm_device *dev, struct trm_tensor out,
                              struct trm_tensor log_sum_exp, struct trm_tensor q,
                              struct trm_tensor k, struct trm_tensor v,
                              const struct trm_attention *shape)
{
    begin(dev, CLASS_ATTENTION, attention_flops(shape), 0);
    plain(dev)->attention_forward(dev, out, log_sum_exp, q, k, v, shape);
    end(dev);
}

/* Five products: the scores once more, and four gradients. */
static void attention_backward(struct trm_device *dev, struct trm_tensor dq, struct trm_tensor dk,
                               struct trm_tensor dv, struct trm_tensor dout, struct trm_tensor q,
                               struct trm_tensor k, struct trm_tensor v, struct trm_tensor out,
                               struct trm_tensor log_sum_exp, const struct trm_attention *shape)
{
    begin(dev, CLASS_ATTENTION, 2.5 * attention_flops(shape), 0);
    plain(dev)->attention_backward(dev, dq, dk, dv, dout, q, k, v, out, log_sum_exp, shape);
    end(dev);
}

/* Rows of the table that this many tokens can name. */
static double touched(struct trm_tensor table, struct trm_tensor tokens)
{
    int64_t rows = table.shape[0] < tokens.shape[0] ? table.shape[0] : tokens.shape[0];
    return bytes_of(trm_tensor_rows(table, 0, rows));
}

static void embedding_forward(struct trm_device *dev, struct trm_tensor x, struct trm_tensor tokens,
                              struct trm_tensor table, int64_t first_row)
{
    begin(dev, CLASS_EMBEDDING, 0, bytes_of(x) + bytes_of(tokens) + touched(table, tokens));
    plain(dev)->embedding_forward(dev, x, tokens, table, first_row);
    end(dev);
}

static void embedding_backward(struct trm_device *dev, struct trm_tensor dtable,
                               struct trm_tensor dx, struct trm_tensor tokens, int64_t first_row)
{
    begin(dev, CLASS_EMBEDDING, 0, bytes_of(dx) + bytes_of(tokens) + 2 * touched(dtable, tokens));
    plain(dev)->embedding_backward(dev, dtable, dx, tokens, first_row);
    end(dev);
}

static void position_forward(struct trm_device *dev, struct trm_tensor x, struct trm_tensor table,
                             int64_t seq_length, int64_t position_offset)
{
    begin(dev, CLASS_EMBEDDING, 0, 2 * bytes_of(x) + bytes_of(table));
    plain(dev)->position_forward(dev, x, table, seq_length, position_offset);
    end(dev);
}

static void position_backward(struct trm_device *dev, struct trm_tensor dtable,
                              struct trm_tensor dx, int64_t seq_length)
{
    begin(dev, CLASS_EMBEDDING, 0, bytes_of(dx) + 2 * bytes_of(dtable));
    plain(dev)->position_backward(dev, dtable, dx, seq_length);
    end(dev);
}

static void cross_entropy(struct trm_device *dev, struct trm_tensor loss, struct trm_tensor logits,
                          struct trm_tensor targets, int64_t valid, bool want_gradient)
{
    begin(dev, CLASS_LOSS, 0,
          (want_gradient ? 2 : 1) * bytes_of(logits) + bytes_of(loss) + bytes_of(targets));
    plain(dev)->cross_entropy(dev, loss, logits, targets, valid, want_gradient);
    end(dev);
}

static void sum_of_squares(struct trm_device *dev, struct trm_exact_sum *sum, struct trm_tensor t)
{
    begin(dev, CLASS_SUM, 0, bytes_of(t));
    plain(dev)->sum_of_squares(dev, sum, t);
    end(dev);
}

static void sum(struct trm_device *dev, struct trm_exact_sum *into, struct trm_tensor t)
{
    begin(dev, CLASS_SUM, 0, bytes_of(t));
    plain(dev)->sum(dev, into, t);
    end(dev);
}

static void adamw(struct trm_device *dev, struct trm_tensor parameter, struct trm_tensor exp_avg,
                  struct trm_tensor exp_avg_sq, struct trm_tensor gradient,
                  const struct trm_adamw *settings)
{
    double rounded = settings->rounded ? 2.0 * (double)trm_tensor_elements(parameter) : 0;
    begin(dev, CLASS_UPDATE, 0,
          2 * (bytes_of(parameter) + bytes_of(exp_avg) + bytes_of(exp_avg_sq)) +
              bytes_of(gradient) + rounded);
    plain(dev)->adamw(dev, parameter, exp_avg, exp_avg_sq, gradient, settings);
    end(dev);
}

/* --- the table */

struct op_times *op_times_open(struct trm_device *dev)
{
    struct op_times *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->plain = dev->ops;
    t->dev = dev;
    t->timed = *dev->ops; /* what is not timed stays as it is */
    t->timed.zero = zero;
    t->timed.copy = copy;
    t->timed.add = add;
    t->timed.matmul = matmul;
    t->timed.linear_forward = linear_forward;
    t->timed.linear_backward = linear_backward;
    t->timed.bias_forward = bias_forward;
    t->timed.bias_backward = bias_backward;
    t->timed.activation_forward = activation_forward;
    t->timed.activation_backward = activation_backward;
    t->timed.norm_forward = norm_forward;
    t->timed.residual_norm_forward = residual_norm_forward;
    t->timed.norm_backward = norm_backward;
    t->timed.attention_forward = attention_forward;
    t->timed.attention_backward = attention_backward;
    t->timed.embedding_forward = embedding_forward;
    t->timed.embedding_backward = embedding_backward;
    t->timed.position_forward = position_forward;
    t->timed.position_backward = position_backward;
    t->timed.cross_entropy = cross_entropy;
    t->timed.sum_of_squares = sum_of_squares;
    t->timed.sum = sum;
    t->timed.adamw = adamw;
    dev->ops = &t->timed;
    return t;
}

void op_times_start(struct op_times *t)
{
    t->count = 0;
    t->on = true;
}

void op_times_print(struct op_times *t, FILE *file, int steps, double flops_per_second,
                    double bytes_per_second)
{
    double ms[CLASS_COUNT] = {0}, floor_ms[CLASS_COUNT] = {0}, all = 0, floors = 0, host_ms = 0;
    int calls[CLASS_COUNT] = {0};

    t->on = false;
    if (trm_device_sync(t->dev, NULL) != TRM_OK || t->failed) {
        fprintf(file, "       the ops could not be timed\n");
        return;
    }
    for (int i = 0; i < t->count; i++) {
        const struct call *call = &t->calls[i];
        float took = 0;
        cudaEventElapsedTime(&took, call->begin, call->end);
        ms[call->class] += took;
        calls[call->class]++;
        floor_ms[call->class] +=
            1e3 * call->flops / flops_per_second + 1e3 * call->bytes / bytes_per_second;
        host_ms += (double)call->host_ns / 1e6;
    }
    for (int c = 0; c < CLASS_COUNT; c++) {
        all += ms[c];
        floors += floor_ms[c];
    }
    fprintf(file, "       %-16s %6s %9s %9s %9s %9s\n", "of a step", "calls", "ms", "floor",
            "of it", "share");
    for (int c = 0; c < CLASS_COUNT; c++)
        if (calls[c] > 0)
            fprintf(file, "       %-16s %6d %9.3f %9.3f %7.1f %% %7.1f %%\n", class_names[c],
                    calls[c] / steps, ms[c] / steps, floor_ms[c] / steps, 100 * floor_ms[c] / ms[c],
                    100 * ms[c] / all);
    fprintf(file, "       %-16s %6d %9.3f %9.3f %7.1f %%; the host needs %.3f ms to queue them\n",
            "all", t->count / steps, all / steps, floors / steps, 100 * floors / all,
            host_ms / steps);
}

void op_times_close(struct op_times *t)
{
    if (!t)
        return;
    t->dev->ops = t->plain;
    for (int i = 0; i < t->made; i++) {
        cudaEventDestroy(t->calls[i].begin);
        cudaEventDestroy(t->calls[i].end);
    }
    free(t->calls);
    free(t);
}
