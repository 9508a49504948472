/* The rank's end runs in a thread, the agent's in the test's own. */
#include "collectives/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent.h"

struct rank {
    pthread_t thread;
    struct trm_attach attach;
    struct trm_error error;
    enum trm_status status;
    /* A request to make once attached. */
    struct trm_attach_message message;
    int fds[TRM_ATTACH_MAX_FDS], max_fds, fd_count;
};

static void *open_rank(void *context)
{
    struct rank *rank = context;
    rank->status = trm_attach_open(5, 1, &rank->attach, &rank->error);
    return NULL;
}

static void *ask(void *context)
{
    struct rank *rank = context;
    rank->status = trm_attach_ask(&rank->attach, &rank->message, rank->fds, rank->max_fds,
                                  &rank->fd_count, &rank->error);
    return NULL;
}

static void start(struct rank *rank, void *(*work)(void *))
{
    assert_int_equal(pthread_create(&rank->thread, NULL, work, rank), 0);
}

static enum trm_status join(struct rank *rank)
{
    assert_int_equal(pthread_join(rank->thread, NULL), 0);
    return rank->status;
}

/* The agent's lock, exclusively: nobody else may hold it. */
static bool no_rank_lives(const struct agent *agent)
{
    char path[TRM_PATH_BYTES];
    int fd;
    bool got;

    assert_int_equal(trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, agent->directory), TRM_OK);
    fd = open(path, O_RDWR | O_CLOEXEC);
    got = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return got;
}

static void attach(struct agent *agent, struct rank *rank, int *connection)
{
    struct trm_attach_message hello;

    memset(rank, 0, sizeof *rank);
    agent_start(agent, 4, 3);
    start(rank, open_rank);
    *connection = agent_welcome(agent, 2, &hello);
    assert_int_equal(join(rank), TRM_OK);
    assert_int_equal(hello.rank, 5);
    assert_int_equal(hello.local_rank, 1);
    assert_int_equal(hello.attempt, 3);
}

static void without_an_agent_there_is_nothing_to_attach_to(void **state)
{
    struct trm_attach none;
    struct trm_attach_message message = {.kind = TRM_ATTACH_SETTLE};
    int count = 1;
    (void)state;

    unsetenv("TRIREME_RUNTIME");
    assert_int_equal(trm_attach_open(0, 0, &none, NULL), TRM_OK);
    assert_int_equal(none.socket, -1);
    assert_int_equal(none.lock, -1);
    assert_null(none.flight.record);
    assert_int_equal(trm_attach_ask(&none, &message, NULL, 0, &count, NULL), TRM_ERR_UNSUPPORTED);
    assert_int_equal(count, 0);
    trm_attach_close(&none);
    trm_attach_close(NULL);
}

static void a_welcomed_rank_holds_the_lock_and_writes_its_record(void **state)
{
    struct agent agent;
    struct rank rank;
    int connection;
    pid_t pid;
    uid_t uid;
    (void)state;

    attach(&agent, &rank, &connection);
    assert_int_equal(trm_attach_peer(connection, &pid, &uid, NULL), TRM_OK);
    assert_int_equal(pid, getpid());
    assert_int_equal(uid, geteuid());
    assert_false(no_rank_lives(&agent));
    assert_int_equal(agent.segment->records[2].state, TRM_FLIGHT_RUNNING);
    assert_int_equal(agent.segment->records[2].rank, 5);
    trm_attach_close(&rank.attach);
    assert_true(no_rank_lives(&agent));
    int count;
    struct trm_attach_message message;
    assert_int_equal(trm_attach_receive(connection, &message, NULL, 0, &count, NULL),
                     TRM_ERR_NOT_FOUND);
    close(connection);
    agent_stop(&agent);
}

static void a_refused_rank_says_why_and_lets_go(void **state)
{
    struct agent agent;
    struct rank rank = {0};
    (void)state;

    agent_start(&agent, 1, 3);
    start(&rank, open_rank);
    agent_refuse(&agent, "attempt 3 is over");
    assert_int_equal(join(&rank), TRM_ERR_COMM);
    assert_non_null(strstr(rank.error.text, "rank 5"));
    assert_non_null(strstr(rank.error.text, "attempt 3 is over"));
    assert_int_equal(rank.attach.socket, -1);
    assert_true(no_rank_lives(&agent));
    agent_stop(&agent);
}

