#include "base/type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void types_have_their_sizes_names_and_numbers_on_disk(void **state)
{
    (void)state;
    static const struct {
        enum trm_type type;
        int number;
        size_t bytes;
        const char *name;
    } cases[] = {
        {TRM_F32, 0, 4, "float32"},
        {TRM_F64, 1, 8, "float64"},
        {TRM_BF16, 2, 2, "bfloat16"},
        {TRM_I32, 3, 4, "int32"},
    };
    assert_int_equal(sizeof cases / sizeof *cases, TRM_TYPE_COUNT);
    for (size_t i = 0; i < TRM_TYPE_COUNT; i++) {
        assert_int_equal(cases[i].type, cases[i].number);
        assert_int_equal(trm_type_bytes(cases[i].type), cases[i].bytes);
        assert_string_equal(trm_type_name(cases[i].type), cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_their_sizes_names_and_numbers_on_disk),
    };
    return cmocka_run_group_tests_name("base/type", tests, NULL, NULL);
}
