#include "launch/agent/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct trm_agent_options sample(void)
{
    struct trm_agent_options options = {
        .token = {{1, 2, 3}},
        .run_id = "run-1",
        .node = "node2",
        .runtime = "/tmp/trireme-1",
        .addresses = {{"10.0.0.7", 4100}, {"fe80::1", 4100}, {"head.cluster", 1}},
        .address_count = 3,
        .lease_ms = 4000,
        .heartbeat_ms = 250,
        .linger_ms = 60000,
        .memory_limit = INT64_C(1) << 33,
        .foreground = true,
    };
    return options;
}

static void options_are_written_and_read(void **state)
{
    (void)state;
    struct trm_agent_options options = sample(), read;
    char *line = NULL;
    assert_int_equal(trm_agent_options_format(&options, &line, NULL), TRM_OK);
    assert_int_equal(strcspn(line, "\n"), strlen(line) - 1);
    assert_int_equal(trm_agent_options_parse(line, strlen(line), &read, NULL), TRM_OK);
    assert_memory_equal(&options, &read, sizeof read);
    free(line);
}

static void unsound_options_are_refused_without_the_token(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *reason;
    } cases[] = {
        {"\"lease_ms\":4000", "\"lease_ms\":400", "two heartbeats must fit a lease"},
        {"\"linger_ms\":60000", "\"linger_ms\":600", "a lease the linger"},
        {"\"runtime\":\"/tmp", "\"runtime\":\"tmp", "must begin with"},
        {"10.0.0.7:4100", "10.0.0.7", "not HOST:PORT"},
        {"10.0.0.7:4100", "10.0.0.7:70000", "not HOST:PORT"},
        {"10.0.0.7:4100", ":4100", "not HOST:PORT"},
        {"\"foreground\":true", "\"foreground\":1", "true or false"},
        {"\"token\":\"01", "\"token\":\"0x", "64 hexadecimal digits"},
        {"\"token\":\"01", "\"token\":\"", "64 hexadecimal digits"},
        {"\"node\"", "\"nodes\"", "\"node\" is missing"},
    };
    struct trm_agent_options options = sample(), read;
    char *line = NULL;
    assert_int_equal(trm_agent_options_format(&options, &line, NULL), TRM_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char changed[4096];
        struct trm_error err = {0};
        const char *at = strstr(line, cases[i].from);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - line), line, cases[i].to,
                 at + strlen(cases[i].from));
        assert_int_equal(trm_agent_options_parse(changed, strlen(changed), &read, &err),
                         TRM_ERR_CONFIG);
        if (!strstr(err.text, cases[i].reason))
            fail_msg("\"%s\" should say \"%s\"", err.text, cases[i].reason);
        assert_null(strstr(err.text, "0203"));
    }
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_written_and_read),
        cmocka_unit_test(unsound_options_are_refused_without_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
