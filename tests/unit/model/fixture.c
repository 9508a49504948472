#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/reference/reference.h"

static const char config_text[] = "model: {num_layers: 3, hidden_size: 12, num_attention_heads: 3, "
                                  "seq_length: 7, vocab_size: 29,\n"
                                  "        make_vocab_size_divisible_by: 8}\n"
                                  "training: {micro_batch_size: 2, global_batch_size: 2}\n"
                                  "data: {train_data_path: [none]}\n";

static void create_layout(struct fixture *f, const struct trm_comm *tensor)
{
    struct trm_layout_shape shape = {
        .tensor_size = tensor->size, .tensor_rank = tensor->rank, .data_size = 1};
    int count = trm_model_declare(f->config, tensor->size, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);

    assert_non_null(specs);
    trm_model_declare(f->config, tensor->size, specs, count);
    assert_int_equal(trm_layout_create(specs, count, &shape, &f->layout, NULL), TRM_OK);
    free(specs);
}

static void fill_parameters(struct fixture *f)
{
    for (int i = 0; i < f->layout->tensor_count; i++) {
        const struct trm_layout_tensor *t = &f->layout->tensors[i];
        double center = t->spec.init == TRM_INIT_ONE ? 1.0 : 0.0;
        for (int64_t e = 0; e < t->valid_rows * t->columns; e++) {
            int64_t row = t->first_row + e / t->columns;
            int64_t column = t->first_column + e % t->columns;
            int64_t global = row * t->spec.columns + column;
            fixture_set(f, f->parameters, t->offset + e,
                        center + 0.3 * trm_random_normal((uint64_t)i, (uint64_t)global));
        }
    }
}

void fixture_open_setup(struct fixture *f, const struct fixture_setup *setup)
{
    struct trm_model_setup model;
    struct trm_error error = {0};

    memset(f, 0, sizeof *f);
    f->type = setup->type;
    assert_int_equal(trm_config_create(&f->config, &error), TRM_OK);
    assert_int_equal(
        trm_config_load_text(f->config, setup->config, strlen(setup->config), "test", &error),
        TRM_OK);
    assert_int_equal(trm_config_check(f->config, setup->tensor->size, &error), TRM_OK);
    f->config->recompute_granularity = (int)setup->recompute;
    if (setup->reference)
        trm_device_reference(&f->device);
    else
        assert_int_equal(trm_device_cpu(&f->device, setup->tensor->size > 1 ? 1 : 2, &error),
                         TRM_OK);
    create_layout(f, setup->tensor);
    model = (struct trm_model_setup){.config = f->config,
                                     .layout = f->layout,
                                     .device = &f->device,
                                     .tensor = setup->tensor,
                                     .type = setup->type,
                                     .batch = f->config->micro_batch_size,
                                     .training = true};
    assert_int_equal(trm_model_create(&model, &f->model, &error), TRM_OK);
    trm_arena_init(&f->arena);
    for (int pass = 0; pass < 2; pass++) {
        size_t bytes = (size_t)f->layout->elements * trm_type_bytes(setup->type);
        if (pass == 1)
            assert_int_equal(trm_arena_commit(&f->arena, &error), TRM_OK);
        f->parameters = trm_arena_alloc(&f->arena, TRM_ARENA_PARAMETERS, bytes);
        f->gradients = trm_arena_alloc(&f->arena, TRM_ARENA_GRADIENTS, bytes);
        assert_int_equal(trm_model_place(f->model, &f->arena, &error), TRM_OK);
    }
    fill_parameters(f);
    trm_model_set_parameters(f->model, f->parameters);
}

void fixture_open(struct fixture *f, enum trm_type type, bool reference,
                  enum trm_recompute recompute)
{
    struct trm_comm *self = NULL;
    assert_int_equal(trm_comm_self(&self, NULL), TRM_OK);
    const struct fixture_setup setup = {.tensor = self,
                                        .config = config_text,
                                        .type = type,
                                        .reference = reference,
                                        .recompute = recompute};
    fixture_open_setup(f, &setup);
    f->self = self;
}

void fixture_close(struct fixture *f)
{
    trm_model_destroy(f->model);
    trm_arena_destroy(&f->arena);
    trm_layout_destroy(f->layout);
    trm_comm_destroy(f->self);
    trm_config_destroy(f->config);
}

double fixture_get(const struct fixture *f, const void *vector, int64_t i)
{
    return f->type == TRM_F64 ? ((const double *)vector)[i] : ((const float *)vector)[i];
}

void fixture_set(const struct fixture *f, void *vector, int64_t i, double value)
{
    if (f->type == TRM_F64)
        ((double *)vector)[i] = value;
    else
        ((float *)vector)[i] = (float)value;
}

void fixture_tokens(const struct fixture *f, int which, int32_t *inputs, int32_t *targets)
{
    int64_t rows = f->config->micro_batch_size * f->config->seq_length;
    for (int64_t i = 0; i < rows; i++) {
        inputs[i] = (int32_t)(trm_random_bits((uint64_t)which, (uint64_t)(2 * i)) % 29);
        targets[i] = (int32_t)(trm_random_bits((uint64_t)which, (uint64_t)(2 * i + 1)) % 29);
    }
}
