/*
 * A model, its optimizer state and one device, without data, ranks or checkpoints: what tests and
 * benchmarks of a device train. Parameters and activations are of the type asked for; masters and
 * gradients are float32. All of it lies in one allocation of the device's memory.
 */
#ifndef TRM_TESTS_GPU_BARE_TRAINER_H
#define TRM_TESTS_GPU_BARE_TRAINER_H

#include "trainer/model/model.h"

struct bare_trainer {
    struct trm_device *device; /* borrowed */
    struct trm_config *config;
    struct trm_comm *self;
    struct trm_layout *layout;
    struct trm_model *model;
    struct trm_arena arena;
    void *memory;
    enum trm_type type;
    void *parameters; /* flat vectors of layout->elements */
    float *masters;   /* the parameters themselves when the type is float32 */
    float *gradients, *exp_avg, *exp_avg_sq;
    int32_t *inputs, *targets; /* [tokens] */
    struct trm_exact_sum *loss;
    int64_t tokens; /* of a step: one micro-batch */
    int64_t step;
};

/* `yaml` as a configuration file has it. Weights are those of its seed. */
enum trm_status bare_trainer_open(struct bare_trainer *t, struct trm_device *device,
                                  enum trm_type type, const char *yaml, struct trm_error *err);
void bare_trainer_close(struct bare_trainer *t);

/* One step on tokens in the host's memory; *loss is the mean before the update. */
enum trm_status bare_trainer_step(struct bare_trainer *t, const int32_t *inputs,
                                  const int32_t *targets, double *loss, struct trm_error *err);

/* The step without the optimizer's part, on the tokens of the last one. */
enum trm_status bare_trainer_gradients(struct bare_trainer *t, double *loss, struct trm_error *err);
void bare_trainer_update(struct bare_trainer *t);

#endif
