/* Where a run's time went, from files written by hand: two supervisors, one fault while making
 * steps, one while recovering, and a supervisor that was killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "launch/goodput.h"

#define NEAR 1e-9

static struct trm_goodput read_both(const char *events, const char *metrics, double alive_s)
{
    char directory[] = "/tmp/trireme-goodput-XXXXXX", path[TRM_PATH_BYTES];
    struct trm_goodput goodput;
    struct trm_error err;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/events.jsonl", directory);
    assert_int_equal(trm_file_write_all(path, events, strlen(events), false, &err), TRM_OK);
    snprintf(path, sizeof path, "%s/metrics.jsonl", directory);
    if (metrics)
        assert_int_equal(trm_file_write_all(path, metrics, strlen(metrics), false, &err), TRM_OK);
    assert_int_equal(trm_goodput_read(directory, alive_s, &goodput, &err), TRM_OK);
    assert_int_equal(trm_file_remove_tree(directory, &err), TRM_OK);
    return goodput;
}

static void faults_and_starts_are_told_apart(void **state)
{
    struct trm_goodput goodput =
        read_both("{\"time\":1000,\"event\":\"begin\",\"ranks\":4}\n"
                  "{\"time\":1002,\"event\":\"attempt\",\"attempt\":1,\"ranks\":4}\n"
                  "{\"time\":1003,\"event\":\"fault\",\"detection_s\":0.5}\n" /* still starting */
                  "{\"time\":1004,\"event\":\"attempt\",\"attempt\":2,\"ranks\":4}\n"
                  "{\"time\":1010,\"event\":\"recovered\",\"attempt\":2}\n"
                  "{\"time\":1100,\"event\":\"fault\",\"detection_s\":2}\n"
                  "{\"time\":1103,\"event\":\"fault\",\"detection_s\":1}\n" /* during recovery */
                  "{\"time\":1104,\"event\":\"attempt\",\"attempt\":3,\"ranks\":2}\n"
                  "{\"time\":1110,\"event\":\"recovered\",\"attempt\":3}\n"
                  "{\"time\":1200,\"event\":\"end\"}\n",
                  "{\"step\": 1, \"step_ms\": 50000.0, \"time\": 1090}\n"
                  "{\"step\": 1, \"validation_loss\": 5.5, \"validation_ms\": 5000.0}\n"
                  "{\"step\": 2, \"step_ms\": 40000.0, \"time\": 1199}\n",
                  0);

    (void)state;
    assert_float_equal(goodput.wall_s, 200, NEAR);
    assert_float_equal(goodput.starting_s, 10, NEAR);
    assert_float_equal(goodput.recovering_s, 12, NEAR); /* from 1098 to 1110 */
    assert_float_equal(goodput.steps_s, 90, NEAR);
    assert_float_equal(goodput.validation_s, 5, NEAR);
    assert_float_equal(goodput.other_s, 83, NEAR);
    assert_float_equal(goodput.rank_s, 104 * 4 + 96 * 2, NEAR);
    assert_int_equal(goodput.faults, 3);
    assert_int_equal(goodput.steps, 2);
}

static void time_between_supervisors_does_not_count(void **state)
{
    static const char events[] = "{\"time\":1000,\"event\":\"begin\",\"ranks\":1}\n"
                                 "{\"time\":1001,\"event\":\"recovered\"}\n" /* killed later */
                                 "{\"time\":5000,\"event\":\"begin\",\"ranks\":1}\n"
                                 "{\"time\":5004,\"event\":\"recovered\"}\n";
    static const char metrics[] = "{\"step\": 1, \"step_ms\": 9000.0, \"time\": 1010}\n"
                                  "{\"step\": 2, \"step_ms\": 6000.0, \"time\": 5010}\n";
    struct trm_goodput goodput = read_both(events, metrics, 0);

    (void)state;
    assert_float_equal(goodput.wall_s, 10 + 10, NEAR);
    assert_float_equal(goodput.starting_s, 1 + 4, NEAR);
    assert_float_equal(goodput.other_s, 0, NEAR);
    assert_int_equal(goodput.supervisors, 2);
    goodput = read_both(events, metrics, 5020); /* alive, in a long step */
    assert_float_equal(goodput.wall_s, 10 + 20, NEAR);
}

static void damaged_lines_are_passed_over(void **state)
{
    struct trm_goodput goodput = read_both("noise\n{\"time\":3}\n"
                                           "{\"time\":1000,\"event\":\"begin\",\"ranks\":1}\n"
                                           "{\"time\":1001,\"event\":\"end\"}\n"
                                           "{\"time\":2000,\"event\":\"be",
                                           "{\"step_ms\": \n{\"step_ms\": 7, \"time\": 1", 0);

    (void)state;
    assert_float_equal(goodput.wall_s, 1, NEAR);
    assert_float_equal(goodput.steps_s, 0, NEAR);
}

static void a_run_that_was_never_supervised_is_not_found(void **state)
{
    char directory[] = "/tmp/trireme-goodput-XXXXXX";
    struct trm_goodput goodput;
    struct trm_error err;

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(trm_goodput_read(directory, 0, &goodput, &err), TRM_ERR_NOT_FOUND);
    assert_int_equal(trm_file_remove_tree(directory, &err), TRM_OK);
}

static void it_is_told_in_a_sentence(void **state)
{
    struct trm_goodput goodput = {.wall_s = 200,
                                  .steps_s = 180,
                                  .validation_s = 10,
                                  .starting_s = 4,
                                  .faults = 1,
                                  .recovering_s = 5,
                                  .other_s = 1,
                                  .rank_s = 7200};
    char text[512];

    (void)state;
    assert_string_equal(trm_goodput_text(&goodput, text, sizeof text),
                        "90.0 % of 3 min 20 s went into steps that count, 5.0 % into validation, "
                        "2.0 % into starting, 2.5 % into recovering from 1 fault, 0.5 % into the "
                        "rest; 2 rank hours");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_and_starts_are_told_apart),
        cmocka_unit_test(time_between_supervisors_does_not_count),
        cmocka_unit_test(damaged_lines_are_passed_over),
        cmocka_unit_test(a_run_that_was_never_supervised_is_not_found),
        cmocka_unit_test(it_is_told_in_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
