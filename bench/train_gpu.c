/*
 * Speed of the CUDA device on one GPU: a training step of GPT-2 sizes in bfloat16, against what a
 * large matrix product reaches here, and the memory-bound ops against a large copy; then where the
 * time of a step goes (op_times.h). Without data files, ranks and checkpoints: forward, backward
 * and the optimizer's update. bench_train_gpu MODEL MICRO_BATCH STEPS      MODEL: 124M 350M 774M
 * 1558M; tiny, to try it out
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "bench/op_times.h"
#include "tests/gpu/bare_trainer.h"
#include "trainer/ops/cuda/cuda.h"

#define REPEATS   20
#define MAX_STEPS 1000
#define WARM_UP   3
#define TIMED     5 /* steps, op by op */

static const struct model {
    const char *name;
    int layers, hidden, heads, seq_length, vocabulary;
    int64_t peak_side; /* of the product that is the measure */
} MODELS[] = {{"124M", 12, 768, 12, 1024, 50257, 8192},
              {"350M", 24, 1024, 16, 1024, 50257, 8192},
              {"774M", 36, 1280, 20, 1024, 50257, 8192},
              {"1558M", 48, 1600, 25, 1024, 50257, 8192},
              {"tiny", 2, 64, 2, 16, 500, 32}};

static int fail(const struct trm_error *err)
{
    fprintf(stderr, "%s\n", err->text);
    return err->status == TRM_ERR_UNSUPPORTED ? 77 : 1;
}

