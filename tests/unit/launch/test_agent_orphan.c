/* An agent whose supervisor is lost has somebody else told; one that is asked to stop tells it. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node.h"

/* A node whose orphan command is `command`, with $mark the path `mark`. */
static void start_with_command(struct node *node, const char *command, char mark[TRM_PATH_BYTES])
{
    node_start(node);
    trm_agent_leave(node->agent, "an orphan command");
    node_wait_agent(node);
    snprintf(mark, TRM_PATH_BYTES, "%s/mark", node->root);
    snprintf(node->options.orphan_command, sizeof node->options.orphan_command, "mark='%s'; %s",
             mark, command);
    node_start_agent(node);
    NODE_WAIT(node, node->received[TRM_MESSAGE_HELLO] == 2);
    NODE_WAIT(node, node->beat.beat.number > node->hello.hello.number + 1);
}

/* Leases are short from then on; before, a slow machine would lapse one. */
static void lose_supervisor(struct node *node)
{
    node_lose_supervisor(node);
    node_shorten_lease(node, 200);
}

/* Leases are long again. */
static void bring_supervisor_back(struct node *node)
{
    int before = node->received[TRM_MESSAGE_HELLO];

    node_shorten_lease(node, 60000);
    node_start_supervisor(node);
    NODE_WAIT(node, node->received[TRM_MESSAGE_HELLO] > before);
}

/* Nobody makes the mark again once the agent and its command have ended. */
static void finish_without(struct node *node, const char *mark)
{
    trm_agent_leave(node->agent, "the test ends");
    node_wait_agent(node);
    NODE_WAIT(node, !node_has_children());
    unlink(mark);
    node_finish(node);
}

static void the_orphan_command_runs_once_the_supervisor_is_lost(void **state)
{
    struct node node;
    char mark[TRM_PATH_BYTES];

    (void)state;
    start_with_command(&node, "echo orphan >\"$mark\"", mark);
    assert_int_not_equal(access(mark, F_OK), 0);
    lose_supervisor(&node);
    node_wait_agent(&node); /* it has nothing to wait for any more */
    assert_int_equal(unlink(mark), 0);
    node_finish(&node);
}

static void an_agent_whose_orphan_command_fails_stays(void **state)
{
    struct node node;
    char mark[TRM_PATH_BYTES];

    (void)state;
    start_with_command(&node, "echo orphan >\"$mark\"; exit 1", mark);
    lose_supervisor(&node);
    NODE_WAIT(&node, access(mark, F_OK) == 0);
    NODE_WAIT(&node, !node_has_children());
    bring_supervisor_back(&node);
    finish_without(&node, mark);
}

static void the_orphan_command_ends_when_the_supervisor_is_back(void **state)
{
    struct node node;
    char mark[TRM_PATH_BYTES];

    (void)state;
    start_with_command(&node, "echo begun >\"$mark\"; sleep 600; echo done >\"$mark\"", mark);
    lose_supervisor(&node);
    NODE_WAIT(&node, access(mark, F_OK) == 0);
    bring_supervisor_back(&node);
    NODE_WAIT(&node, !node_has_children());
    finish_without(&node, mark);
}

static void an_agent_that_never_had_a_supervisor_is_no_orphan(void **state)
{
    struct node node;
    char mark[TRM_PATH_BYTES];

    (void)state;
    node_start(&node);
    trm_agent_leave(node.agent, "an orphan command");
    node_wait_agent(&node);
    node_lose_supervisor(&node);
    snprintf(mark, sizeof mark, "%s/mark", node.root);
    snprintf(node.options.orphan_command, sizeof node.options.orphan_command, "echo >'%s'", mark);
    node.options.lease_ms = 100;
    node.options.linger_ms = 1000; /* several times what the command would wait for */
    node_start_agent(&node);
    node_wait_agent(&node);
    assert_int_not_equal(access(mark, F_OK), 0);
    node_finish(&node);
}

static void a_request_to_stop_is_passed_on_to_the_supervisor(void **state)
{
    struct node node;

    (void)state;
    node_start(&node);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_HELLO] == 1);
    NODE_WAIT(&node, trm_agent_ask_stop(node.agent, SIGTERM));
    NODE_WAIT(&node, node.received[TRM_MESSAGE_ASKED] == 1);
    node_lose_supervisor(&node);
    NODE_WAIT(&node, !trm_agent_ask_stop(node.agent, SIGTERM));
    node_finish(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_orphan_command_runs_once_the_supervisor_is_lost),
        cmocka_unit_test(an_agent_whose_orphan_command_fails_stays),
        cmocka_unit_test(the_orphan_command_ends_when_the_supervisor_is_back),
        cmocka_unit_test(an_agent_that_never_had_a_supervisor_is_no_orphan),
        cmocka_unit_test(a_request_to_stop_is_passed_on_to_the_supervisor),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
