#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/slurm/slurm_env.h"

/* "a:2 b:1": what a list and its tasks give, or the error's words. */
static const char *expand(const char *nodes, const char *tasks)
{
    static char text[4096];
    struct trm_host *hosts;
    struct trm_error err;
    int count;
    size_t length = 0;

    if (trm_slurm_hosts(nodes, tasks, &hosts, &count, &err) != TRM_OK) {
        assert_int_equal(err.status, TRM_ERR_CONFIG);
        snprintf(text, sizeof text, "%s", err.text);
        return text;
    }
    for (int i = 0; i < count; i++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s:%d", i ? " " : "",
                                   hosts[i].name, hosts[i].slots);
        assert_string_equal(hosts[i].domain, hosts[i].name);
    }
    free(hosts);
    return text;
}

static void slurm_expands_compressed_lists(void **state)
{
    static const struct {
        const char *nodes, *tasks, *expected;
    } cases[] = {
        {"node1", "4", "node1:4"},
        {"a,b", "1(x2)", "a:1 b:1"},
        {"node[1-3,7]", "2(x3),1", "node1:2 node2:2 node3:2 node7:1"},
        {"gpu-[008-011]", "1(x4)", "gpu-008:1 gpu-009:1 gpu-010:1 gpu-011:1"},
        {"n[9-10],m[01,3]x,z", "1,2,3,4,5", "n9:1 n10:2 m01x:3 m3x:4 z:5"},
        {"r[1-2]n[1-2]", "8(x4)", "r1n1:8 r1n2:8 r2n1:8 r2n2:8"},
        {"n[5]", "1", "n5:1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(expand(cases[i].nodes, cases[i].tasks), cases[i].expected);
}

static void slurm_refuses_lists_that_are_not_understood(void **state)
{
    static const struct {
        const char *nodes, *tasks, *words;
    } cases[] = {
        {"", "1", "not the name of a host"},
        {"a,", "1(x2)", "not the name of a host"},
        {"a,,b", "1(x3)", "not the name of a host"},
        {"-a", "1", "not the name of a host"},
        {"a b", "1", "not the name of a host"},
        {"a]", "1", "not the name of a host"},
        {"n[1-3", "1(x3)", "not closed"},
        {"n[]", "1", "numbers and ranges"},
        {"n[1-]", "1", "numbers and ranges"},
        {"n[3-1]", "1(x3)", "numbers and ranges"},
        {"n[a-c]", "1(x3)", "numbers and ranges"},
        {"n[1,]", "1(x2)", "numbers and ranges"},
        {"n[[1]]", "1", "numbers and ranges"},
        {"n[1-99999999999]", "1", "numbers and ranges"},
        {"n[0-999999999]", "1", "more than 65536 nodes"},
        {"a[1]b[1]c[1]d[1]e[1]", "1", "too many brackets"},
        {"n[1-3]", "1(x2)", "not for the 3 nodes"},
        {"n[1-3]", "1(x4)", "not for the 3 nodes"},
        {"n[1-3]", "1(x3),1", "not for the 3 nodes"},
        {"n[1-3]", "", "not understood"},
        {"n[1-3]", "0(x3)", "not understood"},
        {"n[1-3]", "1(3)", "not understood"},
        {"n[1-3]", "1(x3", "not understood"},
        {"n[1-3]", "1(x3) ", "not understood"},
        {"n[1-3]", "2000(x3)", "not understood"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strstr(expand(cases[i].nodes, cases[i].tasks), cases[i].words))
            fail_msg("\"%s\" \"%s\": %s", cases[i].nodes, cases[i].tasks,
                     expand(cases[i].nodes, cases[i].tasks));
}

static void slurm_refuses_names_that_are_too_long(void **state)
{
    char list[300];

    (void)state;
    memset(list, 'n', sizeof list);
    snprintf(list + 252, sizeof list - 252, "[1-3]");
    assert_non_null(strstr(expand(list, "1(x3)"), "n1:1"));
    memset(list, 'n', sizeof list);
    snprintf(list + 253, sizeof list - 253, "[100-101]");
    assert_non_null(strstr(expand(list, "1(x2)"), "too long"));
    memset(list, 'n', sizeof list);
    list[sizeof list - 1] = '\0';
    assert_non_null(strstr(expand(list, "1"), "too long"));
}

static void slurm_job_is_read_from_the_environment(void **state)
{
    struct trm_slurm_job job;
    struct trm_error err;

    (void)state;
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_JOB_NODELIST");
    unsetenv("SLURM_ARRAY_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
    assert_false(trm_slurm_is_inside());
    setenv("SLURM_JOB_ID", "17", 1);
    setenv("SLURM_JOB_NODELIST", "node[1-2]", 1);
    unsetenv("SLURM_TASKS_PER_NODE");
    assert_true(trm_slurm_is_inside());
    assert_int_equal(trm_slurm_job_read(&job, &err), TRM_ERR_CONFIG);
    assert_non_null(strstr(err.text, "SLURM_TASKS_PER_NODE is not set"));

    setenv("SLURM_TASKS_PER_NODE", "2(x2)", 1);
    assert_int_equal(trm_slurm_job_read(&job, &err), TRM_OK);
    assert_string_equal(job.id, "17");
    assert_string_equal(job.chain, "17");
    assert_int_equal(job.restarts, 0);
    assert_int_equal(job.host_count, 2);
    assert_string_equal(job.hosts[1].name, "node2");
    trm_slurm_job_destroy(&job);

    setenv("SLURM_ARRAY_JOB_ID", "15", 1);
    setenv("SLURM_RESTART_COUNT", "3", 1);
    assert_int_equal(trm_slurm_job_read(&job, &err), TRM_OK);
    assert_string_equal(job.id, "17");
    assert_string_equal(job.chain, "15");
    assert_int_equal(job.restarts, 3);
    trm_slurm_job_destroy(&job);
    trm_slurm_job_destroy(NULL);

    setenv("SLURM_JOB_ID", "17; rm -rf /", 1);
    assert_int_equal(trm_slurm_job_read(&job, &err), TRM_ERR_CONFIG);
    assert_non_null(strstr(err.text, "not the number of a job"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slurm_expands_compressed_lists),
        cmocka_unit_test(slurm_refuses_lists_that_are_not_understood),
        cmocka_unit_test(slurm_refuses_names_that_are_too_long),
        cmocka_unit_test(slurm_job_is_read_from_the_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
