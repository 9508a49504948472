#include "launch/agent/agent.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "collectives/attach.h"
#include "launch/agent/internal.h"
#include "launch/sweep.h"
#include "node.h"

static bool file_begins_with(const char *path, const char *text)
{
    char *data = NULL;
    size_t bytes = 0;
    bool begins = trm_file_read_all(path, 4096, &data, &bytes, NULL) == TRM_OK &&
                  strncmp(data, text, strlen(text)) == 0;
    free(data);
    return begins;
}

static void an_agent_says_hello_and_its_beats_are_acknowledged(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    assert_int_equal(node.received[TRM_MESSAGE_HELLO], 1);
    assert_string_equal(node.hello.hello.run_id, "run");
    assert_int_equal(node.hello.hello.protocol, TRM_MESSAGE_PROTOCOL);
    assert_int_equal(node.hello.hello.pid, getpid());
    assert_false(node.hello.hello.orphans);
    assert_true(node.hello.hello.cores > 0 && node.hello.hello.memory_bytes > 0);
    assert_string_equal(trm_link_node(node.link), "node2");
    NODE_WAIT(&node, node.beat.beat.number >= 5);
    assert_int_equal(node.beat.beat.launcher, TRM_LAUNCHER_NONE);
    struct stat info;
    assert_int_equal(stat(node.directory, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    node_finish(&node);
}

static void ranks_of_the_attempt_are_admitted_and_reported(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 3);
    pid_t first = node_rank(&node, 3, 6, 0, "run"), second = node_rank(&node, 3, 7, 1, "run");
    node_wait_connected(&node, 2);
    const struct trm_rank_report *report = node_report(&node, 7);
    assert_int_equal(report->pid, second);
    assert_int_equal(report->local_rank, 1);
    assert_int_equal(report->step, 118);
    assert_int_equal(report->samples, 944);
    assert_true(report->loss == 2.5);
    assert_int_equal(report->world_size, 2);
    assert_non_null(strchr("RSD", report->process));
    assert_int_equal(node.beat.beat.attempt, 3);
    assert_int_equal(node.beat.beat.launcher, TRM_LAUNCHER_RUNNING); /* this test */
    node_kill(&node, 3);
    assert_true(WIFSIGNALED(node_reap(&node, first)));
    assert_int_equal(WTERMSIG(node_reap(&node, second)), SIGKILL);
    NODE_WAIT(&node, node_report(&node, 7)->process == TRM_REPORT_NO_PROCESS);
    node_finish(&node);
}

static void ranks_are_told_the_failure_domain_of_their_node(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 3);
    pid_t rank = node_rank(&node, 3, 0, 0, "domain");
    assert_int_equal(WEXITSTATUS(node_reap(&node, rank)), 0);
    NODE_WAIT(&node,
              node.beat.beat.rank_count == 1 && node_report(&node, 0)->state == TRM_FLIGHT_EXITED);
    assert_string_equal(node_report(&node, 0)->exit_text, "rack7");
    node_kill(&node, 3);
    node_finish(&node);
}

static void ranks_that_do_not_belong_are_refused(void **state)
{
    (void)state;
    static const struct {
        int64_t attempt;
        int local_rank;
        const char *reason;
    } cases[] = {
        {2, 0, "attempt 3 is at hand, not 2"},
        {4, 0, "attempt 3 is at hand, not 4"},
        {3, 4, "where 4 are expected"},
        {3, 1, "is already number 2 on this node"},
    };
    struct node node;
    node_start(&node);
    pid_t early = node_rank(&node, 1, 0, 0, "run");
    assert_int_equal(WEXITSTATUS(node_reap(&node, early)), TRM_EXIT_UNAVAILABLE);
    NODE_WAIT(&node, strstr(node.notes, "no attempt is open"));
    node_begin(&node, 3);
    pid_t good = node_rank(&node, 3, 1, 1, "run");
    node_wait_connected(&node, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t rank = node_rank(&node, cases[i].attempt, 0, cases[i].local_rank, "run");
        assert_int_equal(WEXITSTATUS(node_reap(&node, rank)), TRM_EXIT_UNAVAILABLE);
        NODE_WAIT(&node, strstr(node.notes, cases[i].reason));
    }
    node_kill(&node, 3);
    node_reap(&node, good);
    pid_t late = node_rank(&node, 3, 1, 1, "run");
    assert_int_equal(WEXITSTATUS(node_reap(&node, late)), TRM_EXIT_UNAVAILABLE);
    node_finish(&node);
}

