/* What a GPU does when something is refused, on the emulated one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/fake/gpu/emulator.h"
#include "trainer/ops/cuda/cuda.h"

static struct trm_device opened(void)
{
    struct trm_device dev;
    assert_int_equal(trm_device_cuda(&dev, 0, NULL), TRM_OK);
    return dev;
}

/* CUDA keeps the last error of a thread until it is asked for, and launches ask for it. */
static void a_refusal_is_not_blamed_on_a_launch_behind_it(void **state)
{
    struct trm_device dev = opened();
    (void)state;
    assert_null(trm_device_allocate(&dev, SIZE_MAX / 2));
    assert_int_equal(trm_device_sync(&dev, NULL), TRM_ERR_MEMORY);
    trm_device_cuda_close(&dev);

    dev = opened();
    void *data = trm_device_allocate(&dev, 64 * sizeof(float));
    const struct trm_tensor t = trm_tensor_1d(data, TRM_F32, 64);
    dev.ops->zero(&dev, t);
    dev.ops->add(&dev, t, t, t);
    assert_int_equal(trm_device_sync(&dev, NULL), TRM_OK);
    trm_device_release(&dev, data);
    trm_device_cuda_close(&dev);
}

static void a_block_has_48_kib_of_shared_memory_or_what_its_kernel_was_allowed(void **state)
{
    const int one = 0, other = 0;
    (void)state;
    assert_int_equal(fake_gpu_check_shared(&one, 48 * 1024), 0);
    assert_int_not_equal(fake_gpu_check_shared(&one, 48 * 1024 + 1), 0);
    fake_gpu_allow_shared(&other, 64 * 1024);
    assert_int_equal(fake_gpu_check_shared(&other, 64 * 1024), 0);
    assert_int_not_equal(fake_gpu_check_shared(&other, 64 * 1024 + 1), 0);
    assert_int_not_equal(fake_gpu_check_shared(&one, 64 * 1024), 0);
    assert_int_not_equal(fake_gpu_last_error(), 0);
    assert_int_equal(fake_gpu_last_error(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_is_not_blamed_on_a_launch_behind_it),
        cmocka_unit_test(a_block_has_48_kib_of_shared_memory_or_what_its_kernel_was_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