static void a_node_that_was_declared_dead_takes_no_rank(void **state)
{
    struct agent agent;
    struct trm_attach attach_;
    struct trm_error error;
    char path[TRM_PATH_BYTES];
    int fd;
    (void)state;

    agent_start(&agent, 1, 3);
    assert_int_equal(trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, agent.directory), TRM_OK);
    fd = open(path, O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(trm_attach_open(0, 0, &attach_, &error), TRM_ERR_COMM);
    assert_non_null(strstr(error.text, "free of ranks"));
    close(fd);
    agent_stop(&agent);
}

static void an_agent_that_is_not_there_is_an_error(void **state)
{
    struct agent agent;
    struct trm_attach attach_;
    struct trm_error error;
    (void)state;

    agent_start(&agent, 1, 3);
    close(agent.listener);
    agent.listener = -1;
    assert_int_equal(trm_attach_open(0, 0, &attach_, &error), TRM_ERR_COMM);
    assert_non_null(strstr(error.text, TRM_ATTACH_SOCKET));
    agent_stop(&agent);
}

static void a_directory_that_others_may_enter_is_not_trusted(void **state)
{
    struct agent agent;
    struct trm_attach attach_;
    struct trm_error error;
    (void)state;

    agent_start(&agent, 1, 3);
    assert_int_equal(chmod(agent.directory, 0755), 0);
    assert_int_equal(trm_attach_open(0, 0, &attach_, &error), TRM_ERR_COMM);
    assert_non_null(strstr(error.text, "0700"));
    agent_stop(&agent);
}

static void an_attempt_that_is_no_number_is_refused(void **state)
{
    static const char *const bad[] = {"", "x", "3x", "-1", "99999999999999999999"};
    struct agent agent;
    (void)state;

    agent_start(&agent, 1, 3);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct trm_attach attach_;
        setenv("TRIREME_ATTEMPT", bad[i], 1);
        assert_int_equal(trm_attach_open(0, 0, &attach_, NULL), TRM_ERR_COMM);
    }
    unsetenv("TRIREME_ATTEMPT");
    struct trm_attach attach_;
    assert_int_equal(trm_attach_open(0, 0, &attach_, NULL), TRM_ERR_COMM);
    agent_stop(&agent);
}

