/* The supervisor's decisions, over fake agents: what is hard to strike with real processes. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/status.h"
#include "fake_run.h"

#define BEAT_MS 50

/* Long where a busy machine must lapse nothing. */
static const char *const calm[] = {"--heartbeat-interval-ms", "50", "--lease-ms", "20000", NULL};
/* Short where what is tested is a lapse: longer than this process may stand still. */
static const char *const hasty[] = {
    "--heartbeat-interval-ms", "50",  "--lease-ms", "8000", "--node-wait-ms", "2000",
    "--node-retry-ms",         "300", NULL};

/* A launcher that leaves a child which holds its standard error, in a session of its own. */
#define HELD                                                                     \
    "setsid sh -c 'echo $$ >>$FAKE_RUN/children; exec sleep 100' >/dev/null &\n" \
    "exec sleep 600"

static void begin(struct fake_run *run, int nodes, int ranks, const char *launcher,
                  const char *const *flags)
{
    fake_run_create(run, nodes, 1, BEAT_MS);
    fake_run_supervise(run, ranks, launcher, flags);
}

/* Up to the first step of the first attempt. */
static void reach_first_step(struct fake_run *run)
{
    fake_run_join(run, 0, run->nodes);
    fake_run_first_step(run);
}

static void a_run_without_trouble_ends_with_0(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    assert_int_equal(fake_run_received(&run, TRM_MESSAGE_CHECK), 2);
    FAKE_RUN_WAIT(&run, fake_run_received(&run, TRM_MESSAGE_QUIT) == 2);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"end\",\"attempt\":1"));
    fake_run_destroy(&run);
}

/* Standing still would lose it all its nodes. */
static void a_supervisor_whose_output_nobody_reads_goes_on(void **state)
{
    struct fake_run run;
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(ends[1], "full", 4) > 0) {
    }
    assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
    fake_run_create(&run, 2, 1, BEAT_MS);
    run.output = ends[1];
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
    close(ends[0]);
    close(ends[1]);
}

static void a_rank_that_dies_is_fenced_and_followed_by_another_attempt(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    fake_run_gone(&run, 1, 1, 7);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_int_equal(fake_run_received(&run, TRM_MESSAGE_KILL), 2);
    FAKE_RUN_WAIT(&run,
                  fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node1\""));
    fake_run_step(&run, 8);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"recovered\",\"attempt\":2"));
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

/* It takes as long as killing ranks, and a lost node's lease takes longer. */
static void health_is_checked_while_ranks_are_fenced(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 1, 1, 7);
    FAKE_RUN_WAIT(&run, fake_run_received(&run, TRM_MESSAGE_CHECK) == 4);
    assert_int_equal(fake_run_launches(&run), 1);
    run.agents[1].dead = 1; /* the next beat proves it */
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    fake_run_destroy(&run);
}

/* The first launcher leaves a child behind that holds its standard error, as an ssh to a dead node
 * would: it disturbs neither the next attempt nor the end. */
static void a_launcher_whose_children_outlive_it_holds_up_nothing(void **state)
{
    struct fake_run run;
    int64_t begin_ns;

    (void)state;
    begin(&run, 2, 2, HELD, calm);
    reach_first_step(&run);
    for (int attempt = 1; attempt < 4; attempt++) {
        fake_run_gone(&run, 1, 1, 7 * attempt);
        FAKE_RUN_WAIT(&run, fake_run_launches(&run) == attempt + 1);
        fake_run_step(&run, 7 * attempt + 1);
    }
    fake_run_exit(&run, TRM_EXIT_OK);
    begin_ns = trm_clock_now_ns();
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    assert_true(trm_clock_now_ns() - begin_ns < INT64_C(30000000000));
    fake_run_destroy(&run);
}

static void a_stop_while_nodes_are_gathered_ends_with_75(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(&run, 0, 1);
    kill(run.supervisor, SIGTERM);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_launches(&run), 0);
    fake_run_destroy(&run);
}

static void a_stop_while_nodes_are_checked_ends_with_75(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(&run, 0, 2);
    run.agents[1].deaf[TRM_MESSAGE_CHECK] = true;
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_CHECK] == 1);
    kill(run.supervisor, SIGTERM);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_launches(&run), 0);
    fake_run_destroy(&run);
}

