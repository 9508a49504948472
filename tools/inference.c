#include "tools/inference.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/load.h"
#include "tools/formats/foreign.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/pieces.h"

static enum trm_status create_layout(struct trm_inference *in, struct trm_error *err)
{
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = 1};
    int count = trm_model_declare(in->config, 1, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);
    enum trm_status status;

    if (!specs)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", count);
    trm_model_declare(in->config, 1, specs, count);
    status = trm_layout_create(specs, count, &shape, &in->layout, err);
    free(specs);
    return status;
}

/* The model and its memory: measured, committed, placed. */
static enum trm_status create_model(struct trm_inference *in, float **parameters,
                                    struct trm_error *err)
{
    struct trm_model_setup setup = {.config = in->config,
                                    .layout = in->layout,
                                    .device = &in->device,
                                    .tensor = in->self,
                                    .type = TRM_F32,
                                    .batch = 1};
    size_t bytes = (size_t)in->layout->elements * sizeof(float);
    enum trm_status status = trm_model_create(&setup, &in->model, err);

    trm_arena_init(&in->arena);
    for (int pass = 0; pass < 2 && status == TRM_OK; pass++) {
        if (pass == 1)
            status = trm_arena_commit(&in->arena, err);
        if (status != TRM_OK)
            return status;
        *parameters = trm_arena_alloc(&in->arena, TRM_ARENA_PARAMETERS, bytes);
        status = trm_model_place(in->model, &in->arena, err);
    }
    trm_model_set_parameters(in->model, *parameters);
    return status;
}

static enum trm_status load_parameters(struct trm_inference *in, struct trm_checkpoint *checkpoint,
                                       float *parameters, struct trm_error *err)
{
    struct trm_ckpt_piece *pieces = calloc((size_t)in->layout->tensor_count, sizeof *pieces);
    enum trm_status status = TRM_OK;

    if (!pieces)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to list the model's tensors");
    for (int i = 0; i < in->layout->tensor_count && status == TRM_OK; i++) {
        const struct trm_layout_tensor *t = &in->layout->tensors[i];
        int found = trm_checkpoint_find(checkpoint, t->spec.name);
        if (found < 0)
            status = trm_error_set(err, TRM_ERR_MISMATCH, "no tensor \"%s\" in checkpoint \"%s\"",
                                   t->spec.name, trm_checkpoint_path(checkpoint));
        pieces[i] = (struct trm_ckpt_piece){
            .tensor = found,
            .kind = TRM_KIND_PARAMETER,
            .rect = {0, 0, t->spec.rows, t->spec.columns},
            .data = parameters + t->offset,
        };
    }
    if (status == TRM_OK)
        status =
            trm_checkpoint_load(in->self, checkpoint, pieces, in->layout->tensor_count, NULL, err);
    free(pieces);
    return status;
}

static enum trm_status read_config(struct trm_inference *in, struct trm_checkpoint *checkpoint,
                                   struct trm_error *err)
{
    const struct trm_ckpt_state *state = &trm_checkpoint_catalog(checkpoint)->state;
    enum trm_status status =
        trm_foreign_config(state->config_yaml, trm_checkpoint_path(checkpoint), &in->config, err);

    in->step = state->step;
    in->valid_loss = state->valid_loss;
    return status;
}

enum trm_status trm_inference_open(const char *where, int threads, struct trm_inference *out,
                                   struct trm_error *err)
{
    struct trm_checkpoint *checkpoint = NULL;
    float *parameters = NULL;
    enum trm_status status;

    memset(out, 0, sizeof *out);
    status = trm_comm_self(&out->self, err);
    if (status == TRM_OK)
        status = trm_checkpoint_open(out->self, where, -1, NULL, NULL, &checkpoint, err);
    if (status == TRM_OK)
        status = read_config(out, checkpoint, err);
    if (status == TRM_OK)
        status = trm_device_cpu(&out->device, threads, err);
    if (status == TRM_OK)
        status = create_layout(out, err);
    if (status == TRM_OK)
        status = create_model(out, &parameters, err);
    if (status == TRM_OK)
        status = load_parameters(out, checkpoint, parameters, err);
    trm_checkpoint_close(checkpoint);
    if (status != TRM_OK)
        trm_inference_close(out);
    return status;
}

void trm_inference_close(struct trm_inference *in)
{
    trm_model_destroy(in->model);
    trm_arena_destroy(&in->arena);
    trm_layout_destroy(in->layout);
    trm_config_destroy(in->config);
    trm_comm_destroy(in->self);
    memset(in, 0, sizeof *in);
}
