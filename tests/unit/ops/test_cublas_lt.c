/* The library that is loaded when it is first called; none of this needs a GPU. */
#include <cublasLt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool is_mapped(const char *name)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    bool found = false;

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps))
        found = found || strstr(line, name);
    fclose(maps);
    return found;
}

static void a_program_starts_without_it_and_the_first_call_loads_it(void **state)
{
    (void)state;
    assert_false(is_mapped("libcublasLt"));
    assert_true(cublasLtGetVersion() >= 1000 * CUBLAS_VER_MAJOR);
    assert_true(is_mapped("libcublasLt"));
}

static void its_words_come_through(void **state)
{
    (void)state;
    const char *refused = cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED);
    assert_non_null(refused);
    assert_string_not_equal(refused, cublasLtGetStatusString(CUBLAS_STATUS_SUCCESS));
}

static void descriptions_of_matrices_are_its_own(void **state)
{
    cublasLtMatrixLayoutOpaque_t layout;
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatmulPreferenceOpaque_t preference;
    const size_t bytes = 1 << 20;
    const cublasOperation_t turned = CUBLAS_OP_T;
    (void)state;
    assert_int_equal(cublasLtMatrixLayoutInit(&layout, CUDA_R_32F, 8, 4, 8), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                                    sizeof turned),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(
        cublasLtMatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA, &turned, 1),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasLtMatmulPreferenceInit(&preference), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(&preference,
                                                          CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                          &bytes, sizeof bytes),
                     CUBLAS_STATUS_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_starts_without_it_and_the_first_call_loads_it),
        cmocka_unit_test(its_words_come_through),
        cmocka_unit_test(descriptions_of_matrices_are_its_own),
    };
    return cmocka_run_group_tests_name("ops/cublas_lt", tests, NULL, NULL);
}
