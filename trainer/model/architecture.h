/* A row of the table of architectures. A new one is a file like gpt2.c and a line in model.c. */
#ifndef TRM_TRAINER_MODEL_ARCHITECTURE_H
#define TRM_TRAINER_MODEL_ARCHITECTURE_H

#include "trainer/model/context.h"

struct trm_model_architecture {
    const char *name;
    int (*declare)(const struct trm_config *config, int tensor_size, struct trm_tensor_spec *specs,
                   int max);
    /* Finds the tensors in the layout; *state is owned by the model (destroy). */
    enum trm_status (*create)(struct trm_model_context *c, void **state, struct trm_error *err);
    void (*destroy)(void *state);
    void (*place)(struct trm_model_context *c, void *state, struct trm_arena *arena);
    /* Losses of all rows (returned, [N]) and, when `backward`, all gradients. */
    struct trm_tensor (*loss)(struct trm_model_context *c, void *state, struct trm_tensor inputs,
                              struct trm_tensor targets, bool backward);
    /* Logits [1, V] after the last input. */
    struct trm_tensor (*next_logits)(struct trm_model_context *c, void *state,
                                     struct trm_tensor inputs);
};

extern const struct trm_model_architecture trm_architecture_gpt2;

#endif
