/* What supervisors owe each other: claims that are looked at, waited out, and left. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "fake_run.h"

#define BEAT_MS 50

/* Long where a busy machine must lapse nothing. */
static const char *const calm[] = {"--heartbeat-interval-ms", "50", "--lease-ms", "20000", NULL};
/* Short where what is tested is a lapse: longer than this process may stand still. */
static const char *const hasty[] = {
    "--heartbeat-interval-ms", "50",  "--lease-ms", "7000", "--node-wait-ms", "2000",
    "--node-retry-ms",         "300", NULL};
#define LEASE_NS INT64_C(7000000000)
#define OWNED_NS (LEASE_NS + INT64_C(2000000000)) /* how long a look at the claim holds */

/* Up to the first step of the first attempt. */
static void reach_first_step(struct fake_run *run)
{
    fake_run_join(run, 0, run->nodes);
    fake_run_first_step(run);
}

/* A supervisor that leaves before the ranks of the one before it can all be dead does not say that
 * they are. */
static void a_stop_while_a_predecessor_is_waited_out_leaves_it_to_the_next(void **state)
{
    static const char claim[] = "{\"attempt\": 1, \"nonce\": \"0000000000000001\", \"host\": "
                                "\"login9\", \"pid\": 1, \"step\": 5, \"lease_ms\": 20000, "
                                "\"preempted\": 0, \"time\": \"2026-01-01T00:00:00Z\"}\n";
    struct fake_run run;
    char path[TRM_PATH_BYTES];

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    snprintf(path, sizeof path, "%s/run/supervisor", run.root);
    assert_int_equal(trm_file_make_directories(path, NULL), TRM_OK);
    snprintf(path, sizeof path, "%s/run/supervisor/attempt-00000001", run.root);
    assert_int_equal(trm_file_write_all(path, claim, strlen(claim), false, NULL), TRM_OK);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(&run, 0, 2);
    snprintf(path, sizeof path, "%s/run/supervisor/attempt-00000002", run.root);
    FAKE_RUN_WAIT(&run, trm_file_exists(path));
    kill(run.supervisor, SIGTERM);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_launches(&run), 0);
    snprintf(path, sizeof path, "%s/run/supervisor/ended-00000002", run.root);
    assert_false(trm_file_exists(path));
    fake_run_destroy(&run);
}

/* Whether somebody waits to read from the pipe at `path`; then *fd writes to it. */
static bool is_looked_at(const char *path, int *fd)
{
    *fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return *fd >= 0;
}

static void pass_time(struct fake_run *run, int64_t ns)
{
    int64_t begin_ns = trm_clock_now_ns();

    FAKE_RUN_WAIT(run, trm_clock_now_ns() - begin_ns > ns);
}

/* The supervisor has heard what was said until now, and its answers are here. */
static void pass_step(struct fake_run *run, int64_t step)
{
    char line[32];

    snprintf(line, sizeof line, "\"step\": %d,", (int)step);
    fake_run_step(run, step);
    FAKE_RUN_WAIT(run, fake_run_is(run, TRM_RUN_RUNNING, line));
    uv_run(&run->loop, UV_RUN_NOWAIT);
}

static void replace_by_pipe(const char *path, const char *other)
{
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_int_equal(rename(other, path), 0);
}

/* The run's file system hangs in the middle of a look at the claim, for longer than the supervisor
 * may act upon the look before. What it then says was so when the look began: another supervisor
 * may have taken over since. */
static void a_look_at_the_claim_that_took_too_long_prolongs_no_lease(void **state)
{
    struct fake_run run;
    char path[TRM_PATH_BYTES], other[TRM_PATH_BYTES], *claim = NULL;
    size_t bytes = 0;
    int fd = -1;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, hasty);
    reach_first_step(&run);
    snprintf(path, sizeof path, "%s/run/supervisor/attempt-00000001", run.root);
    snprintf(other, sizeof other, "%s/other", run.root);
    assert_int_equal(trm_file_read_all(path, 4096, &claim, &bytes, NULL), TRM_OK);
    replace_by_pipe(path, other);
    FAKE_RUN_WAIT(&run, is_looked_at(path, &fd));
    replace_by_pipe(path, other); /* for the look after it */
    pass_time(&run, OWNED_NS);
    pass_step(&run, 2);
    int64_t acknowledged = run.agents[0].acknowledged; /* none is answered any more */
    assert_true(acknowledged < run.agents[0].number);
    assert_int_equal(write(fd, claim, bytes), (ssize_t)bytes);
    close(fd);
    FAKE_RUN_WAIT(&run, is_looked_at(path, &fd));
    assert_int_equal(run.agents[0].acknowledged, acknowledged);

    assert_int_equal(trm_file_write_all(other, claim, bytes, false, NULL), TRM_OK);
    assert_int_equal(rename(other, path), 0);
    close(fd);
    FAKE_RUN_WAIT(&run, run.agents[0].acknowledged > acknowledged);
    assert_false(fake_run_tells(&run, "\"event\":\"fault\""));
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    free(claim);
    fake_run_destroy(&run);
}

