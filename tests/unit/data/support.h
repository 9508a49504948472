/* Files for the tests of trainer/data: a directory that lives for one test, and token files of
 * every format made here, not by the code under test. Failures are cmocka's. */
#ifndef TRM_TESTS_UNIT_DATA_SUPPORT_H
#define TRM_TESTS_UNIT_DATA_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "trainer/data/dataset.h"
#include "trainer/data/tokens.h"

struct scratch {
    char directory[TRM_PATH_BYTES];
};

/* cmocka set-up and tear-down: *state is a struct scratch. */
int scratch_setup(void **state);
int scratch_teardown(void **state);
#define SCRATCH_TEST(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

/* "<directory>/<name>" in owned memory that scratch_teardown does not free: text[TRM_PATH_BYTES].
 */
const char *scratch_path(const struct scratch *scratch, const char *name,
                         char text[TRM_PATH_BYTES]);

void write_file(const struct scratch *scratch, const char *name, const void *data, size_t bytes);

/* tokens[i] = value(i) as raw uint16. */
void write_raw16(const struct scratch *scratch, const char *name, int64_t count,
                 int32_t (*value)(int64_t index));

/* The index itself, as far as 16 bits hold it: tells where a sample came from. */
int32_t value_index(int64_t index);

/* 4 tokens per sample, vocabulary 65,536, seed 1, all of it as the training part.
 */
struct trm_dataset_settings plain_settings(const char *const *paths, int count);

#endif
