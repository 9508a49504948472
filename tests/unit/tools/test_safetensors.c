#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/formats/safetensors.h"

#define FILE_BYTES 8192

/* A file in memory: the header's true length unless `claimed` is given, and data behind it. */
static size_t make_file(char file[FILE_BYTES], const char *header, uint64_t claimed,
                        size_t data_bytes)
{
    uint64_t length = strlen(header);
    size_t bytes = 8 + length + data_bytes;
    assert_true(bytes <= FILE_BYTES);
    memset(file, 0, FILE_BYTES);
    memcpy(file + 8, header, length);
    if (claimed > 0)
        length = claimed;
    memcpy(file, &length, 8);
    return bytes;
}

/* The bytes alone in a block of their own, so that a read past them is noticed. */
static enum trm_status open_copy(const char *file, size_t bytes, struct trm_safetensors *out,
                                 struct trm_error *err)
{
    char *copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, file, bytes);
    enum trm_status status =
        trm_safetensors_open(copy, bytes, (int64_t)bytes, "m.safetensors", out, err);
    free(copy);
    return status;
}

#define A(dtype, shape, offsets) \
    "\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define B(dtype, shape, offsets) \
    "\"b\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void open_takes_what_the_format_allows(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"}," B("BF16", "[3]", "[8,14]") "," A(
            "F32", "[2,1]", "[0,8]") ",\"empty\":{\"dtype\":\"I64\",\"shape\":[0,7],"
                                     "\"data_offsets\":[8,8]},\"scalar\":{\"shape\":[],"
                                     "\"dtype\":\"F16\",\"data_offsets\":[14,16]}}   ";
    char file[FILE_BYTES];
    size_t bytes = make_file(file, header, 0, 16);
    struct trm_safetensors tensors = {0};
    struct trm_error err = {0};
    if (open_copy(file, bytes, &tensors, &err) != TRM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(tensors.count, 4);
    const struct trm_safetensors_entry *a = trm_safetensors_find(&tensors, "a");
    const struct trm_safetensors_entry *b = trm_safetensors_find(&tensors, "b");
    const struct trm_safetensors_entry *scalar = trm_safetensors_find(&tensors, "scalar");
    assert_true(a && b && scalar && trm_safetensors_find(&tensors, "empty"));
    assert_null(trm_safetensors_find(&tensors, "c"));
    assert_null(trm_safetensors_find(&tensors, "__metadata__"));
    assert_int_equal(a->type, TRM_SAFETENSORS_F32);
    assert_int_equal(a->dims, 2);
    assert_int_equal(a->shape[0], 2);
    assert_int_equal(a->bytes, 8);
    assert_int_equal(a->offset, (int64_t)strlen(header) + 8);
    assert_int_equal(b->type, TRM_SAFETENSORS_BF16);
    assert_int_equal(b->offset, a->offset + 8);
    assert_int_equal(scalar->dims, 0);
    trm_safetensors_destroy(&tensors);
}

