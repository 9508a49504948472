#include "tests/faults/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct fault faults[FAULTS_MAX];

static int parse(const char *text)
{
    struct trm_error error = {0};
    int count = -1;
    if (faults_parse(text, faults, &count, &error) != TRM_OK)
        fail_msg("%s", error.text);
    return count;
}

static void every_field_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse("2,14,grad_exchange,3,kill"), 1);
    assert_int_equal(faults[0].rank, 2);
    assert_int_equal(faults[0].step, 14);
    assert_int_equal(faults[0].phase, fault_phase("grad_exchange"));
    assert_int_equal(faults[0].attempt, 3);
    assert_int_equal(faults[0].action, FAULT_KILL);
}

static void a_list_may_be_empty_and_end_in_a_semicolon(void **state)
{
    (void)state;
    assert_int_equal(parse(""), 0);
    assert_int_equal(parse(";"), 0);
    assert_int_equal(parse("0,1,forward,1,kill;1,2,save,2,exit:75;"), 2);
    assert_int_equal(faults[1].action, FAULT_EXIT);
    assert_int_equal(faults[1].argument, 75);
}

static void every_action_has_its_name(void **state)
{
    static const char *const names[FAULT_ACTION_COUNT] = {
        [FAULT_KILL] = "kill",
        [FAULT_SEGV] = "segv",
        [FAULT_ABORT] = "abort",
        [FAULT_STOP] = "stop",
        [FAULT_KILL_PARENT] = "kill_parent",
        [FAULT_STOP_PARENT] = "stop_parent",
        [FAULT_EXIT] = "exit:3",
        [FAULT_HANG] = "hang",
        [FAULT_SLOW] = "slow:250",
        [FAULT_PARK] = "park",
        [FAULT_NAN] = "nan",
        [FAULT_INF] = "inf",
        [FAULT_CORRUPT] = "corrupt",
    };
    (void)state;
    for (int i = 0; i < FAULT_ACTION_COUNT; i++) {
        char text[64] = "*,*,*,*,";
        strcat(text, names[i]);
        assert_int_equal(parse(text), 1);
        assert_int_equal(faults[0].action, i);
    }
}

static void what_is_wrong_is_refused_and_quoted(void **state)
{
    static const char *const texts[] = {
        "1,2,forward,1",        "1,2,forward,1,kill,now", "1,2,forward,1,",
        "x,2,forward,1,kill",   "1,-2,forward,1,kill",    "1,2,backward,1,kill",
        "1,2,forward,one,kill", "1,2,forward,1,murder",   "1,2,forward,1,exit",
        "1,2,forward,1,exit:",  "1,2,forward,1,exit:256", "1,2,forward,1,exit:7s",
        "1,2,forward,1,kill:9", "1, 2,forward,1,kill",    "1,99999999999999999999,save,1,kill",
        "0,1,save,1,kill;,,,,",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct trm_error error = {0};
        const char *last = strrchr(texts[i], ';');
        int count = 17;
        if (faults_parse(texts[i], faults, &count, &error) != TRM_ERR_INPUT)
            fail_msg("\"%s\" was taken", texts[i]);
        assert_non_null(strstr(error.text, last ? last + 1 : texts[i]));
        assert_int_equal(count, 17);
    }
}

static void too_many_or_too_long_is_refused(void **state)
{
    char many[(FAULTS_MAX + 1) * 20 + 1] = "", digits[400];
    struct trm_error error;
    int count;
    (void)state;
    for (int i = 0; i < FAULTS_MAX; i++)
        strcat(many, "0,1,forward,1,kill;");
    assert_int_equal(parse(many), FAULTS_MAX);
    strcat(many, "0,1,forward,1,kill;");
    assert_int_equal(faults_parse(many, faults, &count, &error), TRM_ERR_INPUT);
    memset(digits, '1', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    assert_int_equal(faults_parse(digits, faults, &count, &error), TRM_ERR_INPUT);
}

static void a_fault_is_where_all_four_say_so(void **state)
{
    int save = fault_phase("save"), forward = fault_phase("forward");
    (void)state;
    parse("2,14,save,1,kill;*,14,save,1,kill;2,*,save,1,kill;2,14,*,1,kill;2,14,save,*,kill");
    for (int i = 0; i < 5; i++)
        assert_true(fault_is_at(&faults[i], 2, 14, save, 1));
    assert_false(fault_is_at(&faults[0], 1, 14, save, 1));
    assert_false(fault_is_at(&faults[0], 2, 15, save, 1));
    assert_false(fault_is_at(&faults[0], 2, 14, forward, 1));
    assert_false(fault_is_at(&faults[0], 2, 14, save, 2));
    assert_true(fault_is_at(&faults[1], 1, 14, save, 1));
    assert_true(fault_is_at(&faults[2], 2, 0, save, 1));
    assert_true(fault_is_at(&faults[3], 2, 14, forward, 1));
    assert_true(fault_is_at(&faults[4], 2, 14, save, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(a_list_may_be_empty_and_end_in_a_semicolon),
        cmocka_unit_test(every_action_has_its_name),
        cmocka_unit_test(what_is_wrong_is_refused_and_quoted),
        cmocka_unit_test(too_many_or_too_long_is_refused),
        cmocka_unit_test(a_fault_is_where_all_four_say_so),
    };
    return cmocka_run_group_tests_name("faults/fault", tests, NULL, NULL);
}
