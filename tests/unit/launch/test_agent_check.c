#include "launch/agent/check.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
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
#include "launch/process.h"

#define LONG_MS 20000

static void keep(const struct trm_message_health *health, void *context)
{
    *(struct trm_message_health *)context = *health;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void count(uv_handle_t *handle, void *context)
{
    (void)handle;
    ++*(int *)context;
}

/* Until all but the timer have closed: a child that was killed is waited for. */
static void run_out(uv_loop_t *loop)
{
    uv_timer_t tick;
    int handles;
    uv_timer_init(loop, &tick);
    uv_timer_start(&tick, on_tick, 5, 5);
    do {
        uv_run(loop, UV_RUN_ONCE);
        handles = 0;
        uv_walk(loop, count, &handles);
    } while (handles > 1);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}

/* `script` as the self-test, `command` as the operator's; both may be NULL. */
static struct trm_message_health check(const char *script, const char *command, int timeout_ms)
{
    char shell[] = "/bin/sh", flag[] = "-c", words[2][512] = {"", ""};
    char *arguments[] = {shell, flag, words[0]};
    struct trm_message_check request = {.id = 7, .timeout_ms = timeout_ms};
    struct trm_message_health health = {.id = -1};
    struct trm_agent_check *under_way = NULL;
    uv_loop_t loop;
    snprintf(words[0], sizeof words[0], "%s", script ? script : "");
    snprintf(words[1], sizeof words[1], "%s", command ? command : "");
    request.argument_count = script ? 3 : 0;
    request.arguments = arguments;
    request.command = words[1];
    uv_loop_init(&loop);
    assert_int_equal(trm_agent_check_start(&loop, &request, keep, &health, &under_way, NULL),
                     TRM_OK);
    run_out(&loop);
    assert_int_equal(health.id, 7);
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    return health;
}

static void expect(struct trm_message_health health, const char *reason)
{
    assert_false(health.ok);
    if (!strstr(health.reason, reason))
        fail_msg("\"%s\" should say \"%s\"", health.reason, reason);
}

static void a_node_that_passes_is_healthy_and_the_report_comes_along(void **state)
{
    (void)state;
    struct trm_message_health health = check("echo one; echo two", "true", LONG_MS);
    assert_true(health.ok);
    assert_string_equal(health.reason, "");
    assert_string_equal(health.report, "one\ntwo\n");
    assert_true(check(NULL, "true", LONG_MS).ok);
    assert_true(check("true", NULL, LONG_MS).ok);
    assert_true(check(NULL, NULL, LONG_MS).ok);
}

static void a_failure_is_told_with_its_last_words(void **state)
{
    (void)state;
    expect(check("echo first >&2; echo 'wrong sum' >&2; exit 3", "true", LONG_MS),
           "self-test: status 3: wrong sum");
    expect(check("true", "echo 'no scratch'; exit 1", LONG_MS),
           "health command: status 1: no scratch");
    expect(check("kill -SEGV $$", NULL, LONG_MS), "self-test: killed by signal 11");
    struct trm_message_health both = check("exit 2", "exit 4", LONG_MS);
    expect(both, "self-test: status 2");
    expect(both, "health command: status 4");
}

static void a_program_that_is_not_there_is_a_failure(void **state)
{
    (void)state;
    char program[] = "no-such-program-anywhere", *arguments[] = {program};
    struct trm_message_check request = {
        .id = 1, .timeout_ms = LONG_MS, .argument_count = 1, .arguments = arguments};
    struct trm_message_health health = {0};
    struct trm_agent_check *under_way = NULL;
    uv_loop_t loop;
    uv_loop_init(&loop);
    assert_int_equal(trm_agent_check_start(&loop, &request, keep, &health, &under_way, NULL),
                     TRM_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    expect(health, "status 127: No such file or directory");
}

static void what_hangs_is_killed_at_the_deadline_with_all_it_started(void **state)
{
    (void)state;
    int64_t begin_ns = trm_clock_now_ns();
    expect(check("sleep 600 & sleep 600", "true", 150), "self-test: not done after 150 ms");
    expect(check("true", "trap '' TERM; sleep 600", 150), "health command: not done after 150 ms");
    assert_true(trm_clock_now_ns() - begin_ns < INT64_C(300) * 1000000000);
}

static void what_a_child_leaves_behind_is_killed_and_does_not_hold_up_the_answer(void **state)
{
    (void)state;
    struct trm_process process;
    struct trm_message_health health = check("sleep 600 & echo $!; exit 0", NULL, LONG_MS);
    pid_t left = (pid_t)atoi(health.report);
    int64_t deadline_ns = trm_clock_deadline_ns(LONG_MS);
    assert_true(health.ok && left > 0);
    while (trm_process_read(left, &process) && process.state != 'Z' &&
           strcmp(process.name, "sleep") == 0) {
        assert_false(trm_clock_passed(deadline_ns));
        usleep(1000);
    }
}

static void output_without_end_is_bounded(void **state)
{
    (void)state;
    struct trm_message_health health =
        check("head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2", NULL, LONG_MS);
    assert_true(health.ok);
    assert_int_equal(strlen(health.report), TRM_MESSAGE_REPORT_BYTES - 1);
}

static void both_run_side_by_side(void **state)
{
    (void)state;
    /* Each waits for the other: one after the other would take the whole time. */
    char script[256], command[256], directory[] = "/tmp/trm-check-XXXXXX";
    assert_non_null(mkdtemp(directory));
    snprintf(script, sizeof script, "touch %s/a; while [ ! -e %s/b ]; do sleep 0.01; done; rm %s/b",
             directory, directory, directory);
    snprintf(command, sizeof command,
             "touch %s/b; while [ ! -e %s/a ]; do sleep 0.01; done; rm %s/a", directory, directory,
             directory);
    assert_true(check(script, command, LONG_MS).ok);
    assert_int_equal(rmdir(directory), 0);
}

static void a_check_can_be_given_up(void **state)
{
    (void)state;
    char shell[] = "/bin/sh", flag[] = "-c", script[] = "sleep 600";
    char *arguments[] = {shell, flag, script};
    struct trm_message_check request = {
        .id = 1, .timeout_ms = LONG_MS, .argument_count = 3, .arguments = arguments};
    struct trm_message_health health = {.id = -1};
    struct trm_agent_check *under_way = NULL;
    uv_loop_t loop;
    uv_loop_init(&loop);
    assert_int_equal(trm_agent_check_start(&loop, &request, keep, &health, &under_way, NULL),
                     TRM_OK);
    trm_agent_check_cancel(under_way);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(health.id, -1);
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_that_passes_is_healthy_and_the_report_comes_along),
        cmocka_unit_test(a_failure_is_told_with_its_last_words),
        cmocka_unit_test(a_program_that_is_not_there_is_a_failure),
        cmocka_unit_test(what_hangs_is_killed_at_the_deadline_with_all_it_started),
        cmocka_unit_test(what_a_child_leaves_behind_is_killed_and_does_not_hold_up_the_answer),
        cmocka_unit_test(output_without_end_is_bounded),
        cmocka_unit_test(both_run_side_by_side),
        cmocka_unit_test(a_check_can_be_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
