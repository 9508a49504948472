/* Trials of the CPU device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ops/trial_device.h"
#include "trainer/ops/cpu/cpu.h"

/* Addresses are the business of one more run at one thread. */
static const struct {
    int threads;
    size_t shift;
    const char *name;
} RUNS[] = {{1, 0, "at 1 thread"},
            {1, 1, "at another address"},
            {2, 0, "at 2 threads"},
            {3, 3, "at 3 threads"},
            {8, 0, "at 8 threads"}};

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
    struct trm_device dev;
    struct trm_error err = {0};
    *shift = RUNS[run].shift;
    if (trm_device_cpu(&dev, RUNS[run].threads, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return dev;
}

bool trial_has_half(void)
{
    return false;
}

double trial_slack(void)
{
    return 1.0;
}

int trial_longest(void)
{
    return 1 << 20;
}
