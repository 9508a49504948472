/* An agent whose connection is of no use, or breaks at a bad moment. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "collectives/attach.h"
#include "node.h"

/* To the supervisor a connection that closes is a node that is lost, so the old one stays until
 * there is another, whose coming the supervisor sees first. */
static void a_silent_connection_is_kept_until_a_newer_one_is_open(void **state)
{
    (void)state;
    struct node node;
    node_start_world(&node);
    node.options.lease_ms = 1000;
    node_start_agent(&node);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HELLO] == 1);
    node.acknowledge = false;
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HELLO] == 3);
    assert_int_equal(node.closed, 0);
    node.acknowledge = true;
    int64_t number = node.beat.beat.number;
    NODE_WAIT(&node, node.beat.beat.number > number + 2);
    assert_int_equal(node.closed, 0);
    node_finish(&node);
}

static void a_begin_that_is_said_again_before_it_is_done_is_answered_once(void **state)
{
    (void)state;
    struct node node;
    struct trm_message begin = {.type = TRM_MESSAGE_BEGIN};
    char path[TRM_PATH_BYTES];
    node_start(&node);
    trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, node.directory);
    int fd = open(path, O_RDWR | O_CLOEXEC); /* which holds up the proof that nothing lives */
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
    begin.begin.attempt = 1;
    begin.begin.capacity = 2;
    node_send(&node, begin);
    node_send(&node, begin);
    int64_t number = node.beat.beat.number;
    NODE_WAIT(&node, node.beat.beat.number > number + 10);
    assert_int_equal(node.received[TRM_MESSAGE_BEGUN], 0);
    close(fd);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_BEGUN] == 1);
    assert_true(node.begun.begun.ok);
    node_kill(&node, 1);
    node_finish(&node);
}

/* Its starter was held up between two calls, and tries again when it finds nobody. */
static void a_hand_over_without_its_line_is_hung_up_on_and_not_refused(void **state)
{
    (void)state;
    struct node node;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char byte;
    node_start(&node);
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/handover.sock", node.directory);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    NODE_WAIT(&node, strstr(node.notes, "a hand-over came without its line"));
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    close(fd);
    node_finish(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_connection_is_kept_until_a_newer_one_is_open),
        cmocka_unit_test(a_begin_that_is_said_again_before_it_is_done_is_answered_once),
        cmocka_unit_test(a_hand_over_without_its_line_is_hung_up_on_and_not_refused),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