/* Ranks end with their lease, everywhere at once: whichever node tells first is not to blame. */
static void leases_that_ran_out_for_want_of_a_claim_are_no_nodes_fault(void **state)
{
    struct fake_run run;
    char path[TRM_PATH_BYTES], other[TRM_PATH_BYTES], *claim = NULL;
    size_t bytes = 0;
    int fd = -1;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, hasty);
    reach_first_step(&run);
    snprintf(path, sizeof path, "%s/run/supervisor/attempt-00000001", run.root);
    snprintf(other, sizeof other, "%s/other", run.root);
    assert_int_equal(trm_file_read_all(path, 4096, &claim, &bytes, NULL), TRM_OK);
    replace_by_pipe(path, other);
    FAKE_RUN_WAIT(&run, is_looked_at(path, &fd));
    pass_time(&run, OWNED_NS + LEASE_NS);
    run.agents[1].dead = 1; /* it has ended its ranks by itself */
    fake_run_gone(&run, 1, 1, 7);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"fault\""));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "directory could not be looked at for"));
    assert_false(fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\""));

    assert_int_equal(trm_file_write_all(other, claim, bytes, false, NULL), TRM_OK);
    assert_int_equal(rename(other, path), 0);
    close(fd);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    free(claim);
    fake_run_destroy(&run);
}

/* A stopped supervisor hears nobody for longer than a lease; what they said meanwhile is there to
 * be read when it goes on. */
static void a_supervisor_that_stood_still_blames_no_node(void **state)
{
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, hasty);
    reach_first_step(&run);
    fake_run_stop(&run);
    pass_time(&run, LEASE_NS);
    for (int i = 0; i < 2; i++) {
        run.agents[i].dead = 1; /* they have ended their ranks by themselves */
        fake_run_gone(&run, i, i, 7);
        fake_agent_beat(&run.agents[i]);
    }
    fake_run_go_on(&run);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "this supervisor stood still for"));
    assert_false(fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\""));
    assert_false(fake_run_tells(&run, "no word from it"));
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

/* Proofs of death may wait to be read, or have been held up by what held up the supervisor. */
static void a_supervisor_that_stood_still_gives_nodes_time_to_prove_death(void **state)
{
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, hasty);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_KILL] == 1);
    fake_run_stop(&run);
    pass_time(&run, LEASE_NS * 12 / 10);
    fake_run_go_on(&run);
    pass_time(&run, 300000000);
    run.agents[1].dead = 1; /* the next beat proves it */
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_false(fake_run_tells(&run, "it cannot prove that its ranks are dead"));
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

/* To end the run there would lose what is in memory alone. */
static void a_file_system_that_takes_no_claim_is_waited_for(void **state)
{
    struct fake_run run;
    char path[TRM_PATH_BYTES], away[TRM_PATH_BYTES];

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    snprintf(path, sizeof path, "%s/run/supervisor", run.root);
    snprintf(away, sizeof away, "%s/run/away", run.root);
    assert_int_equal(rename(path, away), 0);
    fake_run_gone(&run, 1, 1, 7);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"waiting\""));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "waiting to claim the next attempt"));
    assert_int_equal(rename(away, path), 0);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_int_equal(fake_run_count(&run, "\"event\":\"waiting\""), 1);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

/* As the older one of two does, when a fault makes it claim before it has looked. Its run goes on,
 * so that is no mistake of anybody's. */
static void a_supervisor_whose_next_attempt_another_one_claimed_gives_way(void **state)
{
    static const char claim[] = "{\"attempt\": 2, \"nonce\": \"0000000000000001\", \"host\": "
                                "\"login9\", \"pid\": 1, \"step\": 5, \"lease_ms\": 20000, "
                                "\"preempted\": 0, \"time\": \"2026-01-01T00:00:00Z\"}\n";
    struct fake_run run;
    char path[TRM_PATH_BYTES];

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_KILL] == 1);
    snprintf(path, sizeof path, "%s/run/supervisor/attempt-00000002", run.root);
    assert_int_equal(trm_file_write_all(path, claim, strlen(claim), false, NULL), TRM_OK);
    run.agents[1].dead = 1; /* the next beat proves it */
    assert_int_equal(fake_run_end(&run), TRM_EXIT_UNAVAILABLE);
    assert_true(fake_run_tells(&run, "supervisor on login9 (process 1); this one gives way"));
    assert_int_equal(fake_run_launches(&run), 1);
    fake_run_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_while_a_predecessor_is_waited_out_leaves_it_to_the_next),
        cmocka_unit_test(a_look_at_the_claim_that_took_too_long_prolongs_no_lease),
        cmocka_unit_test(leases_that_ran_out_for_want_of_a_claim_are_no_nodes_fault),
        cmocka_unit_test(a_supervisor_that_stood_still_blames_no_node),
        cmocka_unit_test(a_supervisor_that_stood_still_gives_nodes_time_to_prove_death),
        cmocka_unit_test(a_file_system_that_takes_no_claim_is_waited_for),
        cmocka_unit_test(a_supervisor_whose_next_attempt_another_one_claimed_gives_way),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
