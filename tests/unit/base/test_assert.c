#include "base/assert.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int counted;

static int count(int value)
{
    counted++;
    return value;
}

static void a_true_condition_is_evaluated_once(void **state)
{
    (void)state;
    counted = 0;
    TRM_ASSERT(count(1));
    assert_int_equal(counted, 1);
}

static void a_false_condition_names_itself_and_aborts(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_ends[1], STDERR_FILENO);
        TRM_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    close(pipe_ends[1]);
    char text[1024] = "";
    size_t used = 0;
    ssize_t got;
    while ((got = read(pipe_ends[0], text + used, sizeof text - used - 1)) > 0)
        used += (size_t)got;
    close(pipe_ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "assertion failed: 1 + 1 == 3"));
    assert_non_null(strstr(text, "test_assert.c:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_true_condition_is_evaluated_once),
        cmocka_unit_test(a_false_condition_names_itself_and_aborts),
    };
    return cmocka_run_group_tests_name("base/assert", tests, NULL, NULL);
}