static void an_attempt_that_is_over_cannot_begin_again(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 3);
    node_begin(&node, 3); /* said twice: it is the same */
    node_kill(&node, 5);
    struct trm_message begin = {.type = TRM_MESSAGE_BEGIN};
    begin.begin.capacity = 1;
    for (int64_t attempt = 2; attempt <= 5; attempt++) {
        int before = node.received[TRM_MESSAGE_BEGUN];
        begin.begin.attempt = attempt;
        node_send(&node, begin);
        NODE_WAIT(&node, node.received[TRM_MESSAGE_BEGUN] > before);
        assert_false(node.begun.begun.ok);
        assert_non_null(strstr(node.begun.begun.reason, "it is over"));
    }
    node_begin(&node, 6);
    node_finish(&node);
}

static void a_stopped_rank_and_a_stopped_orted_are_killed_and_proved_dead(void **state)
{
    (void)state;
    struct node node;
    char link[600];
    node_start(&node);
    node_begin(&node, 1);
    pid_t daemon = node_rank(&node, 1, 0, 0, "orted");
    node_wait_connected(&node, 1);
    pid_t rank = node_rank(&node, 1, 1, 1, "run");
    node_wait_connected(&node, 2);
    kill(rank, SIGSTOP);
    NODE_WAIT(&node, node_report(&node, 1)->process == 'T');
    kill(daemon, SIGSTOP);
    int status;
    NODE_WAIT(&node, waitpid(daemon, &status, WNOHANG | WUNTRACED) == daemon);
    node_kill(&node, 1);
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    assert_int_equal(WTERMSIG(node_reap(&node, daemon)), SIGKILL);
    snprintf(link, sizeof link, "%s/orted", node.root);
    unlink(link);
    node_finish(&node);
}

static void an_orted_whose_ranks_never_came_is_found_by_its_arguments(void **state)
{
    (void)state;
    struct node node;
    char link[600];
    node_start(&node);
    node_begin(&node, 1);
    pid_t daemon = node_rank(&node, 1, 0, 0, "daemon");
    snprintf(link, sizeof link, "/proc/%d/cmdline", (int)daemon); /* there later than its name */
    NODE_WAIT(&node, file_begins_with(link, "rank"));
    kill(daemon, SIGSTOP);
    node_kill(&node, 1);
    assert_int_equal(WTERMSIG(node_reap(&node, daemon)), SIGKILL);
    snprintf(link, sizeof link, "%s/orted", node.root);
    unlink(link);
    node_finish(&node);
}

static void the_launchers_state_is_told(void **state)
{
    (void)state;
    struct node node;
    char link[600];
    node_start(&node);
    node_begin(&node, 1);
    pid_t daemon = node_rank(&node, 1, 0, 0, "orted");
    node_wait_connected(&node, 1);
    assert_int_equal(node.beat.beat.launcher, TRM_LAUNCHER_RUNNING);
    kill(daemon, SIGSTOP);
    NODE_WAIT(&node, node.beat.beat.launcher == TRM_LAUNCHER_STOPPED);
    kill(daemon, SIGKILL);
    NODE_WAIT(&node, node.beat.beat.launcher == TRM_LAUNCHER_GONE);
    node_reap(&node, daemon);
    node_kill(&node, 1);
    snprintf(link, sizeof link, "%s/orted", node.root);
    unlink(link);
    node_finish(&node);
}

static void a_rank_that_goes_without_a_word_is_told_at_once(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 3, 0, "run");
    node_wait_connected(&node, 1);
    kill(rank, SIGKILL);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_GONE] == 1);
    assert_int_equal(node.gone.gone.rank, 3);
    assert_int_equal(node.gone.gone.pid, rank);
    assert_int_equal(node.gone.gone.attempt, 1);
    assert_int_equal(node.gone.gone.step, 118);
    assert_int_equal(node.gone.gone.phase, TRM_PHASE_BACKWARD);
    node_reap(&node, rank);
    node_kill(&node, 1);
    assert_int_equal(node.received[TRM_MESSAGE_GONE], 1);
    node_finish(&node);
}

static void a_rank_that_leaves_with_a_record_is_not_gone(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "done");
    assert_int_equal(WEXITSTATUS(node_reap(&node, rank)), 0);
    NODE_WAIT(&node, node.beat.beat.rank_count == 1 && !node.beat.beat.ranks[0].connected);
    const struct trm_rank_report *report = node_report(&node, 0);
    assert_int_equal(report->state, TRM_FLIGHT_EXITED);
    assert_int_equal(report->exit_status, TRM_OK);
    assert_string_equal(report->exit_text, "all steps are done");
    node_begin(&node, 2); /* nothing lives: no kill is needed */
    assert_int_equal(node.received[TRM_MESSAGE_GONE], 0);
    node_finish(&node);
}

