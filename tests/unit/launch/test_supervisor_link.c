/* Connections that a node makes anew before its supervisor has noticed that the old one is dead:
 * what was said over that one may have been lost. And words that come late. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "fake_run.h"

#define BEAT_MS 50

static const char *const calm[] = {"--heartbeat-interval-ms", "50", "--lease-ms", "20000", NULL};

/* The supervisor drops the old connection when the new one is open. */
static void connect_anew(struct fake_run *run, int node, struct fake_agent *old)
{
    *old = run->agents[node];
    trm_link_set_context(old->link, old);
    run->agents[node].open = false;
    fake_agent_connect(&run->agents[node]);
}

static void begin(struct fake_run *run)
{
    fake_run_create(run, 2, 1, BEAT_MS);
    fake_run_supervise(run, 2, FAKE_RUN_LAUNCHER, calm);
    fake_run_join(run, 0, 2);
}

static void finish(struct fake_run *run)
{
    fake_run_exit(run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(run), TRM_EXIT_OK);
    fake_run_destroy(run);
}

static void a_begin_that_was_lost_is_said_again(void **state)
{
    struct fake_run run;
    struct fake_agent old;

    (void)state;
    begin(&run);
    run.agents[1].deaf[TRM_MESSAGE_BEGIN] = true;
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_BEGIN] == 1);
    run.agents[1].deaf[TRM_MESSAGE_BEGIN] = false;
    connect_anew(&run, 1, &old);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    assert_int_equal(run.agents[0].received[TRM_MESSAGE_BEGIN], 1);
    assert_false(fake_run_tells(&run, "\"event\":\"fault\""));
    finish(&run);
}

static void an_answer_to_a_check_that_was_lost_is_asked_for_again(void **state)
{
    struct fake_run run;
    struct fake_agent old;

    (void)state;
    begin(&run);
    fake_run_first_step(&run);
    run.agents[1].deaf[TRM_MESSAGE_CHECK] = run.agents[1].deaf[TRM_MESSAGE_KILL] = true;
    fake_run_gone(&run, 0, 0, 7);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_CHECK] == 2);
    run.agents[1].deaf[TRM_MESSAGE_CHECK] = run.agents[1].deaf[TRM_MESSAGE_KILL] = false;
    connect_anew(&run, 1, &old);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_false(fake_run_tells(&run, "left out"));
    assert_int_equal(run.agents[1].received[TRM_MESSAGE_CHECK], 3);
    fake_run_step(&run, 8);
    finish(&run);
}

/* The ranks of a run whose connections are all made anew would train on. */
static void a_stop_that_was_lost_is_said_again(void **state)
{
    struct fake_run run;
    struct fake_agent old;

    (void)state;
    begin(&run);
    fake_run_first_step(&run);
    kill(run.supervisor, SIGTERM);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_STOP] == 1);
    connect_anew(&run, 1, &old);
    FAKE_RUN_WAIT(&run, run.agents[1].received[TRM_MESSAGE_STOP] == 2);
    fake_run_exit(&run, TRM_EXIT_REQUEUE);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_REQUEUE);
    fake_run_destroy(&run);
}

static void a_signal_that_a_node_tells_needs_no_word_of_mpirun(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run);
    fake_run_first_step(&run);
    fake_run_stop(&run); /* the two are heard of with no time between them */
    fake_run_died(&run, 1, 1, 7, 0);
    run.reports[1].process = TRM_REPORT_NO_PROCESS;
    run.reports[1].signal = SIGSEGV;
    fake_agent_beat(&run.agents[1]);
    fake_run_go_on(&run);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"signal\":11"));
    assert_int_equal(fake_run_count(&run, "\"event\":\"fault\""), 1);
    fake_run_destroy(&run);
}

/* Nothing was heard of it between its first step and its last: it is told as any other. */
static void an_attempt_that_was_over_before_it_was_looked_at_is_told_whole(void **state)
{
    struct fake_run run;

    (void)state;
    begin(&run);
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    for (int i = 0; i < 2; i++) {
        run.reports[i].resumed_step = 0;
        run.reports[i].step = 7;
    }
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    assert_true(fake_run_tells(&run, "\"event\":\"recovered\",\"attempt\":1"));
    fake_run_destroy(&run);
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) != 0;
}

static void let_launcher_go(const struct fake_run *run)
{
    char path[TRM_PATH_BYTES];

    snprintf(path, sizeof path, "%s/go", run->root);
    assert_int_equal(trm_file_write_all(path, "", 0, false, NULL), TRM_OK);
}