static void descriptors_arrive_and_are_the_receivers_own(void **state)
{
    struct agent agent;
    struct rank rank;
    struct trm_attach_message request;
    int connection, count, sent[TRM_ATTACH_MAX_FDS];
    (void)state;

    attach(&agent, &rank, &connection);
    for (int i = 0; i < TRM_ATTACH_MAX_FDS; i++) {
        sent[i] = memfd_create("slot", MFD_CLOEXEC);
        assert_int_equal(ftruncate(sent[i], 100 + i), 0);
    }
    rank.message = (struct trm_attach_message){
        .kind = TRM_ATTACH_SLOT_TAKE, .bytes = 100, .count = TRM_ATTACH_MAX_FDS};
    rank.max_fds = TRM_ATTACH_MAX_FDS;
    start(&rank, ask);
    assert_int_equal(trm_attach_receive(connection, &request, NULL, 0, &count, NULL), TRM_OK);
    assert_int_equal(request.kind, TRM_ATTACH_SLOT_TAKE);
    assert_int_equal(request.bytes, 100);
    assert_int_equal(request.attempt, 3);
    request.kind = TRM_ATTACH_TAKEN;
    assert_int_equal(trm_attach_send(connection, &request, sent, TRM_ATTACH_MAX_FDS, NULL), TRM_OK);
    assert_int_equal(join(&rank), TRM_OK);
    assert_int_equal(rank.message.kind, TRM_ATTACH_TAKEN);
    assert_int_equal(rank.fd_count, TRM_ATTACH_MAX_FDS);
    for (int i = 0; i < TRM_ATTACH_MAX_FDS; i++) {
        struct stat info;
        close(sent[i]);
        assert_int_equal(fstat(rank.fds[i], &info), 0);
        assert_int_equal(info.st_size, 100 + i);
        assert_true(fcntl(rank.fds[i], F_GETFD) & FD_CLOEXEC);
        close(rank.fds[i]);
    }
    trm_attach_close(&rank.attach);
    close(connection);
    agent_stop(&agent);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void descriptors_that_nobody_asked_for_are_closed(void **state)
{
    int ends[2], got, count, before;
    struct trm_attach_message message = {.kind = TRM_ATTACH_WELCOME};
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    int sent[2] = {ends[0], ends[1]};
    before = open_descriptors();
    assert_int_equal(trm_attach_send(ends[0], &message, sent, 2, NULL), TRM_OK);
    assert_int_equal(trm_attach_receive(ends[1], &message, &got, 1, &count, NULL),
                     TRM_ERR_MISMATCH);
    assert_int_equal(count, 0);
    assert_int_equal(open_descriptors(), before);
    close(ends[0]);
    close(ends[1]);
}

static void what_is_no_message_is_refused(void **state)
{
    struct trm_attach_message message = {.version = TRM_ATTACH_VERSION, .kind = TRM_ATTACH_HELLO};
    struct trm_attach_message bad[5], got;
    char long_one[sizeof message + 1] = "";
    int ends[2], count;
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    for (int i = 0; i < 5; i++)
        bad[i] = message;
    bad[0].version++;
    bad[1].kind = 0;
    bad[2].kind = TRM_ATTACH_KIND_END;
    memset(bad[3].text, 'x', sizeof bad[3].text);
    for (int i = 0; i < 5; i++) {
        size_t bytes = i == 4 ? sizeof message - 1 : sizeof message; /* the last is cut short */
        assert_int_equal(send(ends[0], &bad[i], bytes, 0), (ssize_t)bytes);
        assert_int_equal(trm_attach_receive(ends[1], &got, NULL, 0, &count, NULL),
                         TRM_ERR_MISMATCH);
    }
    memcpy(long_one, &message, sizeof message);
    assert_int_equal(send(ends[0], long_one, sizeof long_one, 0), (ssize_t)sizeof long_one);
    assert_int_equal(trm_attach_receive(ends[1], &got, NULL, 0, &count, NULL), TRM_ERR_MISMATCH);
    assert_int_equal(trm_attach_receive(ends[1], &got, NULL, 0, &count, NULL), TRM_ERR_TIMEOUT);
    assert_int_equal(send(ends[0], &message, sizeof message, 0), (ssize_t)sizeof message);
    assert_int_equal(trm_attach_receive(ends[1], &got, NULL, 0, &count, NULL), TRM_OK);
    close(ends[0]);
    assert_int_equal(trm_attach_receive(ends[1], &got, NULL, 0, &count, NULL), TRM_ERR_NOT_FOUND);
    assert_int_equal(trm_attach_send(ends[1], &got, NULL, 0, NULL), TRM_ERR_COMM);
    close(ends[1]);
}

static void an_answer_that_came_too_late_is_passed_over(void **state)
{
    struct agent agent;
    struct rank rank;
    struct trm_attach_message request, stale;
    int connection, count;
    (void)state;

    attach(&agent, &rank, &connection);
    rank.message = (struct trm_attach_message){.kind = TRM_ATTACH_SETTLE};
    rank.max_fds = 1;
    start(&rank, ask);
    assert_int_equal(trm_attach_receive(connection, &request, NULL, 0, &count, NULL), TRM_OK);
    stale = request;
    stale.sequence--;
    stale.kind = TRM_ATTACH_TAKEN;
    assert_int_equal(trm_attach_send(connection, &stale, &connection, 1, NULL), TRM_OK);
    request.kind = TRM_ATTACH_DONE;
    assert_int_equal(trm_attach_send(connection, &request, NULL, 0, NULL), TRM_OK);
    assert_int_equal(join(&rank), TRM_OK);
    assert_int_equal(rank.message.kind, TRM_ATTACH_DONE);
    assert_int_equal(rank.fd_count, 0);
    start(&rank, ask);
    assert_int_equal(trm_attach_receive(connection, &request, NULL, 0, &count, NULL), TRM_OK);
    close(connection);
    assert_int_equal(join(&rank), TRM_ERR_COMM);
    trm_attach_close(&rank.attach);
    agent_stop(&agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_an_agent_there_is_nothing_to_attach_to),
        cmocka_unit_test(a_welcomed_rank_holds_the_lock_and_writes_its_record),
        cmocka_unit_test(a_refused_rank_says_why_and_lets_go),
        cmocka_unit_test(a_node_that_was_declared_dead_takes_no_rank),
        cmocka_unit_test(an_agent_that_is_not_there_is_an_error),
        cmocka_unit_test(a_directory_that_others_may_enter_is_not_trusted),
        cmocka_unit_test(an_attempt_that_is_no_number_is_refused),
        cmocka_unit_test(descriptors_arrive_and_are_the_receivers_own),
        cmocka_unit_test(descriptors_that_nobody_asked_for_are_closed),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(an_answer_that_came_too_late_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
