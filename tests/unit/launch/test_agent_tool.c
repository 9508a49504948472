/* `trireme agent` as `trireme run` starts it: real processes, in the background. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "launch/process.h"
#include "node.h"

/* Runs `trireme agent` with a line on its standard input; what it says on standard error goes to
 * `words`. Returns its exit code. */
static int start_with(struct node *node, const char *line, char *words, size_t bytes)
{
    char program[600];
    int in[2], err[2];
    assert_non_null(getenv("TRIREME_BIN"));
    snprintf(program, sizeof program, "%s/trireme", getenv("TRIREME_BIN"));
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(err[1], 2);
        execl(program, "trireme", "agent", NULL);
        _exit(127);
    }
    close(in[0]);
    close(err[1]);
    assert_int_equal(write(in[1], line, strlen(line)), (ssize_t)strlen(line));
    close(in[1]);
    size_t length = 0;
    for (ssize_t got; (got = read(err[0], words + length, bytes - 1 - length)) > 0;)
        length += (size_t)got; /* its end shows that the agent holds on to nothing of ours */
    words[length] = '\0';
    close(err[0]);
    return WEXITSTATUS(node_reap(node, pid));
}

static void start(struct node *node)
{
    char *line = NULL, words[4096];
    node->options.foreground = false;
    assert_int_equal(trm_agent_options_format(&node->options, &line, NULL), TRM_OK);
    int code = start_with(node, line, words, sizeof words);
    if (code != 0)
        fail_msg("status %d: %s", code, words);
    free(line);
}

static pid_t wait_hello(struct node *node, int count)
{
    NODE_WAIT(node, node->received[TRM_MESSAGE_HELLO] == count);
    return (pid_t)node->hello.hello.pid;
}

static void an_agent_serves_in_the_background_until_a_signal(void **state)
{
    (void)state;
    struct node node;
    char path[TRM_PATH_BYTES];
    node_start_world(&node);
    start(&node);
    pid_t agent = wait_hello(&node, 1);
    trm_file_path(path, NULL, "%s/agent.log", node.directory);
    assert_true(trm_file_exists(path));
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "stuck");
    node_wait_connected(&node, 1);
    kill(agent, SIGTERM);
    NODE_WAIT(&node, node.received[TRM_MESSAGE_BYE] == 1);
    assert_false(trm_file_exists(node.directory)); /* whoever heard it finds nothing any more */
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    assert_int_equal(WEXITSTATUS(node_reap(&node, agent)), 0);
    node_finish(&node);
}

static void a_second_start_hands_over_to_the_agent_that_lives(void **state)
{
    (void)state;
    struct node node;
    node_start_world(&node);
    start(&node);
    pid_t agent = wait_hello(&node, 1);
    node_begin(&node, 1);
    pid_t rank = node_rank(&node, 1, 0, 0, "slots");
    node_wait_connected(&node, 1);
    NODE_WAIT(&node, node.beat.beat.slots == 2);

    /* Another supervisor, with another token, at another port. */
    trm_link_close(node.link, false);
    node.link = NULL;
    trm_link_server_close(node.server);
    node.options.token.bytes[0] ^= 1;
    node.options.addresses[0].port = 0;
    node_start_supervisor(&node);
    start(&node);
    assert_int_equal(wait_hello(&node, 2), agent);
    assert_int_equal(node.hello.hello.attempt, 1);
    assert_int_equal(node.hello.hello.slots, 2);
    /* The first supervisor relies on its ranks to end with its lease, which the second one
     * prolongs: so they end at once. Their memory stays. */
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    NODE_WAIT(&node, node.beat.beat.dead == 1);
    assert_int_equal(node.beat.beat.slots, 2);

    /* The same supervisor, under another name for this machine. */
    char *line = NULL, words[4096], name[sizeof node.options.node];
    memcpy(name, node.options.node, sizeof name);
    snprintf(node.options.node, sizeof node.options.node, "alias");
    assert_int_equal(trm_agent_options_format(&node.options, &line, NULL), TRM_OK);
    assert_int_equal(start_with(&node, line, words, sizeof words), TRM_EXIT_CONFIG);
    assert_non_null(strstr(words, "name it once in the host file"));
    free(line);
    memcpy(node.options.node, name, sizeof name);

    snprintf(node.options.run_id, sizeof node.options.run_id, "other");
    assert_int_equal(trm_agent_options_format(&node.options, &line, NULL), TRM_OK);
    assert_int_equal(start_with(&node, line, words, sizeof words), TRM_EXIT_CONFIG);
    assert_non_null(strstr(words, "it serves the run \"run\""));
    free(line);
    kill(agent, SIGTERM);
    node_reap(&node, agent);
    node_finish(&node);
}

static void an_agent_that_does_not_answer_is_replaced(void **state)
{
    (void)state;
    struct node node;
    node_start_world(&node);
    start(&node);
    pid_t stopped = wait_hello(&node, 1);
    kill(stopped, SIGSTOP);
    start(&node);
    assert_int_equal(WTERMSIG(node_reap(&node, stopped)), SIGKILL);
    pid_t agent = wait_hello(&node, 2);
    assert_int_not_equal(agent, stopped);
    kill(agent, SIGTERM);
    node_reap(&node, agent);
    node_finish(&node);
}

static void what_a_killed_agent_left_is_taken_over_and_ended(void **state)
{
    (void)state;
    struct node node;
    node_start_world(&node);
    start(&node);
    pid_t killed = wait_hello(&node, 1);
    node_begin(&node, 4);
    pid_t rank = node_rank(&node, 4, 0, 0, "stuck");
    node_wait_connected(&node, 1);
    kill(rank, SIGSTOP);
    kill(killed, SIGKILL);
    node_reap(&node, killed);
    start(&node);
    pid_t agent = wait_hello(&node, 2);
    assert_int_equal(node.hello.hello.attempt, 0);
    assert_int_equal(WTERMSIG(node_reap(&node, rank)), SIGKILL);
    node_kill(&node, 4);
    node_begin(&node, 5);
    kill(agent, SIGTERM);
    node_reap(&node, agent);
    node_finish(&node);
}

static void bad_options_are_refused_in_a_sentence(void **state)
{
    (void)state;
    static const char *const lines[] = {"", "\n", "{}\n", "not json\n", "{\"token\":3}\n"};
    struct node node;
    char words[4096];
    node_start_world(&node);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(start_with(&node, lines[i], words, sizeof words), TRM_EXIT_CONFIG);
        assert_non_null(strstr(words, "trireme agent: the agent's options: "));
        assert_int_equal(strcspn(words, "\n"), strlen(words) - 1);
    }
    node_finish(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_serves_in_the_background_until_a_signal),
        cmocka_unit_test(a_second_start_hands_over_to_the_agent_that_lives),
        cmocka_unit_test(an_agent_that_does_not_answer_is_replaced),
        cmocka_unit_test(what_a_killed_agent_left_is_taken_over_and_ended),
        cmocka_unit_test(bad_options_are_refused_in_a_sentence),
    };
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* agents in the background become children of this */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
