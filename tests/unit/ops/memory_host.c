/* Memory of tests whose device computes on the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/ops/support.h"

void *test_memory(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, TEST_MEMORY_ALIGNMENT, bytes > 0 ? bytes : 1), 0);
    return memory;
}

void test_memory_free(void *memory)
{
    free(memory);
}