static void a_request_to_stop_reaches_the_ranks(void **state)
{
    (void)state;
    struct node node;
    struct trm_message stop = {.type = TRM_MESSAGE_STOP};
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "run");
    node_wait_connected(&node, 1);
    stop.attempt = 1;
    node_send(&node, stop);
    assert_int_equal(WEXITSTATUS(node_reap(&node, rank)), TRM_EXIT_REQUEUE);
    NODE_WAIT(&node, node_report(&node, 0)->exit_code == TRM_EXIT_REQUEUE);
    assert_int_equal(node.received[TRM_MESSAGE_GONE], 0);
    node_finish(&node);
}

static void ranks_without_a_lease_are_killed_and_their_attempt_is_over(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t stuck = node_rank(&node, 1, 0, 0, "stuck"), rank = node_rank(&node, 1, 1, 1, "run");
    node_wait_connected(&node, 2);
    kill(stuck, SIGSTOP);
    node_shorten_lease(&node, 400);
    node.acknowledge = false;
    assert_int_equal(WTERMSIG(node_reap(&node, stuck)), SIGKILL);
    int status = node_reap(&node, rank); /* by itself or by the agent, whoever is first */
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 40);
    /* It connects anew while there is no word, and the proof goes with a connection. */
    NODE_WAIT(&node, node.dead == 1 || node.hello.hello.dead == 1 || node.beat.beat.dead == 1);
    pid_t late = node_rank(&node, 1, 1, 1, "run");
    assert_int_equal(WEXITSTATUS(node_reap(&node, late)), TRM_EXIT_UNAVAILABLE);
    node_shorten_lease(&node, 60000);
    node.acknowledge = true;
    int before = node.received[TRM_MESSAGE_HELLO];
    trm_link_close(node.link, false); /* too many beats are unanswered on it */
    node.link = NULL;
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HELLO] > before && node.hello.hello.dead == 1);
    node_begin(&node, 2);
    node_finish(&node);
}

static void an_agent_connects_again_and_its_ranks_go_on(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "run");
    node_wait_connected(&node, 1);
    trm_link_close(node.link, false);
    node.link = NULL;
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HELLO] == 2);
    assert_int_equal(node.hello.hello.attempt, 1);
    assert_int_equal(node.hello.hello.dead, 0);
    int64_t number = node.hello.hello.number;
    NODE_WAIT(&node, node.beat.beat.number > number + 2);
    node_wait_connected(&node, 1);
    assert_int_equal(waitpid(rank, NULL, WNOHANG), 0);
    node_kill(&node, 1);
    node_reap(&node, rank);
    node_finish(&node);
}

static void an_agent_without_a_supervisor_ends_after_its_linger(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "stuck");
    node_wait_connected(&node, 1);
    node_lose_supervisor(&node);
    node.agent->options.linger_ms = 300;
    node_wait_agent(&node);
    assert_non_null(strstr(node.agent_why, "no supervisor"));
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    node_finish(&node);
}

static void a_supervisor_ends_an_agent(void **state)
{
    (void)state;
    struct node node;
    struct trm_message quit = {.type = TRM_MESSAGE_QUIT};
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "stuck");
    node_wait_connected(&node, 1);
    node_send(&node, quit);
    node_wait_agent(&node);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_BYE] == 1 && !node.link);
    assert_int_equal(node.dead, 1);
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    node_finish(&node);
}

static void ranks_that_a_dead_agent_left_are_found_and_killed(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    pid_t orphan = node_rank(&node, 1, 0, 0, "lock");
    struct trm_agent_place place;
    /* Another agent's place is not to be had, but its lock can be looked at. */
    assert_int_equal(trm_agent_place_take(node.options.runtime, &place, NULL), TRM_ERR_MISMATCH);
    char path[TRM_PATH_BYTES];
    trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, node.directory);
    place.ranks_lock = open(path, O_RDWR | O_CLOEXEC);
    assert_true(place.ranks_lock >= 0);
    NODE_WAIT(&node, !trm_agent_place_is_free_of_ranks(&place));
    kill(orphan, SIGSTOP);
    node_kill(&node, 7);
    assert_int_equal(WTERMSIG(node_reap(&node, orphan)), SIGKILL);
    assert_true(trm_agent_place_is_free_of_ranks(&place));
    close(place.ranks_lock);
    assert_non_null(strstr(node.notes, "left from an earlier time"));
    node_finish(&node);
}

static void there_is_no_proof_while_anybody_holds_the_ranks_lock(void **state)
{
    (void)state;
    struct node node;
    struct trm_message kill = {.type = TRM_MESSAGE_KILL};
    char path[TRM_PATH_BYTES];
    node_start(&node);
    node_begin(&node, 1);
    trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, node.directory);
    int fd = open(path, O_RDWR | O_CLOEXEC); /* an agent does not kill itself, which this is too */
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
    kill.kill.attempt = 1;
    node_send(&node, kill);
    int64_t number = node.beat.beat.number;
    NODE_WAIT(&node, node.beat.beat.number > number + 10);
    assert_int_equal(node.dead, 0);
    assert_int_equal(node.beat.beat.dead, 0);
    close(fd);
    NODE_WAIT(&node, node.dead == 1);
    node_finish(&node);
}

