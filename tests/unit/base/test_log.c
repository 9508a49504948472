#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct captured {
    int pipe_ends[2];
    char text[4096];
};

static int set_up(void **state)
{
    static struct captured captured;
    *state = &captured;
    return pipe(captured.pipe_ends);
}

static int tear_down(void **state)
{
    struct captured *captured = *state;
    return close(captured->pipe_ends[0]) | close(captured->pipe_ends[1]);
}

/* What was written since the last call; a mark ends it, so that an empty pipe doesn't block. */
static const char *take(struct captured *captured)
{
    assert_int_equal(write(captured->pipe_ends[1], "\x01", 1), 1);
    size_t used = 0;
    while (used == 0 || captured->text[used - 1] != '\x01') {
        ssize_t got =
            read(captured->pipe_ends[0], captured->text + used, sizeof captured->text - used);
        assert_true(got > 0);
        used += (size_t)got;
    }
    captured->text[used - 1] = '\0';
    return captured->text;
}

static void lines_show_time_rank_level_and_text(void **state)
{
    struct captured *captured = *state;
    static const struct {
        int rank;
        enum trm_log_level level;
        const char *rest;
    } cases[] = {
        {3, TRM_LOG_ERROR, "rank 3  error: value 7\n"},
        {0, TRM_LOG_WARNING, "rank 0  warning: value 7\n"},
        {-1, TRM_LOG_INFO, "value 7\n"},
        {-1, TRM_LOG_DEBUG, "debug: value 7\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_log log = {TRM_LOG_DEBUG, cases[i].rank, captured->pipe_ends[1], NULL};
        trm_log(&log, cases[i].level, "value %d", 7);
        const char *line = take(captured);
        int hour, minute, second, head = 0;
        assert_int_equal(sscanf(line, "%2d:%2d:%2d%n", &hour, &minute, &second, &head), 3);
        assert_int_equal(head, 8);
        assert_string_equal(line + 9, cases[i].rest);
    }
}

static void less_severe_lines_are_dropped(void **state)
{
    struct captured *captured = *state;
    for (int kept = TRM_LOG_ERROR; kept <= TRM_LOG_DEBUG; kept++)
        for (int level = TRM_LOG_ERROR; level <= TRM_LOG_DEBUG; level++) {
            struct trm_log log = {(enum trm_log_level)kept, -1, captured->pipe_ends[1], NULL};
            trm_log(&log, (enum trm_log_level)level, "x");
            assert_int_equal(take(captured)[0] != '\0', level <= kept);
        }
}

static void long_lines_are_cut_to_2000_bytes(void **state)
{
    struct captured *captured = *state;
    char longer[3000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    struct trm_log log = {TRM_LOG_INFO, 12, captured->pipe_ends[1], NULL};
    for (int length = 1970; length < 2990; length++) {
        trm_log(&log, TRM_LOG_INFO, "%.*s", length, longer);
        const char *line = take(captured);
        size_t bytes = strlen(line);
        size_t whole = strlen("12:04:31 rank 12  ") + (size_t)length + 1;
        assert_int_equal(bytes, whole < 1999 ? whole : 1999);
        assert_string_equal(line + bytes - 4, whole <= 1999 ? "yyy\n" : "...\n");
    }
}

static void control_characters_do_not_break_the_line(void **state)
{
    struct captured *captured = *state;
    struct trm_log log = {TRM_LOG_INFO, -1, captured->pipe_ends[1], NULL};
    trm_log(&log, TRM_LOG_INFO, "a\nb\x1b[31m\tc");
    assert_string_equal(take(captured) + 9, "a b [31m c\n");
}

enum { THREADS = 4, LINES = 200 };

static void *log_lines(void *argument)
{
    const struct trm_log *log = argument;
    for (int i = 0; i < LINES; i++)
        trm_log(log, TRM_LOG_INFO, "a line of one thread, as long as the others: %03d.", i);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    struct trm_log log = {TRM_LOG_INFO, 5, fileno(file), NULL};
    fcntl(log.fd, F_SETFL, O_APPEND);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &log), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    static const char text[] = "rank 5  a line of one thread, as long as the others: ";
    char line[256];
    int seen[LINES] = {0}, lines = 0;
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        int number = -1;
        assert_memory_equal(line + 9, text, sizeof text - 1);
        assert_int_equal(sscanf(line + 9 + sizeof text - 1, "%3d.", &number), 1);
        assert_in_range(number, 0, LINES - 1);
        seen[number]++;
        lines++;
    }
    fclose(file);
    assert_int_equal(lines, THREADS * LINES);
    for (int i = 0; i < LINES; i++)
        assert_int_equal(seen[i], THREADS);
}

static void errno_survives_a_closed_log(void **state)
{
    (void)state;
    struct trm_log log = {TRM_LOG_INFO, -1, -1, NULL};
    errno = ENOSPC;
    trm_log(&log, TRM_LOG_ERROR, "nobody reads this");
    assert_int_equal(errno, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_show_time_rank_level_and_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(less_severe_lines_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_lines_are_cut_to_2000_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_characters_do_not_break_the_line, set_up,
                                        tear_down),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
        cmocka_unit_test(errno_survives_a_closed_log),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
