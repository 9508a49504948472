/* Nodes whose health check fails: told at once before a run has begun, asked again afterwards. */
#include <signal.h>

#include "base/status.h"
#include "fake_run.h"

#define BEAT_MS 50

static const char *const patient[] = {"--heartbeat-interval-ms", "50",  "--lease-ms", "20000",
                                      "--node-retry-ms",         "100", NULL};
static const char *const hasty[] = {
    "--heartbeat-interval-ms", "50",   "--lease-ms", "20000", "--node-retry-ms", "100",
    "--node-wait-ms",          "1000", NULL};

/* Up to the first step; then node 1 fails so many checks, and rank 0 dies. */
static void fall_ill(struct fake_run *run, int checks, const char *const *flags)
{
    fake_run_create(run, 2, 1, BEAT_MS);
    fake_run_supervise(run, 2, FAKE_RUN_LAUNCHER, flags);
    fake_run_join(run, 0, 2);
    fake_run_first_step(run);
    run->agents[1].ill = checks;
    fake_run_gone(run, 0, 0, 7);
}

static void a_node_that_is_ill_for_a_while_is_waited_for(void **state)
{
    struct fake_run run;

    (void)state;
    fall_ill(&run, 4, patient);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_int_equal(run.agents[1].received[TRM_MESSAGE_CHECK], 1 + 4 + 1);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "is left out: it feels ill"));
    assert_int_equal(fake_run_count(&run, "is left out: it feels ill"), 1);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

static void a_node_that_stays_ill_is_not_waited_for_longer_than_for_one_that_is_away(void **state)
{
    struct fake_run run;

    (void)state;
    fall_ill(&run, 1000000, hasty);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_UNAVAILABLE);
    assert_true(run.agents[1].received[TRM_MESSAGE_CHECK] >= 2);
    assert_int_equal(fake_run_launches(&run), 1);
    assert_true(fake_run_tells(&run, "node1 is unhealthy: it feels ill"));
    fake_run_destroy(&run);
}

static void before_a_run_has_begun_it_is_told_at_once(void **state)
{
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, patient);
    fake_run_join(&run, 0, 1);
    FAKE_RUN_WAIT(&run, run.agents[0].open);
    run.agents[0].ill = 1;
    fake_run_join(&run, 1, 2);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_UNAVAILABLE);
    assert_int_equal(run.agents[0].received[TRM_MESSAGE_CHECK], 1);
    assert_int_equal(fake_run_launches(&run), 0);
    fake_run_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_that_is_ill_for_a_while_is_waited_for),
        cmocka_unit_test(a_node_that_stays_ill_is_not_waited_for_longer_than_for_one_that_is_away),
        cmocka_unit_test(before_a_run_has_begun_it_is_told_at_once),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
