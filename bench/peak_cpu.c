/* Prints the machine's float32 peak for this use, in GFLOP/s: the best of several 2048^3 products
 * by the matrix library. peak_cpu THREADS [REPEATS] */
#include <stdio.h>
#include <stdlib.h>

#include "trainer/ops/cpu/cpu.h"

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1, repeats = argc > 2 ? atoi(argv[2]) : 20;
    struct trm_device device = {0};
    struct trm_error error = {0};

    if (trm_device_cpu(&device, threads, &error) != TRM_OK) {
        fprintf(stderr, "peak_cpu: %s\n", error.text);
        return 1;
    }
    printf("%.1f\n", trm_cpu_peak_gflops(&device, repeats));
    return 0;
}
