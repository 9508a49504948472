/*
 * How close the CPU device's matrix products come to the machine's peak.
 *
 *   bench_gemm_cpu [THREADS [REPEATS]]
 *
 * Prints, for the products of GPT-2 124M (4 x 256 tokens) and of a small model (8 x 256), GFLOP/s
 * and their ratio to the matrix library's own 2048^3 product with as many threads. Peak and
 * products are measured in turn, and of each the best try counts, so that a busy machine distorts
 * the ratio least.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "trainer/ops/cpu/cpu.h"

/* y = x w^T; dx = dy w; dw += dy^T x, with `rows` rows and a weight of [features, columns]. */
enum form { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, FORMS };

static const char *const form_names[FORMS] = {"y = x w^T", "dx = dy w", "dw += dy^T x"};

struct layer {
    const char *name;
    int64_t rows, columns, features;
};

static const struct layer layers[] = {
    {"124M qkv", 1024, 768, 2304},
    {"124M projection", 1024, 768, 768},
    {"124M mlp up", 1024, 768, 3072},
    {"124M mlp down", 1024, 3072, 768},
    {"124M head, 256 rows", 256, 768, 50304},
    {"124M head", 1024, 768, 50304},
    {"small qkv", 2048, 384, 1152},
    {"small projection", 2048, 384, 384},
    {"small mlp up", 2048, 384, 1536},
    {"small mlp down", 2048, 1536, 384},
    {"small head", 2048, 384, 256},
};

static void run(struct trm_device *dev, const struct layer *layer, enum form form, float *memory[3])
{
    struct trm_tensor x = trm_tensor_2d(memory[0], TRM_F32, layer->rows, layer->columns);
    struct trm_tensor w = trm_tensor_2d(memory[1], TRM_F32, layer->features, layer->columns);
    struct trm_tensor y = trm_tensor_2d(memory[2], TRM_F32, layer->rows, layer->features);
    switch (form) {
    case FORWARD:
        dev->ops->matmul(dev, y, x, trm_tensor_transpose(w), false);
        break;
    case INPUT_GRADIENT:
        dev->ops->matmul(dev, x, y, w, false);
        break;
    default:
        dev->ops->matmul(dev, w, trm_tensor_transpose(y), x, true);
        break;
    }
}

static void measure(struct trm_device *dev, const struct layer *layer, int repeats,
                    float *memory[3])
{
    printf("%-22s", layer->name);
    for (enum form form = 0; form < FORMS; form++) {
        double flops = 2.0 * (double)layer->rows * (double)layer->columns * (double)layer->features;
        double best = 0.0, peak = 0.0;
        for (int i = 0; i <= repeats; i++) {
            double here = trm_cpu_peak_gflops(dev, 1);
            peak = here > peak ? here : peak;
            int64_t start_ns = trm_clock_now_ns();
            run(dev, layer, form, memory);
            double gflops = flops / (double)(trm_clock_now_ns() - start_ns);
            best = i > 0 && gflops > best ? gflops : best;
        }
        printf("  %s %6.1f (%.2f)", form_names[form], best, best / peak);
        fflush(stdout);
    }
    printf("\n");
}

/* Aligned as the trainer's memory is: a vector that straddles two cache lines costs a tenth. */
static void *allocate(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

/* The largest operand of all layers, so that one allocation serves them all. */
static size_t operand_bytes(void)
{
    int64_t largest = 0;
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
        const struct layer *l = &layers[i];
        int64_t sizes[] = {l->rows * l->columns, l->rows * l->features, l->features * l->columns};
        for (int j = 0; j < 3; j++)
            largest = sizes[j] > largest ? sizes[j] : largest;
    }
    return (size_t)largest * sizeof(float);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1, repeats = argc > 2 ? atoi(argv[2]) : 5;
    struct trm_device dev;
    struct trm_error err;
    if (trm_device_cpu(&dev, threads, &err) != TRM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return TRM_EXIT_CONFIG;
    }
    struct trm_ops_limits limits = {.type = TRM_F32, .max_rows = 2048, .max_columns = 50304};
    dev.workspace_bytes = dev.ops->workspace_bytes(&dev, &limits);
    dev.workspace = allocate(dev.workspace_bytes);
    size_t bytes = operand_bytes();
    float *memory[3] = {allocate(bytes), allocate(bytes), allocate(bytes)};
    int code = TRM_EXIT_OS;
    if (dev.workspace == NULL || memory[0] == NULL || memory[1] == NULL || memory[2] == NULL) {
        fprintf(stderr, "out of memory\n");
        goto done;
    }
    for (int i = 0; i < 3; i++)
        memset(memory[i], 0, bytes);
    char text[128];
    trm_device_describe(&dev, text, sizeof(text));
    printf("%s, %d threads: peak %.1f GFLOP/s\n", text, threads, trm_cpu_peak_gflops(&dev, 3));
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++)
        measure(&dev, &layers[i], repeats, memory);
    code = trm_device_sync(&dev, &err) == TRM_OK ? TRM_EXIT_OK : TRM_EXIT_SOFTWARE;
    if (code != TRM_EXIT_OK)
        fprintf(stderr, "%s\n", err.text);
done:
    for (int i = 0; i < 3; i++)
        free(memory[i]);
    free(dev.workspace);
    return code;
}