static void a_stop_before_the_first_ranks_begin_ends_with_75(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(&run, 0, 2);
    run.agents[1].deaf[TRM_MESSAGE_BEGIN] = true;
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_BEGIN] == 1);
    kill(run.supervisor, SIGTERM);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_launches(&run), 0);
    fake_run_destroy(&run);
}

/* What is in memory alone shall become durable, so a run that recovers starts again. An agent that
 * had not begun when the stop came is told of it when it has. */
static void a_stop_in_a_recovery_reaches_ranks_that_begin_after_it(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_BEGIN] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_BEGIN] == 2);
    kill(run.supervisor, SIGTERM);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_STOP] == 1);
    fake_agent_begun(&run.agents[1]);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_STOP] == 2);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    fake_run_destroy(&run);
}

/* A person who asks twice does not wait, whatever the supervisor waits for. */
static void two_interrupts_end_it_while_it_fences(void **state)
{
    struct fake_run run;
    int64_t begin_ns;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_KILL] == 1);
    kill(run.supervisor, SIGINT);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"stop\""));
    kill(run.supervisor, SIGINT);
    begin_ns = trm_clock_now_ns();
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    assert_true(trm_clock_now_ns() - begin_ns < INT64_C(15000000000)); /* less than the lease */
    assert_int_equal(fake_run_launches(&run), 1);
    fake_run_destroy(&run);
}

static void a_node_that_never_begins_is_given_up(void **state)
{
    static const char *const flags[] = {"--heartbeat-interval-ms", "50",    "--lease-ms", "8000",
                                        "--start-timeout-ms",      "10000", NULL};
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 3, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, flags);
    fake_run_join(&run, 0, 3);
    run.agents[1].deaf[TRM_MESSAGE_BEGIN] = run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    fake_run_step(&run, 1); /* a start that is too slow is a fault, too */
    FAKE_RUN_WAIT(&run,
                  fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node1\""));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"attempt\",\"attempt\":2"));
    assert_int_equal(run.agents[2].received[TRM_MESSAGE_BEGIN], 1);
    fake_run_destroy(&run);
}

/* Its arithmetic may differ: no rank runs on a node that has not passed its check. */
static void a_node_that_comes_while_others_are_checked_is_checked_too(void **state)
{
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 3, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(&run, 1, 3);
    run.agents[2].deaf[TRM_MESSAGE_CHECK] = true;
    FAKE_RUN_WAIT(&run, run.agents[2].received[TRM_MESSAGE_CHECK] == 1);
    fake_run_join(&run, 0, 1); /* the first of the host file, so it would be taken */
    FAKE_RUN_WAIT(&run, run.agents[0].acknowledged >= 0);
    run.agents[2].silent = true;
    fake_agent_cut(&run.agents[2]);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    assert_int_equal(run.agents[0].received[TRM_MESSAGE_CHECK], 1);
    assert_int_equal(run.agents[0].received[TRM_MESSAGE_BEGIN], 1);
    fake_run_destroy(&run);
}

/* A link that breaks just then takes the order to kill with it. */
static void a_node_that_comes_back_while_it_is_fenced_is_told_to_kill_again(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_KILL] == 1);
    fake_agent_cut(&run.agents[1]);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = false;
    fake_agent_connect(&run.agents[1]);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    fake_run_destroy(&run);
}

/* Agents that were restarted late in a lease used to be quarantined with it. */
static void an_agent_that_comes_late_in_a_lease_has_the_time_to_prove_death(void **state)
{
    static const char *const flags[] = {"--heartbeat-interval-ms", "50",  "--lease-ms", "8000",
                                        "--node-wait-ms",          "100", NULL};
    struct fake_run run;
    int64_t lease_ns = INT64_C(8000000000), killed_ns, back_ns;

    (void)state;
    begin(&run, 3, 2, FAKE_RUN_LAUNCHER, flags);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_KILL] == 1);
    killed_ns = trm_clock_now_ns();
    fake_agent_cut(&run.agents[1]);
    FAKE_RUN_WAIT(&run, trm_clock_now_ns() - killed_ns > lease_ns * 3 / 10);
    back_ns = trm_clock_now_ns();
    fake_agent_connect(&run.agents[1]);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "it cannot prove that its ranks are dead"));
    assert_true(trm_clock_now_ns() - back_ns >= lease_ns);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    fake_run_destroy(&run);
}

