/* Ranks are children of this process, which plays the agent where there is one. */
#include "collectives/watchdog.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent.h"
#include "collectives/flight_view.h"
#include "collectives/flight_write.h"

#define RANKS 2

struct rank {
    pid_t pid;
    int output; /* what it says on standard error */
    char text[4096];
};

/* What a rank does once it is attached; its exit code. */
typedef int rank_fn(struct trm_attach *attach);

static void fork_rank(struct rank *rank, rank_fn *work, struct trm_attach *attach)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    rank->pid = fork();
    if (rank->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(work(attach));
    }
    close(ends[1]);
    rank->output = ends[0];
}

/* All it said, to its end; its exit code, or minus the signal that ended it. */
static int wait_for(struct rank *rank)
{
    size_t used = 0;
    ssize_t got;
    int status;

    while ((got = read(rank->output, rank->text + used, sizeof rank->text - 1 - used)) > 0)
        used += (size_t)got;
    rank->text[used] = '\0';
    close(rank->output);
    assert_int_equal(waitpid(rank->pid, &status, 0), rank->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void hang(void)
{
    for (;;)
        pause();
}

/* Under an agent: attaches, watches, and hangs. */
static int attach_and_hang(struct trm_attach *unused)
{
    struct trm_attach attach;
    struct trm_watchdog *watchdog;
    (void)unused;

    if (trm_attach_open(5, 0, &attach, NULL) != TRM_OK ||
        trm_watchdog_start(&attach, NULL, &watchdog, NULL) != TRM_OK)
        return 1;
    hang();
    return 0;
}

static void a_lapsed_lease_ends_the_rank(void **state)
{
    struct agent agent;
    struct rank rank;
    struct trm_attach_message hello;
    const struct trm_flight_record *record;
    int connection;
    (void)state;

    agent_start(&agent, 1, 3);
    agent.segment->lease_until_ns = trm_flight_boot_ns() + INT64_C(3600) * 1000000000;
    record = &agent.segment->records[0];
    fork_rank(&rank, attach_and_hang, NULL);
    connection = agent_welcome(&agent, 0, &hello);
    assert_int_equal(waitpid(rank.pid, NULL, WNOHANG), 0);
    agent.segment->lease_until_ns = trm_flight_boot_ns();
    assert_int_equal(wait_for(&rank), TRM_EXIT_UNAVAILABLE);
    assert_non_null(strstr(rank.text, "rank 5"));
    assert_non_null(strstr(rank.text, "lease has lapsed"));
    assert_int_equal(record->state, TRM_FLIGHT_EXITED);
    assert_int_equal(record->exit_code, TRM_EXIT_UNAVAILABLE);
    assert_non_null(strstr(record->exit_text, "lease has lapsed"));
    close(connection);
    agent_stop(&agent);
}

static void a_lost_agent_ends_the_rank(void **state)
{
    struct agent agent;
    struct rank rank;
    struct trm_attach_message hello;
    (void)state;

    agent_start(&agent, 1, 3);
    fork_rank(&rank, attach_and_hang, NULL);
    close(agent_welcome(&agent, 0, &hello));
    assert_int_equal(wait_for(&rank), TRM_EXIT_UNAVAILABLE);
    assert_non_null(strstr(rank.text, "the agent of this node is gone"));
    agent_stop(&agent);
}

static int watch_and_stop(struct trm_attach *attach)
{
    const struct trm_stall_limits limits = {.factor = 10, .floor_ms = 1, .ceiling_ms = 3600000};
    struct trm_watchdog *watchdog;

    for (int i = 0; i < 20; i++) {
        if (trm_watchdog_start(attach, &limits, &watchdog, NULL) != TRM_OK)
            return 1;
        trm_watchdog_stop(watchdog);
    }
    trm_watchdog_stop(NULL);
    return 0;
}

static int watch_nothing(struct trm_attach *attach)
{
    *attach = (struct trm_attach){.socket = -1, .lock = -1};
    return watch_and_stop(attach);
}

static void a_watchdog_that_is_stopped_ends_nothing(void **state)
{
    struct trm_attach none;
    struct rank rank;
    (void)state;

    fork_rank(&rank, watch_nothing, &none);
    assert_int_equal(wait_for(&rank), 0);
    assert_string_equal(rank.text, "");
}

/* Without an agent: a segment that ranks share. */
static void share_segment(struct trm_attach attach[RANKS], int *fd)
{
    size_t bytes = trm_flight_segment_bytes(RANKS);
    void *memory;

    *fd = memfd_create("flight", MFD_CLOEXEC);
    assert_int_equal(ftruncate(*fd, (off_t)bytes), 0);
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    trm_flight_segment_init(memory, RANKS, 0);
    for (int i = 0; i < RANKS; i++) {
        attach[i] = (struct trm_attach){.socket = -1, .lock = -1};
        attach[i].flight.segment = memory;
        attach[i].flight.bytes = bytes;
        attach[i].attempt = i; /* the rank's number, until it joins */
        attach[i].lock = *fd;  /* and its segment */
    }
}

/* Claims the record, in a mesh of two data-parallel ranks. */
static bool join(struct trm_attach *attach)
{
    int rank = (int)attach->attempt, fd = attach->lock;

    attach->lock = -1;
    if (trm_flight_map(fd, rank, rank, &attach->flight, NULL) != TRM_OK)
        return false;
    trm_flight_mesh(&attach->flight, RANKS, RANKS, 1);
    trm_flight_phase(&attach->flight, TRM_PHASE_FORWARD);
    return true;
}

static bool begin_to_wait(struct trm_attach *attach)
{
    struct trm_flight_lane *lane;

    if (!join(attach))
        return false;
    lane = trm_flight_lane(&attach->flight, TRM_FLIGHT_DATA);
    trm_flight_wait_begin(lane, trm_flight_enter(lane, TRM_FLIGHT_ALL_REDUCE),
                          TRM_FLIGHT_ALL_REDUCE);
    return true;
}

/* Storage has longer than a rank may stand still without starting to count anew (three seconds),
 * so that none judges before it has warned. */
static int watch_and_hang(struct trm_attach *attach)
{
    const struct trm_stall_limits limits = {.ceiling_ms = 300, .io_ms = 3600};
    struct trm_watchdog *watchdog;

    if (trm_watchdog_start(attach, &limits, &watchdog, NULL) != TRM_OK)
        return 1;
    hang();
    return 0;
}

static int wait_for_all(struct trm_attach *attach)
{
    return begin_to_wait(attach) ? watch_and_hang(attach) : 1;
}

static int wait_with_all(struct trm_attach *attach)
{
    if (!begin_to_wait(attach))
        return 1;
    for (int i = 0; i < RANKS; i++)
        while (attach->flight.segment->records[i].lanes[TRM_FLIGHT_DATA].waiting != 1)
            usleep(1000);
    return watch_and_hang(attach);
}

static int be_late(struct trm_attach *attach)
{
    if (!join(attach))
        return 1;
    hang();
    return 0;
}

static int be_stopped(struct trm_attach *attach)
{
    if (!join(attach))
        return 1;
    raise(SIGSTOP);
    return 0;
}

static int be_saving(struct trm_attach *attach)
{
    if (!join(attach))
        return 1;
    trm_flight_phase(&attach->flight, TRM_PHASE_SAVE);
    hang();
    return 0;
}

/* Rank 1 does `work`; once it is in `phase`, and its process in that state where one is given,
 * rank 0 waits and watches. What rank 0 said. */
static const char *verdict_on(rank_fn *work, enum trm_phase phase, char process)
{
    static struct rank ranks[RANKS];
    struct trm_attach attach[RANKS];
    int fd;

    share_segment(attach, &fd);
    fork_rank(&ranks[1], work, &attach[1]);
    while (attach[0].flight.segment->records[1].phase != (int32_t)phase ||
           (process && trm_flight_process(ranks[1].pid) != process))
        usleep(1000);
    fork_rank(&ranks[0], wait_for_all, &attach[0]);
    assert_int_equal(wait_for(&ranks[0]), TRM_EXIT_UNAVAILABLE);
    assert_int_equal(kill(ranks[1].pid, SIGKILL), 0);
    assert_int_equal(wait_for(&ranks[1]), -SIGKILL);
    munmap(attach[0].flight.segment, attach[0].flight.bytes);
    close(fd);
    return ranks[0].text;
}

static void without_progress_the_job_ends_with_a_verdict(void **state)
{
    const char *said = verdict_on(be_late, TRM_PHASE_FORWARD, 0);
    (void)state;

    assert_non_null(strstr(said, "error: no progress for "));
    assert_non_null(strstr(said, "so the job ends: rank 1 on "));
    assert_non_null(strstr(said, " did not arrive at all-reduce 1 of the data group: in forward"));
    assert_non_null(strstr(said, "; rank 0 waits for "));
}

static void a_stopped_rank_is_named_as_such(void **state)
{
    const char *said = verdict_on(be_stopped, TRM_PHASE_FORWARD, 'T');
    (void)state;

    assert_non_null(strstr(said, ", stopped by a signal; rank 0 waits for "));
}

static void storage_is_told_and_waited_for(void **state)
{
    const char *said = verdict_on(be_saving, TRM_PHASE_SAVE, 0), *warning, *error;
    (void)state;

    warning = strstr(said, "warning: no progress: rank 1 on ");
    error = strstr(said, "error: no progress for ");
    assert_non_null(warning);
    assert_non_null(error);
    assert_true(warning < error);
    assert_null(strstr(warning + 1, "warning: ")); /* once */
    assert_non_null(strstr(error, ": waiting for storage, in saving for "));
}

static void of_all_that_wait_one_rank_speaks(void **state)
{
    struct rank ranks[RANKS];
    struct trm_attach attach[RANKS];
    int spoke = 0, fd;
    (void)state;

    share_segment(attach, &fd);
    for (int i = 0; i < RANKS; i++)
        fork_rank(&ranks[i], wait_with_all, &attach[i]);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(wait_for(&ranks[i]), TRM_EXIT_UNAVAILABLE);
        if (strstr(ranks[i].text, "so the job ends: ")) {
            assert_non_null(strstr(ranks[i].text, "all-reduce 1 of the data group does not "
                                                  "complete, though every rank has arrived"));
            spoke++;
        }
    }
    assert_int_equal(spoke, 1);
    munmap(attach[0].flight.segment, attach[0].flight.bytes);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lapsed_lease_ends_the_rank),
        cmocka_unit_test(a_lost_agent_ends_the_rank),
        cmocka_unit_test(a_watchdog_that_is_stopped_ends_nothing),
        cmocka_unit_test(without_progress_the_job_ends_with_a_verdict),
        cmocka_unit_test(a_stopped_rank_is_named_as_such),
        cmocka_unit_test(storage_is_told_and_waited_for),
        cmocka_unit_test(of_all_that_wait_one_rank_speaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
