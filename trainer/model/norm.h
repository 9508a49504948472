/* A norm layer with weight and bias, replicated on tensor-parallel ranks, over this rank's rows of
 * the stream. */
#ifndef TRM_TRAINER_MODEL_NORM_H
#define TRM_TRAINER_MODEL_NORM_H

#include "trainer/model/stream.h"

/* What backward needs besides the input. */
struct trm_norm_state {
    struct trm_tensor mean, rstd; /* [N] */
};

void trm_norm_place(struct trm_model_context *c, struct trm_arena *arena,
                    struct trm_norm_state *state);
void trm_norm_forward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                      struct trm_norm_state *state, struct trm_tensor y, struct trm_tensor x);

/* total = x + branch, and y = norm(total). */
void trm_norm_residual_forward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                               struct trm_norm_state *state, struct trm_tensor y,
                               struct trm_tensor total, struct trm_tensor x,
                               struct trm_tensor branch);

/* dx += the gradient through the norm; the layer's own are complete after
 * trm_norm_finish_gradients. */
void trm_norm_backward(struct trm_model_context *c, const struct trm_norm_layer *layer,
                       const struct trm_norm_state *state, struct trm_tensor dx,
                       struct trm_tensor dy, struct trm_tensor x);

/* The gradients of norms whose backward was called since the last time, TRM_PENDING_NORMS at most,
 * become those of all rows. Collective where the stream is cut, else they are so already. */
void trm_norm_finish_gradients(struct trm_model_context *c);

#endif