static void a_silent_node_is_lost_and_its_lease_waited_out(void **state)
{
    struct fake_run run;
    int64_t silent_ns, lease_ns = INT64_C(8000000000);

    (void)state;
    fake_run_create(&run, 3, 1, BEAT_MS);
    fake_run_supervise(&run, 2, FAKE_RUN_LAUNCHER, hasty);
    reach_first_step(&run);
    silent_ns = trm_clock_now_ns();
    fake_agent_beat(&run.agents[1]); /* its lease runs from then on */
    run.agents[1].silent = true;
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_true(trm_clock_now_ns() - silent_ns >= lease_ns);
    FAKE_RUN_WAIT(&run,
                  fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node1\""));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"nodes\":\"node0 and node2\""));
    fake_run_destroy(&run);
}

/* The same while its nodes are checked again: steps in memory are not given up. */
static void a_stop_between_two_attempts_waits_for_the_next_one_to_save(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 2, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_CHECK] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, fake_run_is(&run, TRM_RUN_CHECKING, "\"attempt\": 1"));
    kill(run.supervisor, SIGTERM);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "starting once more"));
    run.agents[1].deaf[TRM_MESSAGE_CHECK] = false;
    fake_agent_cut(&run.agents[1]); /* and is asked again when it is back */
    fake_agent_connect(&run.agents[1]);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    FAKE_RUN_WAIT(&run, fake_run_received(&run, TRM_MESSAGE_STOP) == 2);
    fake_run_step(&run, 8);
    fake_run_exit(&run, TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    fake_run_destroy(&run);
}

static void an_agent_of_another_build_is_replaced_once_and_then_left_out(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 2, 1, FAKE_RUN_LAUNCHER, hasty);
    fake_run_join(&run, 0, 1);
    run.agents[0].version = "0.0.9";
    FAKE_RUN_WAIT(&run, run.agents[0].received[TRM_MESSAGE_QUIT] == 1);
    fake_agent_stop(&run.agents[0]);
    run.started[0] = false;
    uv_run(&run.loop, UV_RUN_ONCE); /* closes its timer */
    fake_run_join(&run, 0, 1);
    run.agents[0].version = "0.0.9";
    FAKE_RUN_WAIT(&run, run.agents[0].received[TRM_MESSAGE_QUIT] == 1);
    fake_run_join(&run, 1, 2);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    FAKE_RUN_WAIT(
        &run, fake_run_count(&run, "its agent is trireme 0.0.9, and this is 0.1.0\",\"text") == 2);
    assert_int_equal(run.agents[0].received[TRM_MESSAGE_CHECK], 0);
    assert_int_equal(run.agents[1].received[TRM_MESSAGE_BEGIN], 1);
    fake_run_destroy(&run);
}

/* What ranks say last reaches the output through mpirun, which ends behind them. */
static void mpirun_is_not_killed_while_it_passes_on_what_ranks_said_last(void **state)
{
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 2, 1, BEAT_MS);
    run.farewell_ms = 30000;
    fake_run_supervise(
        &run, 2,
        "while [ ! -e $FAKE_RUN/go ]; do sleep 0.05; done; sleep 0.3; touch $FAKE_RUN/said", calm);
    reach_first_step(&run);
    fake_run_exit(&run, TRM_EXIT_OK);
    char path[TRM_PATH_BYTES];
    snprintf(path, sizeof path, "%s/go", run.root);
    assert_int_equal(trm_file_write_all(path, "", 0, false, NULL), TRM_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    snprintf(path, sizeof path, "%s/said", run.root);
    assert_true(trm_file_exists(path));
    fake_run_destroy(&run);
}

