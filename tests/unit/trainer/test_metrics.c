/* What metrics.jsonl keeps when a run goes on from a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "trainer/metrics.h"

#define FIRST  "{\"step\": 1, \"loss\": 5.5}\n"
#define SECOND "{\"step\": 2, \"loss\": 5.4}\n"
#define VALID  "{\"step\": 2, \"validation_loss\": 5.3}\n"
#define THIRD  "{\"step\": 10, \"loss\": 5.2}\n"

/* The file after it was opened at a step; owned. */
static char *opened(const char *before, int64_t step)
{
    struct trm_metrics metrics = {.fd = -1};
    struct trm_error err;
    char directory[] = "/tmp/trireme-metrics-XXXXXX", path[TRM_PATH_BYTES], *text;
    size_t bytes;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/metrics.jsonl", directory);
    if (before)
        assert_int_equal(trm_file_write_all(path, before, strlen(before), false, &err), TRM_OK);
    assert_int_equal(trm_metrics_open(&metrics, directory, step, &err), TRM_OK);
    trm_metrics_close(&metrics);
    assert_int_equal(trm_file_read_all(path, 1 << 20, &text, &bytes, &err), TRM_OK);
    assert_int_equal(trm_file_remove_tree(directory, &err), TRM_OK);
    return text;
}

static void must_keep(const char *before, int64_t step, const char *after)
{
    char *text = opened(before, step);

    assert_string_equal(text, after);
    free(text);
}

static void lines_of_later_steps_go(void **state)
{
    (void)state;
    must_keep(FIRST SECOND VALID THIRD, 2, FIRST SECOND VALID);
    must_keep(FIRST SECOND VALID THIRD, 9, FIRST SECOND VALID);
    must_keep(FIRST SECOND VALID THIRD, 1, FIRST);
    must_keep(FIRST SECOND VALID THIRD, 0, "");
}

static void lines_of_earlier_steps_stay(void **state)
{
    (void)state;
    must_keep(FIRST SECOND VALID THIRD, 10, FIRST SECOND VALID THIRD);
    must_keep(FIRST, 1000, FIRST);
    must_keep(NULL, 3, "");
    must_keep("", 3, "");
}

static void a_line_that_was_cut_off_goes(void **state)
{
    (void)state;
    must_keep(FIRST SECOND "{\"step\": 3, \"lo", 3, FIRST SECOND);
    must_keep("{\"step\": 3", 3, "");
    must_keep(FIRST "{\"step\": \n", 3, FIRST);
    must_keep(FIRST "noise\n\n", 3, FIRST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_later_steps_go),
        cmocka_unit_test(lines_of_earlier_steps_stay),
        cmocka_unit_test(a_line_that_was_cut_off_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
