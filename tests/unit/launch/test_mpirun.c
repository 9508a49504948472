#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/job/mpirun.h"

static char *join(const struct trm_words *words)
{
    static char text[8192];
    size_t length = 0;

    assert_false(words->failed);
    for (int i = 0; i < words->count; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i ? " " : "",
                                   words->items[i]);
    assert_null(words->items[words->count]);
    return text;
}

static void mpirun_is_told_ranks_per_node_in_order_and_no_secret(void **state)
{
    char *extra[] = {"--mca", "pml", "ob1"}, *arguments[] = {"gpt2.yaml", "--tp", "2"};
    struct trm_host hosts[3] = {
        {"node1", "node1", 4}, {"node2", "node2", 4}, {"node3", "node3", 4}};
    struct trm_mpirun_settings settings = {.remote_shell = "/opt/rsh",
                                           .runtime = "/tmp/trireme-1234",
                                           .attempt = 7,
                                           .extra = extra,
                                           .extra_count = 3,
                                           .trainer = "/opt/bin/trireme-train",
                                           .trainer_arguments = arguments,
                                           .trainer_argument_count = 3};
    struct trm_words words = {0};
    struct trm_nodes nodes;
    struct trm_error err;
    char *text;

    (void)state;
    assert_int_equal(trm_nodes_create(hosts, 3, &nodes, &err), TRM_OK);
    nodes.items[0].state = nodes.items[2].state = TRM_NODE_READY;
    nodes.items[0].healthy = nodes.items[2].healthy = true;
    trm_nodes_assign(&nodes, 6);
    settings.nodes = &nodes;
    trm_mpirun_words(&settings, &words);
    text = join(&words);
    assert_ptr_equal(strstr(text, "mpirun -np 6 -H node1:4,node3:2 "), text);
    assert_non_null(strstr(text, " --mca plm_rsh_agent /opt/rsh "));
    assert_non_null(strstr(text, " --mca odls_base_sigkill_timeout 0 "));
    assert_non_null(strstr(text, " --mca pml ob1 -x TRIREME_RUNTIME=/tmp/trireme-1234 "
                                 "-x TRIREME_ATTEMPT=7 /opt/bin/trireme-train gpt2.yaml --tp 2"));
    assert_null(strstr(text, "token"));
    trm_words_destroy(&words);
    trm_nodes_destroy(&nodes);
}

static void words_of_mpirun_name_rank_and_signal(void **state)
{
    int rank, number;

    (void)state;
    assert_true(trm_mpirun_parse_signal("mpirun noticed that process rank 3 with PID 91 on node "
                                        "node2 exited on signal 11 (Segmentation fault).",
                                        &rank, &number));
    assert_int_equal(rank, 3);
    assert_int_equal(number, 11);
    assert_false(trm_mpirun_parse_signal("process rank 3 is well", &rank, &number));
    assert_false(trm_mpirun_parse_signal("exited on signal 9", &rank, &number));
    assert_false(trm_mpirun_parse_signal("", &rank, &number));
}

static void the_end_of_mpirun_is_put_into_words(void **state)
{
    char text[128];

    (void)state;
    assert_string_equal(trm_mpirun_describe(0, 9, text, sizeof text),
                        "mpirun was killed (signal 9, Killed)");
    assert_string_equal(trm_mpirun_describe(205, 0, text, sizeof text),
                        "mpirun lost a node's daemon (status 205)");
    assert_string_equal(trm_mpirun_describe(139, 0, text, sizeof text),
                        "mpirun says that a rank died of signal 11 (Segmentation fault)");
    assert_string_equal(trm_mpirun_describe(1, 0, text, sizeof text), "mpirun ended with status 1");
}

static void only_a_long_line_of_dashes_is_a_rule(void **state)
{
    static const char rule[] =
        "--------------------------------------------------------------------------";

    (void)state;
    assert_true(trm_mpirun_is_rule(rule));
    assert_false(trm_mpirun_is_rule("-----"));
    assert_false(trm_mpirun_is_rule("----- profile of rank 3 -----"));
    assert_false(trm_mpirun_is_rule(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_long_line_of_dashes_is_a_rule),
        cmocka_unit_test(mpirun_is_told_ranks_per_node_in_order_and_no_secret),
        cmocka_unit_test(words_of_mpirun_name_rank_and_signal),
        cmocka_unit_test(the_end_of_mpirun_is_put_into_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
