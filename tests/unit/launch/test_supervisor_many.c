/* A thousand nodes of four ranks under one supervisor: it starts their agents, checks them, hears
 * all their ranks, and loses one of them; in bounded time and memory. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "fake_run.h"

#ifdef __SANITIZE_ADDRESS__ /* ten times slower, in this process and the supervisor */
#define NODES    100
#define LEASE_MS "20000"
#else
#define NODES    1000
#define LEASE_MS "8000"
#endif
#define SPARES   1
#define SLOTS    4
#define BEAT_MS  1000
#define MOST_KIB (256L << 10) /* of the supervisor */
#define SILENT   30           /* the node that goes silent */

static const char *const flags[] = {
    "--heartbeat-interval-ms", "1000",  "--lease-ms", LEASE_MS, "--start-timeout-ms", "60000",
    "--node-wait-ms",          "60000", NULL};

static bool have_all(struct fake_run *run, enum trm_message_type type, int count)
{
    return fake_run_received(run, type) >= count;
}

static void a_thousand_agents_are_followed_and_a_silent_one_replaced(void **state)
{
    struct fake_run run;
    int64_t silent_ns;

    (void)state;
    fake_run_create(&run, NODES + SPARES, SLOTS, BEAT_MS);
    fake_run_supervise(&run, NODES * SLOTS, FAKE_RUN_LAUNCHER, flags);
    for (int i = 0; i < NODES + SPARES; i++) {
        fake_run_join(&run, i, i + 1);
        uv_run(&run.loop, UV_RUN_NOWAIT); /* the supervisor waits two seconds for proofs */
    }
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 1);
    assert_true(have_all(&run, TRM_MESSAGE_CHECK, NODES));
    assert_int_equal(fake_run_received(&run, TRM_MESSAGE_BEGIN), NODES);
    fake_run_step(&run, 1);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"recovered\",\"attempt\":1"));
    assert_false(fake_run_tells(&run, "\"event\":\"fault\""));

    silent_ns = trm_clock_now_ns();
    fake_agent_beat(&run.agents[SILENT]); /* its lease runs from then on */
    run.agents[SILENT].silent = true;
    FAKE_RUN_WAIT(&run, fake_run_launches(&run) == 2);
    assert_true(trm_clock_now_ns() - silent_ns >= atoll(LEASE_MS) * 1000000);
    FAKE_RUN_WAIT(&run, fake_run_count(&run, "\"event\":\"fault\"") == 1);
    FAKE_RUN_WAIT(&run,
                  fake_run_tells(&run, "\"event\":\"fault\",\"attempt\":1,\"node\":\"node30\""));
    assert_true(run.agents[NODES].received[TRM_MESSAGE_BEGIN] == 1); /* the spare */
    fake_run_step(&run, 2);
    FAKE_RUN_WAIT(&run, fake_run_tells(&run, "\"event\":\"recovered\",\"attempt\":2"));
    fake_run_exit(&run, TRM_EXIT_OK);
    assert_int_equal(fake_run_end(&run), TRM_EXIT_OK);
    printf("supervisor of %d agents: %ld KiB at most, %ld.%02ld s of processor time\n", NODES,
           run.usage.ru_maxrss, (long)run.usage.ru_utime.tv_sec,
           (long)run.usage.ru_utime.tv_usec / 10000);
    assert_true(run.usage.ru_maxrss < MOST_KIB);
    fake_run_destroy(&run);
}

/* This process needs a descriptor for each agent, as the supervisor does. */
static bool has_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < 2 * NODES)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_agents_are_followed_and_a_silent_one_replaced),
    };

    signal(SIGPIPE, SIG_IGN);
    if (!has_descriptors()) {
        printf("skipped: %d descriptors are needed, and ulimit -Hn allows less\n", 2 * NODES);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
