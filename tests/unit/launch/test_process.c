#include "launch/process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void stat_lines_are_parsed_whatever_the_name_holds(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"42 (orted) T 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0", "orted"},
        {"42 (a b) c) T 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0", "a b) c"},
        {"42 () T 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0", ""},
        {"42 (0123456789012345678) T 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345",
         "012345678901234"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_process process;
        assert_true(trm_process_parse(cases[i].text, &process));
        assert_string_equal(process.name, cases[i].name);
        assert_int_equal(process.pid, 42);
        assert_int_equal(process.parent, 7);
        assert_int_equal(process.state, 'T');
        assert_int_equal(process.start_time, 12345);
    }
}

static void lines_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "42", "42 (orted", "42 orted) T 7", "42 )a( T", "x (orted) T 7", "42 (orted) T 7 1 1"};
    struct trm_process process;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_false(trm_process_parse(texts[i], &process));
}

static void a_process_is_read_killed_and_its_end_is_seen(void **state)
{
    (void)state;
    struct trm_process process;
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    int fd = trm_process_open(pid);
    assert_true(fd >= 0);
    assert_true(trm_process_read(pid, &process));
    assert_int_equal(process.parent, getpid());
    assert_false(trm_process_is_over(fd));
    trm_process_kill(fd);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(trm_process_is_over(fd));
    int signal_number = trm_process_death_signal(fd);
    assert_true(signal_number == SIGKILL || signal_number == 0); /* an older kernel can't tell */
    trm_process_kill(fd);                                        /* hits nobody */
    close(fd);
    assert_int_equal(trm_process_open(0), -1);
    assert_int_equal(trm_process_open(-1), -1);
}

static void only_whole_names_of_a_path_are_hit_by_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        int killed;
    } cases[] = {{"", "2-mpi", 0}, {"", "x", 0},  {"", ".2", 0},
                 {"", "", 1},      {"", "/x", 1}, {"dir=", "-mpi", 1}};
    char path[64], argument[128];
    snprintf(path, sizeof path, "/tmp/no-such-run-%d", (int)getpid());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_process process = {0};
        snprintf(argument, sizeof argument, "%s%s%s", cases[i].before, path, cases[i].after);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            execlp("sh", "sh", "-c", "kill -STOP $$", argument, NULL);
            _exit(127);
        }
        while (!trm_process_read(pid, &process) || process.state != 'T')
            usleep(1000);
        assert_int_equal(trm_process_kill_by_argument("no-such-name", path), 0);
        assert_int_equal(trm_process_kill_by_argument("sh", path), cases[i].killed);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stat_lines_are_parsed_whatever_the_name_holds),
        cmocka_unit_test(lines_that_are_none_are_refused),
        cmocka_unit_test(a_process_is_read_killed_and_its_end_is_seen),
        cmocka_unit_test(only_whole_names_of_a_path_are_hit_by_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
