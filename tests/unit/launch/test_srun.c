#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/job/srun.h"

/* The command line for `ranks` ranks on the first and the third of three nodes. */
static const char *words_for(int ranks)
{
    static char text[8192];
    char *extra[] = {"--cpus-per-task=4"}, *arguments[] = {"gpt2.yaml", "--tp", "2"};
    struct trm_host hosts[3] = {
        {"node1", "node1", 4}, {"node2", "node2", 4}, {"node3", "node3", 4}};
    struct trm_mpirun_settings settings = {.runtime = "/tmp/trireme-1234",
                                           .attempt = 7,
                                           .extra = extra,
                                           .extra_count = 1,
                                           .trainer = "/opt/bin/trireme-train",
                                           .trainer_arguments = arguments,
                                           .trainer_argument_count = 3};
    struct trm_words words = {0};
    struct trm_nodes nodes;
    struct trm_error err;
    size_t length = 0;

    assert_int_equal(trm_nodes_create(hosts, 3, &nodes, &err), TRM_OK);
    nodes.items[0].state = nodes.items[2].state = TRM_NODE_READY;
    nodes.items[0].healthy = nodes.items[2].healthy = true;
    trm_nodes_assign(&nodes, ranks);
    settings.nodes = &nodes;
    trm_srun_words(&settings, &words);
    assert_false(words.failed);
    for (int i = 0; i < words.count; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i ? " " : "",
                                   words.items[i]);
    trm_words_destroy(&words);
    trm_nodes_destroy(&nodes);
    return text;
}

static void srun_is_told_the_nodes_that_are_left(void **state)
{
    const char *text = words_for(8);

    (void)state;
    assert_ptr_equal(strstr(text, "env -u SLURM_JOB_NODELIST SLURM_PMIX_FENCE=ring srun --quiet "
                                  "--mpi=pmix --overlap --no-kill "),
                     text);
    assert_non_null(strstr(text, " --nodes=2 --ntasks=8 --ntasks-per-node=4 "
                                 "--nodelist=node1,node3 --cpus-per-task=4 env "
                                 "TRIREME_RUNTIME=/tmp/trireme-1234 TRIREME_ATTEMPT=7 "));
    assert_non_null(strstr(text, " /opt/bin/trireme-train gpt2.yaml --tp 2"));
}

static void uneven_ranks_are_told_one_by_one(void **state)
{
    (void)state;
    assert_non_null(strstr(words_for(6), " --nodes=2 --ntasks=6 --distribution=arbitrary "
                                         "--nodelist=node1,node1,node1,node1,node3,node3 "));
}

static void words_of_srun_name_rank_and_signal(void **state)
{
    int rank, number;

    (void)state;
    assert_true(trm_srun_parse_signal("srun: error: node2: task 3: Killed", &rank, &number));
    assert_int_equal(rank, 3);
    assert_int_equal(number, 9);
    assert_true(trm_srun_parse_signal("srun: error: node2: task 12: Segmentation fault (core "
                                      "dumped)",
                                      &rank, &number));
    assert_int_equal(rank, 12);
    assert_int_equal(number, 11);
    assert_false(trm_srun_parse_signal("srun: error: node2: task 3: Exited with exit code 75",
                                       &rank, &number));
    assert_false(trm_srun_parse_signal("srun: error: node2: tasks 1-3: Killed", &rank, &number));
    assert_false(trm_srun_parse_signal("task 3: Killed", &rank, &number));
    assert_false(trm_srun_parse_signal("", &rank, &number));
}

static void words_of_srun_tell_that_ranks_ended(void **state)
{
    struct trm_srun_end end;

    (void)state;
    assert_true(trm_srun_parse_end("srun: error: node2: task 3: Terminated", &end));
    assert_int_equal(end.rank, 3);
    assert_int_equal(end.signal, 15);
    assert_true(
        trm_srun_parse_end("srun: error: node1: tasks 4-7,9: Exited with exit code 2", &end));
    assert_int_equal(end.rank, 4);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_code, 2);
    assert_true(trm_srun_parse_end("srun: error: nodes node[1-2]: tasks 0,3: Killed", &end));
    assert_int_equal(end.rank, 0);
    assert_int_equal(end.signal, 9);
    assert_false(trm_srun_parse_end("srun: error: node2: task 3 is odd", &end));
    assert_false(trm_srun_parse_end("srun: error: node2: task 3: Launched", &end));
    assert_false(trm_srun_parse_end("srun: error: node2: tasks", &end));
    assert_false(trm_srun_parse_end("node2: task 3: Killed", &end));
    assert_false(trm_srun_parse_end("", &end));
}

static void the_end_of_srun_is_put_into_words(void **state)
{
    char text[128];

    (void)state;
    assert_non_null(strstr(trm_srun_describe(0, 9, text, sizeof text), "srun was killed"));
    assert_non_null(strstr(trm_srun_describe(139, 0, text, sizeof text), "died of signal 11"));
    assert_string_equal(trm_srun_describe(1, 0, text, sizeof text), "srun ended with status 1");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(srun_is_told_the_nodes_that_are_left),
        cmocka_unit_test(uneven_ranks_are_told_one_by_one),
        cmocka_unit_test(words_of_srun_name_rank_and_signal),
        cmocka_unit_test(words_of_srun_tell_that_ranks_ended),
        cmocka_unit_test(the_end_of_srun_is_put_into_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