/* Long enough for a supervisor that does not wait for words to act without them. */
static void pass_some_beats(struct fake_run *run)
{
    int64_t number = run->agents[0].number;

    FAKE_RUN_WAIT(run, run->agents[0].number > number + 20);
}

/* A run that makes steps under a launcher which, when it may go, does that. */
static void begin_under(struct fake_run *run, const char *last, const char *const *flags)
{
    char launcher[256];

    snprintf(launcher, sizeof launcher, "while [ ! -e $FAKE_RUN/go ]; do sleep 0.05; done; %s",
             last);
    fake_run_create(run, 2, 1, BEAT_MS);
    fake_run_supervise(run, 2, launcher, flags);
    fake_run_join(run, 0, 2);
    fake_run_first_step(run);
}

/* Lets it go, and nothing else be heard of for some time. */
static void end_launcher(struct fake_run *run)
{
    char path[TRM_PATH_BYTES], *text = NULL;
    size_t bytes;

    snprintf(path, sizeof path, "%s/launches", run->root);
    assert_int_equal(trm_file_read_all(path, 64, &text, &bytes, NULL), TRM_OK);
    let_launcher_go(run);
    FAKE_RUN_WAIT(run, is_gone((pid_t)atoi(text)));
    free(text);
    pass_some_beats(run);
}

/* mpirun's end is heard of at once, and what ranks did last once their nodes have said it. */
static void records_that_mpirun_ends_before_are_waited_for(void **state)
{
    static const int codes[] = {TRM_EXIT_OK, TRM_EXIT_REQUEUE};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fake_run run;
        begin_under(&run, i == 0 ? "exit 0" : "exit 75", calm);
        end_launcher(&run);
        fake_run_exit(&run, codes[i]);
        assert_int_equal(fake_run_end(&run), codes[i]);
        assert_false(fake_run_tells(&run, "\"event\":\"fault\""));
        fake_run_destroy(&run);
    }
}

/* So is a death: mpirun knows neither its step nor, mostly, its cause. */
static void a_death_that_mpirun_ends_before_is_waited_for(void **state)
{
    struct fake_run run;

    (void)state;
    begin_under(&run, "exit 137", calm);
    end_launcher(&run);
    assert_false(fake_run_tells(&run, "\"event\":\"fault\""));
    fake_run_died(&run, 1, 1, 7, 0);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"fault\""));
    assert_true(fake_run_tells(
        &run, "\"rank\":1,\"step\":8,\"phase\":\"forward\",\"cause\":\"was killed (signal 9)\""));
    fake_run_destroy(&run);
}

#define NAMES_RANK_1 \
    "echo mpirun noticed that process rank 1 on node node1 exited on signal 9. >&2; exit 137"

/* Without it the same death would look like another one. */
static void a_death_waits_for_mpirun_to_name_its_signal(void **state)
{
    struct fake_run run;

    (void)state;
    begin_under(&run, NAMES_RANK_1, calm);
    fake_run_died(&run, 1, 1, 7, 0);
    pass_some_beats(&run);
    assert_false(fake_run_tells(&run, "\"event\":\"fault\""));
    let_launcher_go(&run);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"fault\""));
    assert_true(fake_run_tells(
        &run, "\"rank\":1,\"step\":8,\"phase\":\"forward\",\"cause\":\"was killed (signal 9)\""));
    fake_run_destroy(&run);
}

static void a_death_that_mpirun_alone_tells_is_that_rank_s(void **state)
{
    static const char *const flags[] = {"--heartbeat-interval-ms", "50", "--lease-ms", "8000",
                                        NULL};
    struct fake_run run;

    (void)state;
    begin_under(&run, NAMES_RANK_1, flags);
    let_launcher_go(&run);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"fault\""));
    assert_true(fake_run_tells(
        &run, "\"rank\":1,\"step\":2,\"phase\":\"forward\",\"cause\":\"was killed (signal 9)\""));
    fake_run_destroy(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_begin_that_was_lost_is_said_again),
        cmocka_unit_test(an_answer_to_a_check_that_was_lost_is_asked_for_again),
        cmocka_unit_test(a_stop_that_was_lost_is_said_again),
        cmocka_unit_test(records_that_mpirun_ends_before_are_waited_for),
        cmocka_unit_test(a_death_that_mpirun_ends_before_is_waited_for),
        cmocka_unit_test(a_death_waits_for_mpirun_to_name_its_signal),
        cmocka_unit_test(a_death_that_mpirun_alone_tells_is_that_rank_s),
        cmocka_unit_test(a_signal_that_a_node_tells_needs_no_word_of_mpirun),
        cmocka_unit_test(an_attempt_that_was_over_before_it_was_looked_at_is_told_whole),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
