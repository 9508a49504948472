#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch/attempt.h"

static char directory[] = "/tmp/trireme-attempts-XXXXXX";

static struct trm_claim claim_of(const char *host)
{
    struct trm_claim claim = {.step = 41, .lease_ms = 3000, .pid = getpid()};

    snprintf(claim.host, sizeof claim.host, "%s", host);
    return claim;
}

static struct trm_attempts open_run(const char *name)
{
    struct trm_attempts attempts;
    struct trm_error err;
    char path[256];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(trm_attempts_open(path, &attempts, &err), TRM_OK);
    return attempts;
}

static void a_run_keeps_its_key(void **state)
{
    struct trm_attempts first = open_run("key"), again = open_run("key"), other = open_run("other");

    (void)state;
    assert_int_equal(strlen(first.key), 16);
    assert_string_equal(first.key, again.key);
    assert_string_not_equal(first.key, other.key);
}

static void claims_count_up_and_the_newest_owns_the_run(void **state)
{
    struct trm_attempts attempts = open_run("count");
    struct trm_claim a = claim_of("login1"), b = claim_of("login2"), before, newest;
    struct trm_error err;

    (void)state;
    assert_int_equal(trm_attempts_newest(&attempts, &newest, &err), TRM_OK);
    assert_int_equal(newest.attempt, 0);
    assert_int_equal(trm_attempts_claim(&attempts, &a, &before, &err), TRM_OK);
    assert_int_equal(a.attempt, 1);
    assert_int_equal(before.attempt, 0);
    assert_int_equal(trm_attempts_check(&attempts, &a, &err), TRM_OK);
    assert_int_equal(trm_attempts_claim(&attempts, &b, &before, &err), TRM_OK);
    assert_int_equal(b.attempt, 2);
    assert_int_equal(before.attempt, 1);
    assert_int_equal(before.nonce, a.nonce);
    assert_int_equal(trm_attempts_check(&attempts, &a, &err), TRM_ERR_MISMATCH);
    assert_non_null(strstr(err.text, "login2"));
    assert_int_equal(trm_attempts_newest(&attempts, &newest, &err), TRM_OK);
    assert_int_equal(newest.attempt, 2);
    assert_int_equal(newest.step, 41);
    assert_int_equal(newest.lease_ms, 3000);
    assert_false(newest.ended);
    assert_int_equal(trm_attempts_end(&attempts, &b, &err), TRM_OK);
    assert_int_equal(trm_attempts_newest(&attempts, &newest, &err), TRM_OK);
    assert_true(newest.ended);
}

/* Else the older of two supervisors would start a job beside that of the newer one. */
static void what_another_supervisor_took_over_is_not_taken_back(void **state)
{
    struct trm_attempts attempts = open_run("back");
    struct trm_claim a = claim_of("login1"), b = claim_of("login2"), before, newest;
    struct trm_error err;

    (void)state;
    assert_int_equal(trm_attempts_claim(&attempts, &a, &before, &err), TRM_OK);
    assert_int_equal(trm_attempts_claim(&attempts, &a, &before, &err), TRM_OK);
    assert_int_equal(a.attempt, 2);
    assert_int_equal(trm_attempts_claim(&attempts, &b, &before, &err), TRM_OK);
    assert_int_equal(b.attempt, 3);
    assert_false(before.ended); /* so it must be waited out, whoever looked when */
    assert_int_equal(trm_attempts_claim(&attempts, &a, &before, &err), TRM_ERR_MISMATCH);
    assert_non_null(strstr(err.text, "login2"));
    assert_int_equal(a.attempt, 2);
    assert_int_equal(trm_attempts_newest(&attempts, &newest, &err), TRM_OK);
    assert_int_equal(newest.attempt, 3);
}

#define RACERS 8
#define LAPS   20

/* Many processes claim at once: every number is won by one of them alone. */
static void no_two_win_the_same_number(void **state)
{
    struct trm_attempts attempts = open_run("race");
    int won[2], counts[RACERS * LAPS + 1] = {0}, wins = 0;

    (void)state;
    assert_int_equal(pipe(won), 0);
    for (int r = 0; r < RACERS; r++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0)
            continue;
        for (int lap = 0; lap < LAPS; lap++) {
            struct trm_claim claim = claim_of("racer"), before;
            if (trm_attempts_claim(&attempts, &claim, &before, NULL) == TRM_OK) {
                int number = (int)claim.attempt;
                if (write(won[1], &number, sizeof number) != sizeof number)
                    _exit(1);
            }
        }
        _exit(0);
    }
    close(won[1]);
    for (int number; read(won[0], &number, sizeof number) == sizeof number; wins++) {
        assert_in_range(number, 1, RACERS * LAPS);
        assert_int_equal(++counts[number], 1);
    }
    close(won[0]);
    for (int r = 0; r < RACERS; r++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_true(wins >= LAPS);
}

static void a_damaged_claim_is_an_error_and_no_fresh_start(void **state)
{
    struct trm_attempts attempts = open_run("damage");
    struct trm_claim claim = claim_of("login1"), before, newest;
    struct trm_error err;
    char path[TRM_PATH_BYTES + 32];

    (void)state;
    assert_int_equal(trm_attempts_claim(&attempts, &claim, &before, &err), TRM_OK);
    snprintf(path, sizeof path, "%s/attempt-00000001", attempts.directory);
    assert_int_equal(trm_file_write_all(path, "{\"nonce\": 1}", 12, false, &err), TRM_OK);
    assert_int_not_equal(trm_attempts_newest(&attempts, &newest, &err), TRM_OK);
    assert_non_null(strstr(err.text, "attempt-00000001"));
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    struct trm_error err;

    (void)state;
    return trm_file_remove_tree(directory, &err) == TRM_OK ? 0 : -1;
}

/* Whoever follows waits until the last lease is over that the one before could have prolonged: it
 * looked just before it was followed, and answered a beat at the very end of what that gave it. */
static void a_claim_is_waited_out_for_longer_than_its_ranks_can_live(void **state)
{
    static const int64_t leases_ms[] = {50, 1000, 3000, 8999, 9001, 60000, 3600000};

    (void)state;
    for (size_t i = 0; i < sizeof leases_ms / sizeof *leases_ms; i++) {
        struct trm_claim before = claim_of("login1");
        before.lease_ms = leases_ms[i];
        assert_int_equal(trm_attempts_wait_ms(&before), 0); /* there was none */
        before.attempt = 7;
        int64_t lives_ms = trm_attempts_owned_ms(before.lease_ms) + before.lease_ms;
        assert_true(trm_attempts_owned_ms(before.lease_ms) >= before.lease_ms);
        assert_true(trm_attempts_wait_ms(&before) >= lives_ms + lives_ms / 10);
        before.ended = true;
        assert_int_equal(trm_attempts_wait_ms(&before), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_keeps_its_key),
        cmocka_unit_test(claims_count_up_and_the_newest_owns_the_run),
        cmocka_unit_test(what_another_supervisor_took_over_is_not_taken_back),
        cmocka_unit_test(no_two_win_the_same_number),
        cmocka_unit_test(a_claim_is_waited_out_for_longer_than_its_ranks_can_live),
        cmocka_unit_test(a_damaged_claim_is_an_error_and_no_fresh_start),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
