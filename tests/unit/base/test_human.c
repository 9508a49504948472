#include "base/human.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void bytes_read_well(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {12, "12 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {UINT64_C(8) << 20, "8 MiB"},
        {UINT64_C(475) << 20, "475 MiB"},
        {UINT64_C(2040109466), "1.9 GiB"},
        {1048575, "1.0 MiB"},
        {102300, "99.9 KiB"},
        {102399, "100 KiB"},
        {UINT64_C(3) << 40, "3 TiB"},
        {UINT64_MAX, "16 EiB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        assert_string_equal(trm_human_bytes(text, sizeof text, cases[i].bytes), cases[i].text);
    }
}

static void durations_read_well(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {
        {0, "0 ms"},
        {0.0004, "0.4 ms"},
        {0.0099, "9.9 ms"},
        {0.00999, "10 ms"},
        {0.85, "850 ms"},
        {0.9994, "999 ms"},
        {0.9996, "1.0 s"},
        {12.4, "12.4 s"},
        {59.94, "59.9 s"},
        {59.97, "1 min 00 s"},
        {200, "3 min 20 s"},
        {3599.4, "59 min 59 s"},
        {3599.6, "1 h 00 min"},
        {7500, "2 h 05 min"},
        {1e6, "277 h 47 min"},
        {-1, "unknown time"},
        {INFINITY, "unknown time"},
        {NAN, "unknown time"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        assert_string_equal(trm_human_duration(text, sizeof text, cases[i].seconds), cases[i].text);
    }
}

static void counts_read_well(void **state)
{
    (void)state;
    static const struct {
        uint64_t count;
        const char *text;
    } cases[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1,000"},
        {50257, "50,257"},
        {999999, "999,999"},
        {1000000, "1.00M"},
        {9995000, "10.0M"},
        {124439808, "124.4M"},
        {999949999, "999.9M"},
        {999950000, "1.00B"},
        {1557611200, "1.56B"},
        {UINT64_C(70000000000000), "70.0T"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        assert_string_equal(trm_human_count(text, sizeof text, cases[i].count), cases[i].text);
    }
}

static void short_buffers_are_not_overrun(void **state)
{
    (void)state;
    char text[8] = "#######";
    trm_human_bytes(text, 4, UINT64_C(475) << 20);
    assert_memory_equal(text, "475\0###", 8);
    trm_human_duration(text, 4, 7500);
    assert_memory_equal(text, "2 h\0###", 8);
}

/* Runs a progress to its end in `steps` steps over a pipe and returns what it wrote. */
static char *run_progress(uint64_t total, int steps)
{
    static char text[8192];
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    struct trm_progress progress;
    trm_progress_begin(&progress, pipe_ends[1], "reading", total);
    for (int i = 1; i <= steps; i++)
        trm_progress_update(&progress, total * (uint64_t)i / (uint64_t)steps);
    trm_progress_end(&progress);
    close(pipe_ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(pipe_ends[0], text + used, sizeof text - used - 1)) > 0)
        used += (size_t)got;
    close(pipe_ends[0]);
    text[used] = '\0';
    return text;
}

static void progress_off_a_terminal_is_a_line_per_ten_percent(void **state)
{
    (void)state;
    char *text = run_progress(UINT64_C(2) << 30, 1000);
    int lines = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char mark[16];
        snprintf(mark, sizeof mark, "] %3d %%", 10 * lines);
        assert_non_null(strstr(line, mark));
        assert_memory_equal(line, "reading [", 9);
        assert_non_null(strstr(line, "of 2 GiB"));
        assert_null(strchr(line, '\r'));
        assert_int_equal(strstr(line, " left") != NULL, lines > 0 && lines < 10);
        lines++;
    }
    assert_int_equal(lines, 11);
}

static void progress_of_nothing_is_done_at_once(void **state)
{
    (void)state;
    char *text = run_progress(0, 3);
    assert_string_equal(text, "reading [========================] 100 %  0 B of 0 B\n");
}

static void progress_beyond_the_total_stays_at_the_total(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    struct trm_progress progress;
    trm_progress_begin(&progress, pipe_ends[1], "x", 10);
    trm_progress_update(&progress, 1000);
    close(pipe_ends[1]);
    char text[1024] = "";
    assert_true(read(pipe_ends[0], text, sizeof text - 1) > 0);
    close(pipe_ends[0]);
    assert_non_null(strstr(text, "] 100 %  10 B of 10 B\n"));
}

static void progress_on_a_terminal_redraws_its_line(void **state)
{
    (void)state;
    int controller = posix_openpt(2 /* O_RDWR */);
    if (controller < 0 || grantpt(controller) != 0 || unlockpt(controller) != 0) {
        print_message("skipped: this machine gives no pseudo terminals\n");
        skip();
    }
    FILE *terminal = fopen(ptsname(controller), "r+");
    assert_non_null(terminal);
    struct trm_progress progress;
    trm_progress_begin(&progress, fileno(terminal), "reading", 100);
    trm_progress_update(&progress, 1); /* too soon to draw again */
    trm_progress_update(&progress, 100);
    trm_progress_end(&progress);
    char text[1024] = "";
    size_t used = 0;
    while (used == 0 || text[used - 1] != '\n') {
        ssize_t got = read(controller, text + used, sizeof text - used - 1);
        assert_true(got > 0);
        used += (size_t)got;
    }
    fclose(terminal);
    close(controller);
    int draws = 0;
    for (const char *c = strstr(text, "\rreading"); c; c = strstr(c + 1, "\rreading"))
        draws++;
    assert_int_equal(draws, 2);
    assert_null(strstr(text, "  1 %"));
    assert_non_null(strstr(text, "100 %"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_read_well),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(counts_read_well),
        cmocka_unit_test(short_buffers_are_not_overrun),
        cmocka_unit_test(progress_off_a_terminal_is_a_line_per_ten_percent),
        cmocka_unit_test(progress_of_nothing_is_done_at_once),
        cmocka_unit_test(progress_beyond_the_total_stays_at_the_total),
        cmocka_unit_test(progress_on_a_terminal_redraws_its_line),
    };
    return cmocka_run_group_tests_name("base/human", tests, NULL, NULL);
}
