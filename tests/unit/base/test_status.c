#include "base/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void error_set_keeps_status_and_text(void **state)
{
    (void)state;
    struct trm_error err;
    assert_int_equal(trm_error_set(&err, TRM_ERR_CORRUPT, "block %d of \"%s\"", 7, "a.h5"),
                     TRM_ERR_CORRUPT);
    assert_int_equal(err.status, TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "block 7 of \"a.h5\"");
}

static void error_functions_accept_no_error(void **state)
{
    (void)state;
    assert_int_equal(trm_error_set(NULL, TRM_ERR_COMM, "x"), TRM_ERR_COMM);
    assert_int_equal(trm_error_set_errno(NULL, ENOENT, "x"), TRM_ERR_NOT_FOUND);
    assert_int_equal(trm_error_prefix(NULL, "x"), TRM_ERR_INTERNAL);
}

static void errno_becomes_status_and_words(void **state)
{
    (void)state;
    static const struct {
        int errno_value;
        enum trm_status status;
        const char *text;
    } cases[] = {
        {ENOENT, TRM_ERR_NOT_FOUND, "could not open \"f\": no such file or directory"},
        {ENOMEM, TRM_ERR_MEMORY, "could not open \"f\": cannot allocate memory"},
        {ENOSPC, TRM_ERR_IO, "could not open \"f\": no space left on device"},
        {EACCES, TRM_ERR_IO, "could not open \"f\": permission denied"},
        {EREMOTEIO, TRM_ERR_IO, "could not open \"f\": remote I/O error"},
        {EDOTDOT, TRM_ERR_IO, "could not open \"f\": RFS specific error"},
        {99999, TRM_ERR_IO, "could not open \"f\": unknown error 99999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_error err;
        assert_int_equal(
            trm_error_set_errno(&err, cases[i].errno_value, "could not open \"%s\"", "f"),
            cases[i].status);
        assert_int_equal(err.status, cases[i].status);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void prefix_puts_context_in_front(void **state)
{
    (void)state;
    struct trm_error err;
    trm_error_set(&err, TRM_ERR_IO, "could not write");
    assert_int_equal(trm_error_prefix(&err, "saving step %d", 1200), TRM_ERR_IO);
    assert_int_equal(trm_error_prefix(&err, "rank 3"), TRM_ERR_IO);
    assert_string_equal(err.text, "rank 3: saving step 1200: could not write");
}

static void an_error_may_quote_itself(void **state)
{
    (void)state;
    struct trm_error err;
    trm_error_set(&err, TRM_ERR_IO, "first");
    trm_error_set(&err, TRM_ERR_COMM, "second after %s", err.text);
    assert_string_equal(err.text, "second after first");
    trm_error_set_errno(&err, EIO, "third after %s", err.text);
    assert_string_equal(err.text, "third after second after first: input/output error");
    trm_error_prefix(&err, "<%s>", "x");
    trm_error_prefix(&err, "%.5s", err.text);
    assert_memory_equal(err.text, "<x>: : <x>: third", 17);
}

static void long_texts_are_cut_visibly(void **state)
{
    (void)state;
    char longer[3 * TRM_ERROR_TEXT_BYTES];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    struct trm_error err;

    trm_error_set(&err, TRM_ERR_IO, "%s", longer);
    assert_int_equal(strlen(err.text), TRM_ERROR_TEXT_BYTES - 1);
    assert_string_equal(err.text + TRM_ERROR_TEXT_BYTES - 5, "a...");

    trm_error_set_errno(&err, EIO, "%s", longer);
    assert_string_equal(err.text + TRM_ERROR_TEXT_BYTES - 5, "a...");

    trm_error_set(&err, TRM_ERR_IO, "%.1000s", longer);
    trm_error_prefix(&err, "%.100s", longer);
    assert_int_equal(strlen(err.text), TRM_ERROR_TEXT_BYTES - 1);
    assert_string_equal(err.text + TRM_ERROR_TEXT_BYTES - 5, "a...");

    trm_error_set(&err, TRM_ERR_IO, "%.*s", TRM_ERROR_TEXT_BYTES - 1, longer);
    assert_string_equal(err.text + TRM_ERROR_TEXT_BYTES - 5, "aaaa");
}

static void cuts_fall_between_characters(void **state)
{
    (void)state;
    /* Three-byte characters: at any offset of the cut the text stays valid UTF-8. */
    for (int shift = 0; shift < 3; shift++) {
        char longer[2 * TRM_ERROR_TEXT_BYTES] = "";
        memset(longer, 'a', (size_t)shift);
        for (size_t i = (size_t)shift; i + 3 < sizeof longer; i += 3)
            memcpy(longer + i, "\xE2\x82\xAC", 3);
        struct trm_error err;
        trm_error_set(&err, TRM_ERR_IO, "%s", longer);
        size_t length = strlen(err.text);
        assert_string_equal(err.text + length - 3, "...");
        assert_int_equal((length - 3 - (size_t)shift) % 3, 0);
        assert_true(length > TRM_ERROR_TEXT_BYTES - 4);
    }
}

static void every_status_has_its_name_and_exit_code(void **state)
{
    (void)state;
    static const struct {
        enum trm_status status;
        const char *name;
        enum trm_exit code;
    } cases[] = {
        {TRM_OK, "ok", 0},
        {TRM_ERR_CONFIG, "config", 78},
        {TRM_ERR_INPUT, "input", 78},
        {TRM_ERR_NOT_FOUND, "not found", 66},
        {TRM_ERR_IO, "i/o", 74},
        {TRM_ERR_CORRUPT, "corrupt", 65},
        {TRM_ERR_MISMATCH, "mismatch", 78},
        {TRM_ERR_MEMORY, "memory", 71},
        {TRM_ERR_COMM, "communication", 69},
        {TRM_ERR_TIMEOUT, "timeout", 69},
        {TRM_ERR_STOPPED, "stopped", 75},
        {TRM_ERR_NUMERICS, "numerics", 76},
        {TRM_ERR_DIVERGED, "diverged", 68},
        {TRM_ERR_UNSUPPORTED, "unsupported", 78},
        {TRM_ERR_INTERNAL, "internal", 70},
    };
    assert_int_equal(sizeof cases / sizeof *cases, TRM_STATUS_COUNT);
    for (size_t i = 0; i < TRM_STATUS_COUNT; i++) {
        assert_string_equal(trm_status_name(cases[i].status), cases[i].name);
        assert_int_equal(trm_status_exit_code(cases[i].status), cases[i].code);
    }
    assert_string_equal(trm_status_name(TRM_STATUS_COUNT), "unknown");
    assert_int_equal(trm_status_exit_code((enum trm_status) - 1), TRM_EXIT_SOFTWARE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_set_keeps_status_and_text),
        cmocka_unit_test(error_functions_accept_no_error),
        cmocka_unit_test(errno_becomes_status_and_words),
        cmocka_unit_test(prefix_puts_context_in_front),
        cmocka_unit_test(an_error_may_quote_itself),
        cmocka_unit_test(long_texts_are_cut_visibly),
        cmocka_unit_test(cuts_fall_between_characters),
        cmocka_unit_test(every_status_has_its_name_and_exit_code),
    };
    return cmocka_run_group_tests_name("base/status", tests, NULL, NULL);
}