/* Ranks that left because one of their peers did say so, and may be listed before that one. */
static void the_rank_that_left_for_a_reason_of_its_own_is_told(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 3, 3, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    for (int i = 0; i < 3; i++) {
        struct trm_rank_report *rank = run.agents[i].ranks;
        rank->exit_code = i == 1 ? TRM_EXIT_IO : TRM_EXIT_UNAVAILABLE;
        rank->state = TRM_FLIGHT_EXITED;
        snprintf(rank->exit_text, sizeof rank->exit_text, "%s", i == 1 ? "no disk" : "no peer");
        fake_agent_beat(&run.agents[i]);
    }
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    FAKE_RUN_WAIT(
        &run,
        fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node1\",\"rank\":1"));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "no disk"));
    fake_run_destroy(&run);
}

/* Whoever is heard first says it; the node of the rank that all of them name is left out. */
static void ranks_that_diverge_have_the_node_of_the_named_one_left_out(void **state)
{
    static const char *const flags[] = {"--heartbeat-interval-ms", "50", "--lease-ms", "20000",
                                        "--quarantine-after",      "1",  NULL};
    struct fake_run run;

    (void)state;
    fake_run_create(&run, 4, 1, BEAT_MS);
    fake_run_supervise(&run, 3, FAKE_RUN_LAUNCHER, flags);
    reach_first_step(&run);
    fake_run_blame(&run, 2);
    fake_run_exit(&run, TRM_EXIT_DIVERGED);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    FAKE_RUN_WAIT(
        &run,
        fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node2\",\"rank\":2"));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "node2 is quarantined"));
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"nodes\":\"node0, node1 and node3\""));
    fake_run_destroy(&run);
}

/* A node's end makes mpirun end the daemons of the others, which may be heard of first. */
static void a_lost_node_is_blamed_and_not_one_whose_daemon_ended_with_it(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run, 4, 3, FAKE_RUN_LAUNCHER, calm);
    reach_first_step(&run);
    fake_run_stop(&run); /* the two are heard of with no time between them */
    run.agents[2].launcher = TRM_LAUNCHER_GONE;
    fake_agent_beat(&run.agents[2]);
    run.agents[1].silent = true;
    fake_agent_cut(&run.agents[1]);
    fake_run_go_on(&run);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"fault\""));
    FAKE_RUN_WAIT(&run,
                  fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node1\""));
    fake_run_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_without_trouble_ends_with_0),
        cmocka_unit_test(a_supervisor_whose_output_nobody_reads_goes_on),
        cmocka_unit_test(a_rank_that_dies_is_fenced_and_followed_by_another_attempt),
        cmocka_unit_test(health_is_checked_while_ranks_are_fenced),
        cmocka_unit_test(a_launcher_whose_children_outlive_it_holds_up_nothing),
        cmocka_unit_test(a_stop_while_nodes_are_gathered_ends_with_75),
        cmocka_unit_test(a_stop_while_nodes_are_checked_ends_with_75),
        cmocka_unit_test(a_stop_before_the_first_ranks_begin_ends_with_75),
        cmocka_unit_test(a_stop_in_a_recovery_reaches_ranks_that_begin_after_it),
        cmocka_unit_test(a_stop_between_two_attempts_waits_for_the_next_one_to_save),
        cmocka_unit_test(an_agent_of_another_build_is_replaced_once_and_then_left_out),
        cmocka_unit_test(mpirun_is_not_killed_while_it_passes_on_what_ranks_said_last),
        cmocka_unit_test(the_rank_that_left_for_a_reason_of_its_own_is_told),
        cmocka_unit_test(ranks_that_diverge_have_the_node_of_the_named_one_left_out),
        cmocka_unit_test(a_lost_node_is_blamed_and_not_one_whose_daemon_ended_with_it),
        cmocka_unit_test(two_interrupts_end_it_while_it_fences),
        cmocka_unit_test(a_node_that_never_begins_is_given_up),
        cmocka_unit_test(a_node_that_comes_while_others_are_checked_is_checked_too),
        cmocka_unit_test(a_node_that_comes_back_while_it_is_fenced_is_told_to_kill_again),
        cmocka_unit_test(an_agent_that_comes_late_in_a_lease_has_the_time_to_prove_death),
        cmocka_unit_test(a_silent_node_is_lost_and_its_lease_waited_out),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
