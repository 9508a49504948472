/* Twenty steps of a small GPT on the CUDA device, against the CPU's: the same losses to rounding,
 * and the same bits again. On the emulated GPU, whose threads run the other way round the second
 * time, or on a real one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/gpu/bare_trainer.h"
#include "tests/unit/ops/trial_device.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/cuda/cuda.h"

#define STEPS 20

static const char *const CONFIGS[] = {
    "model: {num_layers: 2, hidden_size: 48, num_attention_heads: 3, seq_length: 33, "
    "vocab_size: 61, make_vocab_size_divisible_by: 8}\n"
    "training: {micro_batch_size: 2, global_batch_size: 2}\n"
    "optimizer: {lr: 0.003}\n"
    "data: {train_data_path: [none]}\n",
    /* The layers' activations are computed again in backward. */
    "model: {num_layers: 2, hidden_size: 48, num_attention_heads: 3, seq_length: 33, "
    "vocab_size: 61, make_vocab_size_divisible_by: 8}\n"
    "training: {micro_batch_size: 2, global_batch_size: 2, recompute_granularity: full}\n"
    "optimizer: {lr: 0.003}\n"
    "data: {train_data_path: [none]}\n",
};

struct result {
    double losses[STEPS];
    float *masters;
    size_t bytes;
};

/* Something to learn: each token follows from the one before, but for a few. */
static void make_tokens(int step, int64_t count, int32_t *inputs, int32_t *targets)
{
    int32_t token = step % 61;
    for (int64_t i = 0; i < count; i++) {
        inputs[i] = token;
        if (trm_random_bits((uint64_t)step, (uint64_t)i) % 10 == 0)
            token = (int32_t)(trm_random_bits((uint64_t)step, (uint64_t)(i + count)) % 61);
        else
            token = (token * 7 + 3) % 61;
        targets[i] = token;
    }
}

static struct result train(struct trm_device *device, enum trm_type type, const char *config)
{
    struct result r = {.masters = NULL};
    struct bare_trainer t;
    struct trm_error err = {0};
    int32_t inputs[2 * 33], targets[2 * 33];

    if (bare_trainer_open(&t, device, type, config, &err) != TRM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(t.tokens, 2 * 33);
    for (int step = 0; step < STEPS; step++) {
        make_tokens(step, t.tokens, inputs, targets);
        if (bare_trainer_step(&t, inputs, targets, &r.losses[step], &err) != TRM_OK)
            fail_msg("step %d: %s", step, err.text);
    }
    r.bytes = (size_t)t.layout->elements * sizeof(float);
    r.masters = malloc(r.bytes);
    assert_non_null(r.masters);
    trm_device_download(device, r.masters, t.masters, r.bytes);
    assert_int_equal(trm_device_sync(device, &err), TRM_OK);
    bare_trainer_close(&t);
    return r;
}

static struct result train_on_gpu(int run, enum trm_type type, const char *config)
{
    size_t shift;
    struct trm_device device = trial_open(run, &shift);
    return train(&device, type, config);
}

static struct result train_on_cpu(const char *config)
{
    struct trm_device device;
    assert_int_equal(trm_device_cpu(&device, 2, NULL), TRM_OK);
    return train(&device, TRM_F32, config);
}

static void compare(const struct result *got, const struct result *want, double tolerance)
{
    for (int step = 0; step < STEPS; step++)
        if (!(fabs(got->losses[step] - want->losses[step]) <= tolerance * want->losses[step]))
            fail_msg("step %d: the loss is %.6f, the CPU's %.6f", step + 1, got->losses[step],
                     want->losses[step]);
    if (!(want->losses[STEPS - 1] < 0.8 * want->losses[0]))
        fail_msg("the CPU learns nothing: %.4f, %.4f", want->losses[0], want->losses[STEPS - 1]);
    assert_true(got->losses[STEPS - 1] < 0.8 * got->losses[0]);
}

static void assert_same_bits(const struct result *a, const struct result *b)
{
    assert_memory_equal(a->losses, b->losses, sizeof a->losses);
    assert_memory_equal(a->masters, b->masters, a->bytes);
}

static void losses_in_float32_are_those_of_the_cpu_and_the_bits_come_again(void **state)
{
    (void)state;
    struct result want = train_on_cpu(CONFIGS[0]), got = train_on_gpu(0, TRM_F32, CONFIGS[0]);
    struct result again = train_on_gpu(1, TRM_F32, CONFIGS[0]);
    compare(&got, &want, 1e-4);
    assert_same_bits(&got, &again);
    free(want.masters);
    free(got.masters);
    free(again.masters);
}

static void losses_in_bfloat16_are_near_the_cpus_and_the_bits_come_again(void **state)
{
    (void)state;
    struct result want = train_on_cpu(CONFIGS[0]), got = train_on_gpu(0, TRM_BF16, CONFIGS[0]);
    struct result again = train_on_gpu(1, TRM_BF16, CONFIGS[0]);
    struct result recomputed = train_on_gpu(0, TRM_BF16, CONFIGS[1]);
    compare(&got, &want, 1e-2);
    assert_same_bits(&got, &again);
    assert_same_bits(&got, &recomputed);
    free(want.masters);
    free(got.masters);
    free(again.masters);
    free(recomputed.masters);
}

/* A search may choose others than the runs above, which then stay. */
static void the_algorithms_of_products_can_be_carried_over(void **state)
{
    size_t shift, bytes = trm_cuda_choices_bytes();
    struct trm_device device = trial_open(0, &shift);
    void *kept = calloc(1, bytes), *none = calloc(1, bytes), *after = calloc(1, bytes);
    const int64_t wrong = -1;
    (void)state;
    assert_true(trm_cuda_choices_set(&device, none));
    assert_int_equal(trm_cuda_choices_count(&device), 0);
    trm_cuda_search(&device, true);
    struct result r = train(&device, TRM_BF16, CONFIGS[0]);
    trm_cuda_search(&device, false);
    assert_true(trm_cuda_choices_count(&device) > 0);
    trm_cuda_choices_get(&device, kept);
    assert_true(trm_cuda_choices_set(&device, none));
    assert_true(trm_cuda_choices_set(&device, kept));
    memcpy(none, &wrong, sizeof wrong);
    assert_false(trm_cuda_choices_set(&device, none));
    /* The same shapes need no more. */
    struct result again = train(&device, TRM_BF16, CONFIGS[0]);
    trm_cuda_choices_get(&device, after);
    assert_memory_equal(after, kept, bytes);
    free(r.masters);
    free(again.masters);
    free(kept);
    free(none);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_in_float32_are_those_of_the_cpu_and_the_bits_come_again),
        cmocka_unit_test(losses_in_bfloat16_are_near_the_cpus_and_the_bits_come_again),
        cmocka_unit_test(the_algorithms_of_products_can_be_carried_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
