/* What an agent says of its node's memory before ranks are started there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node.h"

static void a_node_without_the_memory_that_ranks_need_says_so(void **state)
{
    (void)state;
    struct node node;
    char *arguments[] = {(char[]){"true"}};
    node_start(&node);
    struct trm_message check = {.type = TRM_MESSAGE_CHECK};
    check.check = (struct trm_message_check){.id = 1,
                                             .timeout_ms = 20000,
                                             .memory_bytes = INT64_C(1) << 50,
                                             .argument_count = 1,
                                             .arguments = arguments};
    node_send(&node, check);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HEALTH] == 1);
    assert_false(node.health.health.ok);
    assert_non_null(strstr(node.health.health.reason, "PiB of memory at least, and "));
    check.check.id = 2;
    check.check.memory_bytes = 1;
    node_send(&node, check);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HEALTH] == 2);
    assert_true(node.health.health.ok);
    /* Ranks that will be gone hold what is wanted. */
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "run");
    node_wait_connected(&node, 1);
    check.check.id = 3;
    check.check.memory_bytes = INT64_C(1) << 50;
    node_send(&node, check);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HEALTH] == 3);
    assert_true(node.health.health.ok);
    node_kill(&node, 1);
    node_reap(&node, rank);
    node_finish(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_without_the_memory_that_ranks_need_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
