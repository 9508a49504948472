#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "launch/hostfile.h"

static char path[] = "/tmp/trireme-hostfile-XXXXXX";

static enum trm_status read_text(const char *text, struct trm_host **hosts, int *count,
                                 struct trm_error *err)
{
    struct trm_error ignored;

    assert_int_equal(trm_file_write_all(path, text, strlen(text), false, &ignored), TRM_OK);
    return trm_hostfile_read(path, hosts, count, err);
}

static void hostfile_reads_names_slots_and_domains(void **state)
{
    static const char text[] = "# a cluster\n"
                               "node1 slots=4 domain=rack1\n"
                               "\n"
                               "\tnode2:2   # two\n"
                               "node-3.example_net max_slots=9\n"
                               "node1 slots=1";
    struct trm_host *hosts;
    struct trm_error err;
    int count;

    (void)state;
    assert_int_equal(read_text(text, &hosts, &count, &err), TRM_OK);
    assert_int_equal(count, 3);
    assert_string_equal(hosts[0].name, "node1");
    assert_string_equal(hosts[0].domain, "rack1");
    assert_int_equal(hosts[0].slots, 5);
    assert_string_equal(hosts[1].name, "node2");
    assert_string_equal(hosts[1].domain, "node2");
    assert_int_equal(hosts[1].slots, 2);
    assert_string_equal(hosts[2].name, "node-3.example_net");
    assert_int_equal(hosts[2].slots, 1);
    free(hosts);
}

static void hostfile_refuses_what_it_does_not_understand(void **state)
{
    static const struct {
        const char *text, *place, *words;
    } cases[] = {
        {"", "", "names no host"},
        {"# nobody\n", "", "names no host"},
        {"node1\n-node2\n", ":2", "not the name of a host"},
        {"node1 slots=0\n", ":1", "not a number of slots"},
        {"node1 slots=\n", ":1", "not a number of slots"},
        {"node1 slots=4x\n", ":1", "not a number of slots"},
        {"node1:99999\n", ":1", "not a number of slots"},
        {"node1 cores=4\n", ":1", "is not understood"},
        {"node1 domain=\n", ":1", "is not understood"},
        {"no/de\n", ":1", "not the name of a host"},
        {"node1 slots=1024\nnode1\n", ":2", "1025 slots"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_host *hosts;
        struct trm_error err;
        int count;
        assert_int_equal(read_text(cases[i].text, &hosts, &count, &err), TRM_ERR_CONFIG);
        assert_int_equal(err.status, TRM_ERR_CONFIG);
        assert_non_null(strstr(err.text, path));
        assert_non_null(strstr(err.text, cases[i].place));
        assert_non_null(strstr(err.text, cases[i].words));
    }
}

static void a_name_is_taken_whole_or_refused(void **state)
{
    char text[3 * TRM_HOST_NAME_BYTES] = "", name[TRM_HOST_NAME_BYTES + 1] = "";
    struct trm_host *hosts;
    struct trm_error err;
    int count;

    (void)state;
    memset(name, 'n', TRM_HOST_NAME_BYTES - 1);
    snprintf(text, sizeof text, "%s domain=%s\n", name, name);
    assert_int_equal(read_text(text, &hosts, &count, &err), TRM_OK);
    assert_string_equal(hosts[0].name, name);
    assert_string_equal(hosts[0].domain, name);
    free(hosts);
    name[TRM_HOST_NAME_BYTES - 1] = 'n';
    snprintf(text, sizeof text, "%s\n", name);
    assert_int_equal(read_text(text, &hosts, &count, &err), TRM_ERR_CONFIG);
    assert_non_null(strstr(err.text, "up to 254"));
    snprintf(text, sizeof text, "n1 domain=%s\n", name);
    assert_int_equal(read_text(text, &hosts, &count, &err), TRM_ERR_CONFIG);
}

static void a_missing_host_file_is_an_error_of_the_configuration(void **state)
{
    struct trm_host *hosts;
    struct trm_error err;
    int count;

    (void)state;
    assert_int_equal(trm_hostfile_read("/nonexistent/hosts", &hosts, &count, &err), TRM_ERR_CONFIG);
    assert_non_null(strstr(err.text, "/nonexistent/hosts"));
}

static void a_missing_exclude_file_names_nobody(void **state)
{
    struct trm_host *names;
    struct trm_error err;
    int count;

    (void)state;
    assert_int_equal(trm_hostfile_read_names("/nonexistent/hosts", &names, &count, &err), TRM_OK);
    assert_int_equal(count, 0);
    free(names);
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostfile_reads_names_slots_and_domains),
        cmocka_unit_test(hostfile_refuses_what_it_does_not_understand),
        cmocka_unit_test(a_name_is_taken_whole_or_refused),
        cmocka_unit_test(a_missing_host_file_is_an_error_of_the_configuration),
        cmocka_unit_test(a_missing_exclude_file_names_nobody),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
