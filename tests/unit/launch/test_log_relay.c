#include "launch/supervisor/log_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define LINES 60000 /* more than all pipes on the way have room for */

/* Reads lines up to the end of the pipe, and returns how many came, and how many are missing as the
 * relay has it. Each must be whole. */
static void read_lines(int fd, int *came, int *missing)
{
    FILE *file = fdopen(fd, "r");
    char line[256];

    *came = *missing = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        const char *at = strstr(line, "warning: ");
        int number = 0;
        if (at && sscanf(at, "warning: %d line", &number) == 1) {
            *missing += number;
            continue;
        }
        at = strstr(line, "line number ");
        assert_non_null(at);
        assert_string_equal(at + 18, ", which is this long\n");
        (*came)++;
    }
    fclose(file);
}

static void write_lines(const struct trm_log *log, int count)
{
    for (int i = 0; i < count; i++)
        trm_log(log, TRM_LOG_INFO, "line number %06d, which is this long", i);
}

static void lines_come_out_before_the_relay_is_closed(void **state)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1};
    struct trm_log_relay *relay;
    int ends[2], came, missing;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(trm_log_relay_open(ends[1], &log, &relay, NULL), TRM_OK);
    write_lines(&log, 100);
    trm_log_pass(&log, "and line number 000100, which is this long");
    trm_log_relay_close(relay, 20000);
    close(ends[1]);
    read_lines(ends[0], &came, &missing);
    assert_int_equal(came, 101);
    assert_int_equal(missing, 0);
}

static void nobody_who_logs_waits_for_an_output_that_is_not_read(void **state)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1};
    struct trm_log_relay *relay;
    int ends[2], came, missing;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(trm_log_relay_open(ends[1], &log, &relay, NULL), TRM_OK);
    write_lines(&log, LINES); /* would stand still for ever */
    assert_true(__atomic_load_n(log.lost, __ATOMIC_RELAXED) > 0);
    pid_t reader = fork(); /* what was missing is told to who reads at last */
    assert_true(reader >= 0);
    if (reader == 0) {
        close(log.fd);
        close(ends[1]);
        read_lines(ends[0], &came, &missing);
        _exit(came > 0 && came < LINES && came + missing == LINES ? 0 : 1);
    }
    trm_log_relay_close(relay, 20000);
    close(ends[0]);
    close(ends[1]);
    int status;
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(status, 0);
}

/* The last test: a thread is left that waits. */
static void closing_does_not_wait_for_ever(void **state)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1};
    struct trm_log_relay *relay;
    int ends[2];
    int64_t begin_ns = trm_clock_now_ns();

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(trm_log_relay_open(ends[1], &log, &relay, NULL), TRM_OK);
    write_lines(&log, LINES);
    trm_log_relay_close(relay, 50);
    assert_true(trm_clock_now_ns() - begin_ns < INT64_C(20000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_before_the_relay_is_closed),
        cmocka_unit_test(nobody_who_logs_waits_for_an_output_that_is_not_read),
        cmocka_unit_test(closing_does_not_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
