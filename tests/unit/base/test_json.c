#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void sound_documents_are_parsed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[]",
        "{\"a\": [1, 2.5, \"x\\\"]}\", null, true]}",
        " {\"a\": {\"a\": 1}}\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *value = NULL;
        struct trm_error err;
        assert_int_equal(trm_json_parse(texts[i], strlen(texts[i]), "m.json", &value, &err),
                         TRM_OK);
        assert_non_null(value);
        json_decref(value);
    }
}

static void unsound_documents_are_refused_with_place_and_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place, *reason;
    } cases[] = {
        {"", "\"m.json\", line 1, column 0: ", "expected"},
        {"{\n \"a\": 1,\n}", "\"m.json\", line 3, column 1: ", "expected"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", "\"m.json\", line 1, ", "duplicate object key"},
        {"{\"a\": {\"b\": 1,\n\"b\": 1}}", "\"m.json\", line 2, ", "duplicate object key"},
        {"{\"a\": 1} x", "\"m.json\", line 1, ", "end of file expected"},
        {"{\"a\": 99999999999999999999}", "\"m.json\", line 1, ", "too big integer"},
        {"{\"a\": 1e999}", "\"m.json\", line 1, ", "real number overflow"},
        {"{\"a\": \"\xff\"}", "\"m.json\", line 1, ", "unable to decode byte 0xff"},
        {"{\"a\": NaN}", "\"m.json\", line 1, ", "invalid token"},
        {"{\"a", "\"m.json\", line 1, ", "premature end of input"},
        {"[[[", "\"m.json\", line 1, ", "expected"},
        {"]]]]", "\"m.json\", line 1, ", "expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = (json_t *)0x1;
        struct trm_error err;
        assert_int_equal(
            trm_json_parse(cases[i].text, strlen(cases[i].text), "m.json", &value, &err),
            TRM_ERR_CORRUPT);
        assert_ptr_equal(value, (json_t *)0x1);
        if (strncmp(err.text, cases[i].place, strlen(cases[i].place)) != 0 ||
            !strstr(err.text, cases[i].reason))
            fail_msg("\"%s\" should begin with '%s' and say \"%s\"", err.text, cases[i].place,
                     cases[i].reason);
    }
}

static char *nested(char open, char close, int depth)
{
    char *text = malloc(2 * (size_t)depth + 1);
    assert_non_null(text);
    memset(text, open, (size_t)depth);
    memset(text + depth, close, (size_t)depth);
    text[2 * depth] = '\0';
    return text;
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    static const struct {
        int depth;
        enum trm_status status;
    } cases[] = {{64, TRM_OK}, {65, TRM_ERR_CORRUPT}, {1000000, TRM_ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = nested('[', ']', cases[i].depth);
        json_t *value = NULL;
        struct trm_error err;
        assert_int_equal(trm_json_parse(text, strlen(text), "m.json", &value, &err),
                         cases[i].status);
        if (cases[i].status != TRM_OK)
            assert_string_equal(err.text, "\"m.json\", line 1: nested deeper than 64 levels");
        json_decref(value);
        free(text);
    }
}

static void brackets_in_strings_are_no_nesting(void **state)
{
    (void)state;
    char text[512] = "[\"\\\"";
    memset(text + strlen(text), '[', 200);
    strcat(text, "\\\\\", 1]");
    json_t *value = NULL;
    struct trm_error err;
    assert_int_equal(trm_json_parse(text, strlen(text), "m.json", &value, &err), TRM_OK);
    json_decref(value);
}

static void load_names_the_file_and_keeps_its_limit(void **state)
{
    (void)state;
    char path[] = "/tmp/trm-json-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"step\": 7}", 11), 11);
    close(fd);
    json_t *value = NULL;
    struct trm_error err;
    int64_t step = 0;
    assert_int_equal(trm_json_load(path, 11, &value, &err), TRM_OK);
    assert_int_equal(trm_json_get_int(value, "step", 0, 10, &step, &err), TRM_OK);
    assert_int_equal(step, 7);
    json_decref(value);
    value = NULL;
    assert_int_equal(trm_json_load(path, 10, &value, &err), TRM_ERR_INPUT);
    assert_non_null(strstr(err.text, path));
    assert_null(value);
    unlink(path);
    assert_int_equal(trm_json_load(path, 10, &value, &err), TRM_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
}

static json_t *sample(void)
{
    static const char text[] =
        "{\"int\": 5, \"real\": 2.5, \"text\": \"abc\", \"list\": [1, 2, 3], \"map\": {\"x\": 1},"
        " \"none\": null, \"yes\": true, \"hash\": \"00000000deadbeef\", \"upper\": "
        "\"00000000DEADBEEF\", \"short\": \"beef\", \"tail\": \"00000000deadbeefx\", \"low\": "
        "-9223372036854775808}";
    json_t *value = NULL;
    struct trm_error err;
    assert_int_equal(trm_json_parse(text, strlen(text), "sample", &value, &err), TRM_OK);
    return value;
}

