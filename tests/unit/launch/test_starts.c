#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/slurm/starts.h"

#define MOST 3

/* A start of chain "7" after one that began at `step` and ended so. */
static bool judge_after(enum trm_start_end end, int fruitless, int64_t before, int64_t step,
                        struct trm_start *start, struct trm_error *err)
{
    struct trm_start previous = {.chain = "7", .step = before, .fruitless = fruitless, .end = end};

    return trm_start_judge(&previous, "7", step, MOST, start, err);
}

static void a_first_start_and_one_of_another_chain_may_go(void **state)
{
    struct trm_start previous = {.chain = "6", .step = 5, .fruitless = 9, .end = TRM_START_STOPPED};
    struct trm_start start;

    (void)state;
    assert_true(trm_start_judge(NULL, "7", -1, MOST, &start, NULL));
    assert_string_equal(start.chain, "7");
    assert_int_equal(start.step, -1);
    assert_int_equal(start.fruitless, 0);
    assert_int_equal(start.end, TRM_START_VANISHED);
    assert_true(trm_start_judge(&previous, "7", 5, MOST, &start, NULL));
    assert_int_equal(start.fruitless, 0);
}

static void a_start_that_saved_lets_the_next_one_go(void **state)
{
    struct trm_start start;

    (void)state;
    for (int end = 0; end < TRM_START_ENDS; end++) {
        assert_true(judge_after((enum trm_start_end)end, 2, 10, 11, &start, NULL));
        assert_int_equal(start.fruitless, 0);
        assert_int_equal(start.step, 11);
    }
}

static void a_start_whose_time_was_too_short_ends_the_chain(void **state)
{
    struct trm_start start;
    struct trm_error err;

    (void)state;
    assert_false(judge_after(TRM_START_STOPPED, 0, 10, 10, &start, &err));
    assert_non_null(strstr(err.text, "without a checkpoint beyond step 10"));
    assert_false(judge_after(TRM_START_STOPPED, 0, -1, -1, &start, &err));
    assert_non_null(strstr(err.text, "without a first checkpoint"));
}

static void preempted_starts_are_not_counted(void **state)
{
    struct trm_start start;

    (void)state;
    assert_true(judge_after(TRM_START_PREEMPTED, MOST - 1, 10, 10, &start, NULL));
    assert_int_equal(start.fruitless, MOST - 1);
}

static void starts_that_vanish_without_saving_are_counted(void **state)
{
    struct trm_start start;
    struct trm_error err;

    (void)state;
    assert_true(judge_after(TRM_START_VANISHED, 0, 10, 10, &start, &err));
    assert_int_equal(start.fruitless, 1);
    assert_true(judge_after(TRM_START_VANISHED, 1, 10, 10, &start, &err));
    assert_false(judge_after(TRM_START_VANISHED, MOST - 1, 10, 10, &start, &err));
    assert_non_null(strstr(err.text, "3 starts in a row"));
}

static void a_start_is_written_and_read(void **state)
{
    char root[] = "/tmp/trireme-starts-XXXXXX", path[TRM_PATH_BYTES];
    struct trm_attempts attempts;
    struct trm_error err;

    (void)state;
    assert_non_null(mkdtemp(root));
    assert_int_equal(trm_attempts_open(root, &attempts, &err), TRM_OK);
    for (int end = 0; end < TRM_START_ENDS; end++) {
        struct trm_start read, start = {.chain = "12345", .step = 1200, .fruitless = 2};
        start.end = (enum trm_start_end)end;
        if (end == 0)
            assert_int_equal(trm_start_read(&attempts, &read, &err), TRM_ERR_NOT_FOUND);
        assert_int_equal(trm_start_write(&attempts, &start, &err), TRM_OK);
        memset(&read, 0, sizeof read);
        assert_int_equal(trm_start_read(&attempts, &read, &err), TRM_OK);
        assert_string_equal(read.chain, "12345");
        assert_int_equal(read.step, 1200);
        assert_int_equal(read.fruitless, 2);
        assert_int_equal(read.end, end);
    }
    assert_int_equal(trm_file_path(path, &err, "%s/start.json", attempts.directory), TRM_OK);
    assert_int_equal(trm_file_write_all(path, "{\"chain\": \"1\"}", 14, false, &err), TRM_OK);
    struct trm_start read;
    assert_int_not_equal(trm_start_read(&attempts, &read, &err), TRM_OK);
    assert_non_null(strstr(err.text, "\"step\""));
    assert_int_equal(trm_file_remove_tree(root, &err), TRM_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_start_and_one_of_another_chain_may_go),
        cmocka_unit_test(a_start_that_saved_lets_the_next_one_go),
        cmocka_unit_test(a_start_whose_time_was_too_short_ends_the_chain),
        cmocka_unit_test(preempted_starts_are_not_counted),
        cmocka_unit_test(starts_that_vanish_without_saving_are_counted),
        cmocka_unit_test(a_start_is_written_and_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
