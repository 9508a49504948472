/* What the log line says about a GPU, on an emulated one whose NVML is a fake (tests/fake). Started
 * once for each library: TRM_TEST_NVML is whole, old or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/gauges.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/cuda/cuda.h"

static bool nvml_is(const char *kind)
{
    const char *here = getenv("TRM_TEST_NVML");
    assert_non_null(here);
    return strcmp(here, kind) == 0;
}

static struct trm_config *config_of(double peak_tflops)
{
    struct trm_config *config = NULL;
    assert_int_equal(trm_config_create(&config, NULL), TRM_OK);
    config->num_layers = 12;
    config->hidden_size = 768;
    config->ffn_hidden_size = 3072;
    config->seq_length = 1024;
    config->vocab_size = 50257;
    config->peak_tflops = peak_tflops;
    return config;
}

static struct trm_gauges gauges_of(const struct trm_device *device, double peak_tflops)
{
    struct trm_config *config = config_of(peak_tflops);
    struct trm_log log = {.rank = 1}; /* says nothing */
    struct trm_gauges gauges;

    trm_gauges_open(&gauges, config, device, TRM_BF16, 2, &log);
    trm_config_destroy(config);
    return gauges;
}

static struct trm_device gpu(void)
{
    struct trm_device device;
    assert_int_equal(trm_device_cuda(&device, 0, NULL), TRM_OK);
    return device;
}

/* 85 M in layers, 38.6 M in the head; 12 x 1024 x 768 for attention. */
static void flops_are_six_per_weight_and_half_of_the_attention(void **state)
{
    struct trm_device device;
    (void)state;
    assert_int_equal(trm_device_cpu(&device, 1, NULL), TRM_OK);
    struct trm_gauges gauges = gauges_of(&device, 0);
    assert_true(gauges.flops_per_token == 6.0 * (84934656 + 38597376 + 9437184));
    assert_true(trm_gauges_flops(&gauges, 100) == 100 * gauges.flops_per_token);
    trm_gauges_close(&gauges);
}

static void a_gpu_is_told_of_with_its_peak(void **state)
{
    struct trm_device device = gpu();
    struct trm_gauges gauges = gauges_of(&device, 0);
    struct trm_gpu_state gpu_state;
    char text[256];
    (void)state;
    const bool known = trm_gauges_read(&gauges, &gpu_state);
    trm_gauges_words(&gauges, 1e6, &gpu_state, text, sizeof text);
    assert_int_equal(known, !nvml_is("none"));
    /* 797,815,296 x 1e6 / 2 ranks, of 132 x 1980 MHz x 4096. */
    const char *expected =
        nvml_is("whole") ? " | 398.9 TFLOP/s per GPU, MFU 37.3 % of 1071 | 61 GiB of 80 "
                           "GiB, 64 C, 1755 MHz"
        : nvml_is("old") ? " | 398.9 TFLOP/s per GPU, MFU 37.3 % of 1071 | 61 GiB of 80 "
                           "GiB"
                         : " | 398.9 TFLOP/s per GPU, MFU 37.3 % of 1071";
    assert_string_equal(text, expected);
    trm_gauges_json(&gauges, 1e6, &gpu_state, text, sizeof text);
    expected = nvml_is("whole") ? ", \"flops_per_second\": 7.97815e+14, \"mfu\": 0.3726, "
                                  "\"gpu_memory_used_bytes\": 65498251264, \"gpu_memory_bytes\": "
                                  "85899345920, \"gpu_temperature_c\": 64, \"gpu_clock_mhz\": "
                                  "1755, \"gpu_memory_clock_mhz\": 2619"
               : nvml_is("old") ? ", \"flops_per_second\": 7.97815e+14, \"mfu\": 0.3726, "
                                  "\"gpu_memory_used_bytes\": 65498251264, \"gpu_memory_bytes\": "
                                  "85899345920"
                                : ", \"flops_per_second\": 7.97815e+14, \"mfu\": 0.3726";
    assert_string_equal(text, expected);
    trm_gauges_close(&gauges);
    trm_device_cuda_close(&device);
}

static void a_peak_that_is_given_counts(void **state)
{
    const struct trm_gpu_state unknown = {-1, -1, -1, -1, -1};
    struct trm_device device = gpu(), cpu;
    char text[256];
    (void)state;
    struct trm_gauges gauges = gauges_of(&device, 500);
    assert_string_equal(trm_gauges_words(&gauges, 1e6, &unknown, text, sizeof text),
                        " | 398.9 TFLOP/s per GPU, MFU 79.8 % of 500");
    trm_gauges_close(&gauges);
    assert_int_equal(trm_device_cpu(&cpu, 1, NULL), TRM_OK);
    gauges = gauges_of(&cpu, 0.5);
    assert_string_equal(trm_gauges_words(&gauges, 1000, &unknown, text, sizeof text),
                        " | 0.3989 TFLOP/s per rank, MFU 79.8 % of 0.5");
    trm_gauges_close(&gauges);
    gauges = gauges_of(&cpu, 0);
    assert_string_equal(trm_gauges_words(&gauges, 1000, &unknown, text, sizeof text), "");
    trm_device_cuda_close(&device);
}

static void an_unknown_peak_has_no_mfu(void **state)
{
    const struct trm_gauges gauges = {.flops_per_token = 1e9, .ranks = 1, .on_gpu = true};
    const struct trm_gpu_state unknown = {-1, -1, -1, -1, -1};
    char text[256];
    (void)state;
    assert_string_equal(trm_gauges_words(&gauges, 1e5, &unknown, text, sizeof text),
                        " | 100 TFLOP/s per GPU");
    assert_string_equal(trm_gauges_json(&gauges, 1e5, &unknown, text, sizeof text),
                        ", \"flops_per_second\": 1e+14");
}

static void nvml_says_why_it_does_not_open(void **state)
{
    struct trm_nvml *nvml = NULL;
    struct trm_error err;
    (void)state;
    assert_int_equal(trm_nvml_open("0000:FF:00.0", &nvml, &err), TRM_ERR_UNSUPPORTED);
    assert_null(nvml);
    assert_non_null(strstr(err.text, nvml_is("none") ? "loading of libnvidia-ml.so.1: "
                                                     : "0000:FF:00.0 of libnvidia-ml.so.1: Not "
                                                       "Found"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flops_are_six_per_weight_and_half_of_the_attention),
        cmocka_unit_test(a_gpu_is_told_of_with_its_peak),
        cmocka_unit_test(a_peak_that_is_given_counts),
        cmocka_unit_test(an_unknown_peak_has_no_mfu),
        cmocka_unit_test(nvml_says_why_it_does_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