static void memory_slots_outlive_their_rank(void **state)
{
    (void)state;
    struct node node;
    node_start(&node);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "slots");
    node_wait_connected(&node, 1);
    NODE_WAIT(&node, node.beat.beat.slots == 2);
    assert_true(node.beat.beat.slot_bytes >= 2 << 20);
    node_kill(&node, 1);
    node_reap(&node, rank);
    node_begin(&node, 2);
    assert_int_equal(node.beat.beat.slots, 2);
    node_finish(&node);
}

static void noise_at_the_ranks_socket_is_refused(void **state)
{
    (void)state;
    struct node node;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte;
    node_start(&node);
    node_begin(&node, 1);
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/" TRM_ATTACH_SOCKET, node.directory);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, "noise", 5, 0), 5);
    NODE_WAIT(&node, recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
    NODE_WAIT(&node, strstr(node.notes, "no message of this version"));
    close(fd);
    pid_t rank = node_rank(&node, 1, 0, 0, "run");
    node_wait_connected(&node, 1);
    node_kill(&node, 1);
    node_reap(&node, rank);
    node_finish(&node);
}

static void what_open_mpi_left_is_swept_and_what_is_not_of_this_host_stays(void **state)
{
    (void)state;
    struct node node;
    char host[256], own[TRM_PATH_BYTES], other[TRM_PATH_BYTES], memory[TRM_PATH_BYTES];
    char segment[TRM_PATH_BYTES];
    node_start(&node);
    node_begin(&node, 1);
    assert_int_equal(gethostname(host, sizeof host), 0);
    host[strcspn(host, ".")] = '\0';
    trm_file_path(own, NULL, "%s-mpi/ompi.%s.0/pid.7/1/0", node.options.runtime, host);
    trm_file_path(other, NULL, "%s-mpi/ompi.another%s.0", node.options.runtime, host);
    assert_int_equal(trm_file_make_directories(own, NULL), TRM_OK);
    assert_int_equal(trm_file_make_directories(other, NULL), TRM_OK);
    trm_agent_shared_memory_path(node.options.runtime, memory, NULL);
    trm_file_path(segment, NULL, "%s/vader_segment.%s.0.8e30001.0", memory, host);
    assert_int_equal(trm_file_write_all(segment, "x", 1, false, NULL), TRM_OK);
    node_begin(&node, 2);
    assert_false(trm_file_exists(segment));
    assert_true(trm_file_exists(memory));
    trm_file_path(own, NULL, "%s-mpi/ompi.%s.0", node.options.runtime, host);
    assert_false(trm_file_exists(own));
    assert_true(trm_file_exists(other));
    assert_int_equal(rmdir(other), 0);
    node_finish(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_says_hello_and_its_beats_are_acknowledged),
        cmocka_unit_test(ranks_of_the_attempt_are_admitted_and_reported),
        cmocka_unit_test(ranks_are_told_the_failure_domain_of_their_node),
        cmocka_unit_test(ranks_that_do_not_belong_are_refused),
        cmocka_unit_test(an_attempt_that_is_over_cannot_begin_again),
        cmocka_unit_test(a_stopped_rank_and_a_stopped_orted_are_killed_and_proved_dead),
        cmocka_unit_test(an_orted_whose_ranks_never_came_is_found_by_its_arguments),
        cmocka_unit_test(the_launchers_state_is_told),
        cmocka_unit_test(a_rank_that_goes_without_a_word_is_told_at_once),
        cmocka_unit_test(a_rank_that_leaves_with_a_record_is_not_gone),
        cmocka_unit_test(a_request_to_stop_reaches_the_ranks),
        cmocka_unit_test(ranks_without_a_lease_are_killed_and_their_attempt_is_over),
        cmocka_unit_test(an_agent_connects_again_and_its_ranks_go_on),
        cmocka_unit_test(an_agent_without_a_supervisor_ends_after_its_linger),
        cmocka_unit_test(a_supervisor_ends_an_agent),
        cmocka_unit_test(ranks_that_a_dead_agent_left_are_found_and_killed),
        cmocka_unit_test(there_is_no_proof_while_anybody_holds_the_ranks_lock),
        cmocka_unit_test(memory_slots_outlive_their_rank),
        cmocka_unit_test(noise_at_the_ranks_socket_is_refused),
        cmocka_unit_test(what_open_mpi_left_is_swept_and_what_is_not_of_this_host_stays),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
