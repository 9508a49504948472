#include "tests/gpu/bare_trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/model/init.h"

static enum trm_status create_layout(struct bare_trainer *t, struct trm_error *err)
{
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = 1};
    int count = trm_model_declare(t->config, 1, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);
    enum trm_status status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", count);

    if (specs) {
        trm_model_declare(t->config, 1, specs, count);
        status = trm_layout_create(specs, count, &shape, &t->layout, err);
    }
    free(specs);
    return status;
}

static enum trm_status place(struct bare_trainer *t, struct trm_error *err)
{
    struct trm_arena *arena = &t->arena;
    size_t elements = (size_t)t->layout->elements, bytes = elements * sizeof(float);

    t->masters = trm_arena_alloc(arena, TRM_ARENA_PARAMETERS, bytes);
    t->parameters = t->type == TRM_F32 ? (void *)t->masters
                                       : trm_arena_alloc(arena, TRM_ARENA_PARAMETERS,
                                                         elements * trm_type_bytes(t->type));
    t->gradients = trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, bytes);
    t->exp_avg = trm_arena_alloc(arena, TRM_ARENA_OPTIMIZER, bytes);
    t->exp_avg_sq = trm_arena_alloc(arena, TRM_ARENA_OPTIMIZER, bytes);
    t->inputs = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, (size_t)t->tokens * sizeof *t->inputs);
    t->targets =
        trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, (size_t)t->tokens * sizeof *t->targets);
    t->loss = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, sizeof *t->loss);
    return trm_model_place(t->model, arena, err);
}

/* Measures, takes that much of the device's memory, zeroes it and hands it out. */
static enum trm_status allocate(struct bare_trainer *t, struct trm_error *err)
{
    enum trm_status status;

    trm_arena_init(&t->arena);
    status = place(t, err);
    if (status != TRM_OK)
        return status;
    t->memory = trm_device_allocate(t->device, t->arena.used);
    if (t->memory)
        t->device->ops->zero(
            t->device, trm_tensor_1d(t->memory, TRM_F32, (int64_t)(t->arena.used / sizeof(float))));
    status = trm_device_sync(t->device, err);
    if (status != TRM_OK)
        return status;
    trm_arena_commit_at(&t->arena, t->memory);
    status = place(t, err);
    trm_model_set_parameters(t->model, t->parameters);
    return status;
}

static enum trm_status fill(struct bare_trainer *t, struct trm_error *err)
{
    size_t bytes = (size_t)t->layout->elements * sizeof(float);
    float *host = calloc(1, bytes);
    struct trm_tensor masters = trm_tensor_1d(t->masters, TRM_F32, t->layout->elements);
    enum trm_status status;

    if (!host)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for initial weights");
    for (int i = 0; i < t->layout->tensor_count; i++) {
        const struct trm_layout_tensor *tensor = &t->layout->tensors[i];
        trm_init_fill(t->layout, i, 0, tensor->elements, (uint64_t)t->config->seed,
                      host + tensor->offset);
    }
    trm_device_upload(t->device, t->masters, host, bytes);
    if (t->type != TRM_F32)
        t->device->ops->copy(t->device, trm_tensor_1d(t->parameters, t->type, t->layout->elements),
                             masters);
    status = trm_device_sync(t->device, err);
    free(host);
    return status;
}

enum trm_status bare_trainer_open(struct bare_trainer *t, struct trm_device *device,
                                  enum trm_type type, const char *yaml, struct trm_error *err)
{
    struct trm_model_setup setup = {.device = device, .type = type, .training = true};
    enum trm_status status;

    *t = (struct bare_trainer){.device = device, .type = type};
    status = trm_config_create(&t->config, err);
    if (status == TRM_OK)
        status = trm_config_load_text(t->config, yaml, strlen(yaml), "bare trainer", err);
    if (status == TRM_OK)
        status = trm_config_check(t->config, 1, err);
    if (status == TRM_OK)
        status = trm_comm_self(&t->self, err);
    if (status == TRM_OK)
        status = create_layout(t, err);
    if (status != TRM_OK)
        return status;
    t->tokens = t->config->micro_batch_size * t->config->seq_length;
    setup.config = t->config;
    setup.layout = t->layout;
    setup.tensor = t->self;
    setup.batch = t->config->micro_batch_size;
    status = trm_model_create(&setup, &t->model, err);
    if (status == TRM_OK)
        status = allocate(t, err);
    return status == TRM_OK ? fill(t, err) : status;
}

void bare_trainer_close(struct bare_trainer *t)
{
    trm_model_destroy(t->model);
    trm_arena_destroy(&t->arena);
    trm_device_release(t->device, t->memory);
    trm_layout_destroy(t->layout);
    trm_comm_destroy(t->self);
    trm_config_destroy(t->config);
}

enum trm_status bare_trainer_gradients(struct bare_trainer *t, double *loss, struct trm_error *err)
{
    struct trm_exact_sum sum;
    enum trm_status status;

    t->device->ops->zero(t->device, trm_tensor_1d(t->loss, TRM_F32, sizeof sum / sizeof(float)));
    status = trm_model_forward_backward(t->model, t->inputs, t->targets, t->gradients, false, NULL,
                                        t->loss, err);
    if (status != TRM_OK)
        return status;
    trm_device_download(t->device, &sum, t->loss, sizeof sum);
    status = trm_device_sync(t->device, err);
    *loss = trm_exact_sum_value(&sum) / (double)t->tokens;
    return status;
}

void bare_trainer_update(struct bare_trainer *t)
{
    int64_t n = t->layout->elements;
    struct trm_adamw settings = {
        .learning_rate = (float)t->config->lr,
        .beta1 = (float)t->config->adam_beta1,
        .beta2 = (float)t->config->adam_beta2,
        .epsilon = (float)t->config->adam_eps,
        .weight_decay = (float)t->config->weight_decay,
        .gradient_scale = (float)(1.0 / (double)t->tokens),
        .rounded = t->type == TRM_BF16 ? t->parameters : NULL,
    };

    t->step++;
    settings.bias_correction1 = (float)(1.0 - pow(t->config->adam_beta1, (double)t->step));
    settings.bias_correction2 = (float)(1.0 - pow(t->config->adam_beta2, (double)t->step));
    t->device->ops->adamw(t->device, trm_tensor_1d(t->masters, TRM_F32, n),
                          trm_tensor_1d(t->exp_avg, TRM_F32, n),
                          trm_tensor_1d(t->exp_avg_sq, TRM_F32, n),
                          trm_tensor_1d(t->gradients, TRM_F32, n), &settings);
}

enum trm_status bare_trainer_step(struct bare_trainer *t, const int32_t *inputs,
                                  const int32_t *targets, double *loss, struct trm_error *err)
{
    size_t bytes = (size_t)t->tokens * sizeof *inputs;
    enum trm_status status;

    trm_device_upload(t->device, t->inputs, inputs, bytes);
    trm_device_upload(t->device, t->targets, targets, bytes);
    status = bare_trainer_gradients(t, loss, err);
    if (status != TRM_OK)
        return status;
    bare_trainer_update(t);
    return trm_device_sync(t->device, err);
}
