/* An agent whose connection is of no use. */
#include <signal.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_connection_is_kept_until_a_newer_one_is_open),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
