/* The team of threads, its floating-point mode, and the scratch it shares. */
#include <omp.h>

#include "trainer/ops/cpu/internal.h"

#if defined(__SSE2__)
#include <xmmintrin.h>

/* Flush to zero and denormals are zero. */
#define DENORMALS_OFF 0x8040u

static uint64_t denormals_off(void)
{
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | DENORMALS_OFF);
    return mode;
}

static void mode_restore(uint64_t mode)
{
    _mm_setcsr((unsigned)mode);
}

#elif defined(__aarch64__)

static uint64_t denormals_off(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1ULL << 24)));
    return mode;
}

static void mode_restore(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}

#else

static uint64_t denormals_off(void)
{
    return 0;
}

static void mode_restore(uint64_t mode)
{
    (void)mode;
}

#endif

/* The team of one is no parallel region to OpenMP: the matrix library must be told not to start
 * one. */
static void run_alone(int64_t count, int64_t grain, trm_cpu_range_fn fn, void *context)
{
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    uint64_t mode = denormals_off();
    for (int64_t first = 0; first < count; first += grain)
        fn(context, first, trm_cpu_min(first + grain, count), 0);
    mode_restore(mode);
    omp_set_num_threads(threads);
}

void trm_cpu_for(struct trm_device *dev, int64_t count, int64_t grain, trm_cpu_range_fn fn,
                 void *context)
{
    TRM_ASSERT(grain > 0);
    int threads = trm_cpu_threads(dev);
    if (threads == 1 || count <= grain) {
        run_alone(count, grain, fn, context);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        uint64_t mode = denormals_off();
        int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
        for (int64_t first = 0; first < count; first += grain)
            fn(context, first, trm_cpu_min(first + grain, count), thread);
        mode_restore(mode);
    }
}

void *trm_cpu_workspace(struct trm_device *dev, const char *op, size_t bytes)
{
    if (dev->workspace != NULL && dev->workspace_bytes >= bytes)
        return dev->workspace;
    trm_cpu_fail(
        dev, TRM_ERR_INTERNAL,
        "%s needs a workspace of %zu bytes, but %zu were reserved for the sizes planned at "
        "the start",
        op, bytes, dev->workspace == NULL ? 0 : dev->workspace_bytes);
    return NULL;
}
