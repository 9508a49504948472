#include "base/machine.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static void available_memory_is_some_and_no_more_than_the_machine_has(void **state)
{
    (void)state;
    uint64_t installed = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t available = trm_machine_available_bytes();
    assert_true(available > UINT64_C(1) << 20);
    assert_true(available <= installed);
}

static void cores_follow_the_affinity_of_the_process(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(trm_machine_cores(), CPU_COUNT(&before));
    int first = 0;
    while (!CPU_ISSET(first, &before))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(trm_machine_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(available_memory_is_some_and_no_more_than_the_machine_has),
        cmocka_unit_test(cores_follow_the_affinity_of_the_process),
    };
    return cmocka_run_group_tests_name("base/machine", tests, NULL, NULL);
}