static void open_refuses_each_hostile_file_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t claimed;
        size_t data_bytes;
        const char *words;
    } cases[] = {
        {"", 0, 0, "does not begin with '{'"},
        {"[]", 0, 0, "does not begin with '{'"},
        {" {}", 0, 0, "does not begin with '{'"},
        {"{}", 3, 0, "claims 3 bytes, and the file has 10"},
        {"{}", UINT64_MAX, 0, "claims 18446744073709551615 bytes, over"},
        {"{}", (uint64_t)1 << 63, 0, "over the 16777216 that are read"},
        {"{}", 0, 4, "end at byte 0 of the 4 behind"},
        {"{}x", 0, 0, "column"},
        {"{" A("F32", "[1]", "[0,4]") "," A("F32", "[1]", "[0,4]") "}", 0, 4, "duplicate"},
        {"{" A("F32", "[1]", "[0,4]") "," B("F32", "[1]", "[0,4]") "}", 0, 4, "overlap at byte 0"},
        {"{" A("F32", "[2]", "[0,8]") "," B("F32", "[1]", "[4,8]") "}", 0, 8, "overlap at byte 4"},
        {"{" A("F32", "[1]", "[4,8]") "}", 0, 8, "bytes 0 to 4 before tensor \"a\""},
        {"{" A("F32", "[1]", "[0,4]") "}", 0, 8, "end at byte 4 of the 8"},
        {"{" A("F32", "[2]", "[0,8]") "}", 0, 4, "[0, 8] lie outside the 4 bytes"},
        {"{" A("F32", "[1]", "[4,0]") "}", 0, 4, "[4, 0] lie outside"},
        {"{" A("F32", "[1]", "[-4,0]") "}", 0, 4, "[-4, 0] lie outside"},
        {"{" A("F32", "[1]", "[0,4,8]") "}", 0, 4, "more than the 2"},
        {"{" A("F32", "[1]", "[0]") "}", 0, 4, "not two whole numbers"},
        {"{" A("F32", "[1]", "[0,4.0]") "}", 0, 4, "not two whole numbers"},
        {"{" A("F32", "[1]", "[0,99999999999999999999]") "}", 0, 4, "too big"},
        {"{" A("F32", "[3]", "[0,4]") "}", 0, 4, "hold 4 bytes, its type and shape 12"},
        {"{" A("F32", "[-1]", "[0,4]") "}", 0, 4, "dimension 0 of its shape"},
        {"{" A("F32", "[1.5]", "[0,4]") "}", 0, 4, "dimension 0 of its shape"},
        {"{" A("F32", "[16777216,16777216,16777216]", "[0,4]") "}", 0, 4, "over 2^48 elements"},
        {"{" A("F32", "[281474976710656,281474976710656]", "[0,0]") "}", 0, 0, "over 2^48"},
        {"{" A("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 0, 4, "9 entries"},
        {"{" A("F33", "[1]", "[0,4]") "}", 0, 4, "dtype \"F33\" is not known"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, "\"dtype\" is missing"},
        {"{\"a\":[]}", 0, 0, "tensor \"a\": an array"},
        {"{\"__metadata__\":[]}", 0, 0, "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"x\":1}}", 0, 0, "\"x\" is not a text"},
        {"{\"a\\u0000b\":{}}", 0, 0, "u0000"},
    };
    char file[FILE_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_safetensors tensors = {.count = 77};
        struct trm_error err = {0};
        size_t bytes = make_file(file, cases[i].header, cases[i].claimed, cases[i].data_bytes);
        enum trm_status status = open_copy(file, bytes, &tensors, &err);
        if (status != TRM_ERR_INPUT || !strstr(err.text, cases[i].words) ||
            !strstr(err.text, "could not read \"m.safetensors\": "))
            fail_msg("case %zu, %s: status %d, \"%s\"", i, cases[i].header, status, err.text);
        assert_int_equal(tensors.count, 77);
    }
    struct trm_safetensors tensors = {0};
    assert_int_equal(open_copy("1234567", 7, &tensors, NULL), TRM_ERR_INPUT);
}

static void open_refuses_a_name_that_is_too_long_and_deep_nesting(void **state)
{
    (void)state;
    char file[FILE_BYTES], header[2048];
    struct trm_safetensors tensors = {0};
    struct trm_error err = {0};
    snprintf(header, sizeof header,
             "{\"%0300d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0);
    assert_int_equal(open_copy(file, make_file(file, header, 0, 4), &tensors, &err), TRM_ERR_INPUT);
    assert_non_null(strstr(err.text, "a name of 300 bytes"));
    memset(header, '[', 1000);
    memcpy(header, "{\"a\":", 5);
    header[1000] = '\0';
    assert_int_equal(open_copy(file, make_file(file, header, 0, 0), &tensors, &err), TRM_ERR_INPUT);
    assert_non_null(strstr(err.text, "nested deeper"));
}

/* Every prefix of a sound file is refused, whatever it is cut at. */
static void open_refuses_every_truncation(void **state)
{
    (void)state;
    char file[FILE_BYTES];
    size_t bytes = make_file(file, "{" A("F32", "[4]", "[0,16]") "}", 0, 16);
    for (size_t cut = 0; cut < bytes; cut++) {
        struct trm_safetensors tensors = {0};
        struct trm_error err = {0};
        assert_int_equal(open_copy(file, cut, &tensors, &err), TRM_ERR_INPUT);
    }
}

static void plan_is_read_back(void **state)
{
    (void)state;
    struct trm_safetensors_entry entries[] = {
        {.name = "wte.weight", .dims = 2, .shape = {3, 5}},
        {.name = "ln_f.bias", .dims = 1, .shape = {7}},
    };
    char file[FILE_BYTES] = "", *header = NULL;
    size_t header_bytes = 0;
    struct trm_error err = {0};
    assert_int_equal(trm_safetensors_plan(entries, 2, &header, &header_bytes, &err), TRM_OK);
    assert_int_equal(header_bytes % 64, 0);
    memcpy(file, header, header_bytes);
    free(header);
    struct trm_safetensors tensors = {0};
    if (open_copy(file, header_bytes + (15 + 7) * 4, &tensors, &err) != TRM_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < 2; i++) {
        const struct trm_safetensors_entry *read = trm_safetensors_find(&tensors, entries[i].name);
        assert_non_null(read);
        assert_int_equal(read->offset, entries[i].offset);
        assert_int_equal(read->bytes, entries[i].bytes);
        assert_int_equal(read->dims, entries[i].dims);
        assert_int_equal(read->type, TRM_SAFETENSORS_F32);
    }
    assert_int_equal(entries[0].offset, header_bytes);
    assert_int_equal(entries[1].offset, header_bytes + 60);
    trm_safetensors_destroy(&tensors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_takes_what_the_format_allows),
        cmocka_unit_test(open_refuses_each_hostile_file_in_words),
        cmocka_unit_test(open_refuses_a_name_that_is_too_long_and_deep_nesting),
        cmocka_unit_test(open_refuses_every_truncation),
        cmocka_unit_test(plan_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
