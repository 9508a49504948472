/*
 * Trials of the CUDA device: on the emulated GPU, whose threads and blocks run forwards and
 * backwards, or on a real one, where operands lie in pinned memory that both sides read and write.
 */
#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ops/support.h"
#include "tests/unit/ops/trial_device.h"
#include "trainer/ops/cuda/cuda.h"

#ifdef TRM_EMULATED_GPU
#include "tests/fake/gpu/emulator.h"
#else
static void fake_gpu_reverse(int reversed)
{
    (void)reversed;
}
#endif

static const struct {
    size_t shift;
    int reversed;
    const char *name;
} RUNS[] = {{0, 0, "at first"},
            {1, 1, "at another address, threads the other way round"},
#ifndef TRM_EMULATED_GPU
            {3, 0, "at an odd address"},
            {0, 0, "once more"}
#endif
};

int trial_runs(void)
{
    return (int)(sizeof(RUNS) / sizeof(RUNS[0]));
}

const char *trial_run_name(int run)
{
    return RUNS[run].name;
}

struct trm_device trial_open(int run, size_t *shift)
{
    static struct trm_device dev;
    struct trm_error err = {0};
    *shift = RUNS[run].shift;
    fake_gpu_reverse(RUNS[run].reversed);
    if (dev.ops == NULL && trm_device_cuda(&dev, 0, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return dev;
}

bool trial_has_half(void)
{
    return true;
}

double trial_slack(void)
{
    return 5.0;
}

int trial_longest(void)
{
#if defined(TRM_EMULATED_GPU) && defined(TRM_SANITIZED)
    return 65;
#elif defined(TRM_EMULATED_GPU)
    return 130;
#else
    return 1 << 20;
#endif
}

void *test_memory(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(cudaMallocHost(&memory, bytes > 0 ? bytes : 1), cudaSuccess);
    return memory;
}

void test_memory_free(void *memory)
{
    cudaFreeHost(memory);
}