static double seconds_since(int64_t begin_ns)
{
    return (double)(trm_clock_now_ns() - begin_ns) / 1e9;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* TFLOP/s of a large product of random numbers: the median of REPEATS. */
static double product_peak(struct trm_device *dev, int64_t side)
{
    const size_t elements = (size_t)(side * side);
    float *host = malloc(elements * sizeof(float));
    void *wide = trm_device_allocate(dev, elements * sizeof(float));
    void *halves[3];
    double seconds[REPEATS] = {0};

    for (int i = 0; i < 3; i++)
        halves[i] = trm_device_allocate(dev, elements * 2);
    for (size_t i = 0; host && i < elements; i++)
        host[i] = (float)(trm_random_bits(1, i) >> 40) * 0x1p-24f - 0.5f;
    if (host && dev->error.status == TRM_OK) {
        const struct trm_tensor a = trm_tensor_2d(halves[0], TRM_BF16, side, side);
        const struct trm_tensor b = trm_tensor_2d(halves[1], TRM_BF16, side, side);
        const struct trm_tensor c = trm_tensor_2d(halves[2], TRM_BF16, side, side);
        const struct trm_tensor f = trm_tensor_2d(wide, TRM_F32, side, side);
        trm_device_upload(dev, wide, host, elements * sizeof(float));
        dev->ops->copy(dev, a, f);
        dev->ops->copy(dev, b, f);
        for (int i = -WARM_UP; i < REPEATS; i++) {
            trm_device_sync(dev, NULL);
            int64_t begin_ns = trm_clock_now_ns();
            dev->ops->matmul(dev, c, a, trm_tensor_transpose(b), false);
            trm_device_sync(dev, NULL);
            if (i >= 0)
                seconds[i] = seconds_since(begin_ns);
        }
    }
    for (int i = 0; i < 3; i++)
        trm_device_release(dev, halves[i]);
    trm_device_release(dev, wide);
    free(host);
    qsort(seconds, REPEATS, sizeof *seconds, ascending);
    return seconds[REPEATS / 2] > 0
               ? 2.0 * (double)side * (double)elements / seconds[REPEATS / 2] / 1e12
               : 0;
}

/* TFLOP/s by clock and multiprocessors; 0: not known. Of the device itself: what times its ops has
 * a table of its own, and so is no GPU to trm_cuda_describe. */
static double peak_of(const struct trm_device *dev)
{
    struct trm_cuda_properties p;

    return trm_cuda_describe(dev, TRM_BF16, &p)
               ? (double)p.multiprocessors * p.clock_mhz * p.flops_per_clock / 1e6
               : 0;
}

static void print_peak(const struct trm_device *dev, double tflops, double peak)
{
    char gpu[256];

    trm_device_describe(dev, gpu, sizeof gpu);
    if (peak > 0)
        printf("       %s; MFU %.1f %% of the %.1f TFLOP/s of its attributes\n", gpu,
               100 * tflops / peak, peak);
    else
        printf("       %s, whose peak is not known\n", gpu);
}

/* GB/s, read plus written, of a copy of the gradients over the first moments. */
static double copy_rate(struct bare_trainer *t)
{
    const int64_t n = t->layout->elements;
    const struct trm_tensor from = trm_tensor_1d(t->gradients, TRM_F32, n);
    const struct trm_tensor to = trm_tensor_1d(t->exp_avg, TRM_F32, n);
    int64_t begin_ns = 0;

    for (int i = -WARM_UP; i < REPEATS; i++) {
        if (i == 0) {
            trm_device_sync(t->device, NULL);
            begin_ns = trm_clock_now_ns();
        }
        t->device->ops->copy(t->device, to, from);
    }
    trm_device_sync(t->device, NULL);
    return REPEATS * 8.0 * (double)n / seconds_since(begin_ns) / 1e9;
}

/* GB/s that AdamW moves: four reads and three writes of float32, one write of bfloat16. */
static double update_rate(struct bare_trainer *t)
{
    int64_t begin_ns = 0;

    for (int i = -WARM_UP; i < REPEATS; i++) {
        if (i == 0) {
            trm_device_sync(t->device, NULL);
            begin_ns = trm_clock_now_ns();
        }
        bare_trainer_update(t);
    }
    trm_device_sync(t->device, NULL);
    return REPEATS * 30.0 * (double)t->layout->elements / seconds_since(begin_ns) / 1e9;
}

/* The next step, on random tokens. */
static enum trm_status step(struct bare_trainer *t, int32_t *tokens, double *loss,
                            struct trm_error *err)
{
    const size_t count = (size_t)t->tokens;

    for (size_t k = 0; k < 2 * count; k++)
        tokens[k] =
            (int32_t)(trm_random_bits((uint64_t)t->step, k) % (uint64_t)t->config->vocab_size);
    return bare_trainer_step(t, tokens, tokens + count, loss, err);
}

/* Where the time of a step goes. */
static enum trm_status break_down(struct bare_trainer *t, struct op_times *times, int32_t *tokens,
                                  double flops_per_second, double bytes_per_second,
                                  struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    double loss = 0;

    op_times_start(times);
    for (int i = 0; i < TIMED && status == TRM_OK; i++)
        status = step(t, tokens, &loss, err);
    op_times_print(times, stdout, TIMED, flops_per_second, bytes_per_second);
    return status;
}

static enum trm_status measure(struct bare_trainer *t, int32_t *tokens, int steps,
                               double *median_seconds, double *loss, struct trm_error *err)
{
    static double seconds[MAX_STEPS];
    enum trm_status status = TRM_OK;

    for (int i = -WARM_UP; i < steps && status == TRM_OK; i++) {
        trm_cuda_search(t->device, i == -WARM_UP);
        int64_t begin_ns = trm_clock_now_ns();
        status = step(t, tokens, loss, err);
        if (i >= 0)
            seconds[i] = seconds_since(begin_ns);
    }
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    *median_seconds = seconds[steps / 2];
    return status;
}

int main(int argc, char **argv)
{
    const struct model *model = NULL;
    const int batch = argc == 4 ? atoi(argv[2]) : 0, steps = argc == 4 ? atoi(argv[3]) : 0;
    struct trm_device dev;
    struct bare_trainer t;
    struct trm_error err = {0};
    char yaml[512];
    double seconds = 0, loss = 0;

    for (size_t i = 0; argc == 4 && i < sizeof MODELS / sizeof *MODELS; i++)
        if (strcmp(argv[1], MODELS[i].name) == 0)
            model = &MODELS[i];
    if (!model || batch < 1 || steps < 1 || steps > MAX_STEPS) {
        fprintf(stderr, "usage: bench_train_gpu 124M|350M|774M|1558M MICRO_BATCH STEPS\n");
        return 64;
    }
    if (trm_device_cuda(&dev, 0, &err) != TRM_OK)
        return fail(&err);
    const double peak = product_peak(&dev, model->peak_side), of_attributes = peak_of(&dev);
    struct op_times *times = op_times_open(&dev);
    int32_t *tokens = malloc((size_t)batch * (size_t)model->seq_length * 2 * sizeof *tokens);
    snprintf(yaml, sizeof yaml,
             "model: {num_layers: %d, hidden_size: %d, num_attention_heads: %d, seq_length: %d, "
             "vocab_size: %d}\n"
             "training: {micro_batch_size: %d, global_batch_size: %d}\n"
             "data: {train_data_path: [none]}\n",
             model->layers, model->hidden, model->heads, model->seq_length, model->vocabulary,
             batch, batch);
    if (!times || !tokens)
        trm_error_set(&err, TRM_ERR_MEMORY, "no memory for tokens and times");
    if (!times || !tokens || bare_trainer_open(&t, &dev, TRM_BF16, yaml, &err) != TRM_OK ||
        measure(&t, tokens, steps, &seconds, &loss, &err) != TRM_OK)
        return fail(&err);
    const double rate = (double)t.tokens / seconds;
    const double tflops = rate * trm_model_flops_per_token(t.config) / 1e12;
    const double update = update_rate(&t), copy = copy_rate(&t);
    printf(
        "%-6s batch %3d  %8.2f ms  %9.0f tokens/s  %7.1f TFLOP/s  %5.1f %% of the product's %.1f  "
        "adamw %.0f of copy's %.0f GB/s  memory %.1f GiB  loss %.3f\n",
        model->name, batch, seconds * 1e3, rate, tflops, 100 * tflops / peak, peak, update, copy,
        (double)t.arena.capacity / 0x1p30, loss);
    print_peak(&dev, tflops, of_attributes);
    if (break_down(&t, times, tokens, peak * 1e12, copy * 1e9, &err) != TRM_OK)
        return fail(&err);
    bare_trainer_close(&t);
    op_times_close(times);
    free(tokens);
    trm_device_cuda_close(&dev);
    return 0;
}