static void getters_return_what_is_there(void **state)
{
    (void)state;
    json_t *object = sample();
    struct trm_error err;
    int64_t number;
    double real;
    const char *text;
    json_t *inner;
    uint64_t hash;
    assert_int_equal(trm_json_get_int(object, "int", 5, 5, &number, &err), TRM_OK);
    assert_int_equal(number, 5);
    assert_int_equal(trm_json_get_int(object, "low", INT64_MIN, 0, &number, &err), TRM_OK);
    assert_true(number == INT64_MIN);
    assert_int_equal(trm_json_get_double(object, "real", &real, &err), TRM_OK);
    assert_true(real == 2.5);
    assert_int_equal(trm_json_get_double(object, "int", &real, &err), TRM_OK);
    assert_true(real == 5.0);
    assert_int_equal(trm_json_get_string(object, "text", &text, &err), TRM_OK);
    assert_string_equal(text, "abc");
    assert_int_equal(trm_json_get_array(object, "list", 3, &inner, &err), TRM_OK);
    assert_int_equal(json_array_size(inner), 3);
    assert_int_equal(trm_json_get_object(object, "map", &inner, &err), TRM_OK);
    assert_int_equal(json_object_size(inner), 1);
    assert_int_equal(trm_json_get_hex64(object, "hash", &hash, &err), TRM_OK);
    assert_true(hash == 0xdeadbeef);
    json_decref(object);
}

enum getter { GET_INT, GET_DOUBLE, GET_STRING, GET_ARRAY, GET_OBJECT, GET_HEX64 };

/* Calls a getter that must fail and must leave its output alone. */
static enum trm_status get(enum getter getter, const json_t *object, const char *key,
                           struct trm_error *err)
{
    static const char untouched[] = "untouched";
    enum trm_status status = TRM_OK;
    int64_t number = -77;
    uint64_t hash = 77;
    double real = -77;
    const char *text = untouched;
    json_t *inner = NULL;
    switch (getter) {
    case GET_INT:
        status = trm_json_get_int(object, key, 0, 4, &number, err);
        break;
    case GET_DOUBLE:
        status = trm_json_get_double(object, key, &real, err);
        break;
    case GET_STRING:
        status = trm_json_get_string(object, key, &text, err);
        break;
    case GET_ARRAY:
        status = trm_json_get_array(object, key, 2, &inner, err);
        break;
    case GET_OBJECT:
        status = trm_json_get_object(object, key, &inner, err);
        break;
    case GET_HEX64:
        status = trm_json_get_hex64(object, key, &hash, err);
        break;
    }
    assert_true(number == -77 && hash == 77 && real == -77 && text == untouched && !inner);
    return status;
}

static void getters_refuse_what_does_not_fit_and_name_the_key(void **state)
{
    (void)state;
    static const struct {
        enum getter getter;
        const char *key, *text;
    } cases[] = {
        {GET_INT, "gone", "the key \"gone\" is missing"},
        {GET_INT, "int", "the key \"int\" is 5, outside 0 to 4"},
        {GET_INT, "low", "the key \"low\" is -9223372036854775808, outside 0 to 4"},
        {GET_INT, "real", "the key \"real\" holds a fraction, but needs an integer"},
        {GET_INT, "text", "the key \"text\" holds a string, but needs an integer"},
        {GET_INT, "none", "the key \"none\" holds null, but needs an integer"},
        {GET_INT, "yes", "the key \"yes\" holds a truth value, but needs an integer"},
        {GET_DOUBLE, "text", "the key \"text\" holds a string, but needs a number"},
        {GET_DOUBLE, "gone", "the key \"gone\" is missing"},
        {GET_STRING, "int", "the key \"int\" holds an integer, but needs a string"},
        {GET_STRING, "list", "the key \"list\" holds an array, but needs a string"},
        {GET_ARRAY, "map", "the key \"map\" holds an object, but needs an array"},
        {GET_ARRAY, "list", "the key \"list\" holds 3 entries, more than the 2 allowed"},
        {GET_OBJECT, "list", "the key \"list\" holds an array, but needs an object"},
        {GET_OBJECT, "gone", "the key \"gone\" is missing"},
        {GET_HEX64, "int", "the key \"int\" holds an integer, but needs a string"},
        {GET_HEX64, "short",
         "the key \"short\" is \"beef\", not 16 hexadecimal digits in lower case"},
        {GET_HEX64, "tail",
         "the key \"tail\" is \"00000000deadbeefx\", not 16 hexadecimal digits in lower case"},
        {GET_HEX64, "upper",
         "the key \"upper\" is \"00000000DEADBEEF\", not 16 hexadecimal digits in lower case"},
    };
    json_t *object = sample();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_error err;
        assert_int_equal(get(cases[i].getter, object, cases[i].key, &err), TRM_ERR_CORRUPT);
        assert_string_equal(err.text, cases[i].text);
    }
    struct trm_error err;
    assert_int_equal(get(GET_INT, json_object_get(object, "list"), "x", &err), TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "an array stands where an object with \"x\" should");
    assert_int_equal(get(GET_INT, NULL, "x", &err), TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "nothing stands where an object with \"x\" should");
    json_decref(object);
}

static void hashes_come_back_from_text(void **state)
{
    (void)state;
    static const uint64_t hashes[] = {0, 1, UINT64_MAX, UINT64_C(0x8000000000000001)};
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        json_t *object = json_object();
        json_object_set_new(object, "h", trm_json_hex64(hashes[i]));
        uint64_t back = 77;
        struct trm_error err;
        assert_int_equal(trm_json_get_hex64(object, "h", &back, &err), TRM_OK);
        assert_true(back == hashes[i]);
        json_decref(object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_documents_are_parsed),
        cmocka_unit_test(unsound_documents_are_refused_with_place_and_reason),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(brackets_in_strings_are_no_nesting),
        cmocka_unit_test(load_names_the_file_and_keeps_its_limit),
        cmocka_unit_test(getters_return_what_is_there),
        cmocka_unit_test(getters_refuse_what_does_not_fit_and_name_the_key),
        cmocka_unit_test(hashes_come_back_from_text),
    };
    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
