/* What metrics.jsonl keeps when a run goes on from a step, and when its disk is full. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Files of this process may have `bytes` from now on. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_costs_whole_lines_and_is_told_once(void **state)
{
    (void)state;
    struct trm_error err;
    struct trm_bad_step_metrics bad = {
        .step = 1, .bad_step = 1, .reason = "not finite", .action = "skip", .next = 8};
    char directory[] = "/tmp/trireme-metrics-XXXXXX", path[TRM_PATH_BYTES], told[4096] = "", *text;
    size_t bytes;
    int pipes[2]; /* no file, and so without a limit */
    struct stat info;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/metrics.jsonl", directory);
    assert_int_equal(pipe(pipes), 0);
    struct trm_metrics metrics = {.fd = -1,
                                  .train_iters = 10,
                                  .log_interval = 1,
                                  .log = {.level = TRM_LOG_INFO, .rank = -1, .fd = pipes[1]}};
    assert_int_equal(trm_metrics_open(&metrics, directory, 0, &err), TRM_OK);
    trm_metrics_bad_step(&metrics, &bad);
    assert_int_equal(stat(path, &info), 0);
    /* Half of the next line has room: a disk that fills up in the middle of it. */
    (void)signal(SIGXFSZ, SIG_IGN);
    limit_files((rlim_t)info.st_size + 40);
    bad.bad_step = 2;
    trm_metrics_bad_step(&metrics, &bad);
    trm_metrics_bad_step(&metrics, &bad);
    limit_files(RLIM_INFINITY);
    bad.bad_step = 3;
    trm_metrics_bad_step(&metrics, &bad);
    trm_metrics_close(&metrics);

    assert_int_equal(trm_file_read_all(path, 1 << 20, &text, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, 2 * info.st_size);
    assert_non_null(strstr(text, "\"bad_step\": 1"));
    assert_null(strstr(text, "\"bad_step\": 2"));
    assert_non_null(strstr(text, "}\n{\"step\": 1, \"bad_step\": 3"));
    free(text);
    assert_true(read(pipes[0], told, sizeof told - 1) > 0);
    const char *first = strstr(told, "warning: could not write to metrics.jsonl: ");
    assert_non_null(first);
    assert_null(strstr(first + 1, "warning"));
    assert_non_null(strstr(first, "can be written again; 2 lines are missing"));
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(trm_file_remove_tree(directory, &err), TRM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_later_steps_go),
        cmocka_unit_test(lines_of_earlier_steps_stay),
        cmocka_unit_test(a_line_that_was_cut_off_goes),
        cmocka_unit_test(a_full_disk_costs_whole_lines_and_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
