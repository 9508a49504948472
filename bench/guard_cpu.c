/* Prints what the checks of docs/guard.md cost in GB/s: the digest that replicas are compared by,
 * and looking for what is not finite. guard_cpu THREADS [MILLIONS_OF_PARAMETERS [REPEATS]] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "trainer/ops/cpu/cpu.h"

static double best_gbps(struct trm_device *device, struct trm_tensor t, int repeats, bool digest)
{
    double best = 0, bytes = (double)trm_tensor_elements(t) * sizeof(float);

    for (int i = 0; i < repeats; i++) {
        struct trm_exact_sum sum;
        int64_t begin_ns = trm_clock_now_ns();
        trm_exact_sum_init(&sum);
        if (digest)
            (void)device->ops->digest(device, t);
        else
            device->ops->sum_of_squares(device, &sum, t);
        double gbps = bytes / (double)(trm_clock_now_ns() - begin_ns);
        best = gbps > best ? gbps : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1, millions = argc > 2 ? atoi(argv[2]) : 124;
    int repeats = argc > 3 ? atoi(argv[3]) : 10;
    int64_t count = (int64_t)millions * 1000000;
    struct trm_device device = {0};
    struct trm_error error = {0};
    float *data = malloc((size_t)count * sizeof *data);

    if (!data || trm_device_cpu(&device, threads, &error) != TRM_OK) {
        fprintf(stderr, "guard_cpu: %s\n", data ? error.text : "no memory");
        free(data);
        return 1;
    }
    for (int64_t i = 0; i < count; i++)
        data[i] = (float)(i % 1000) * 1e-3f;
    struct trm_tensor t = trm_tensor_1d(data, TRM_F32, count);
    printf("%d threads, %d M parameters: digest %.1f GB/s, finite %.1f GB/s\n", threads, millions,
           best_gbps(&device, t, repeats, true), best_gbps(&device, t, repeats, false));
    free(data);
    return 0;
}
