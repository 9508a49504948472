/*
 * A pre-norm transformer layer: x += attention(norm(x)); x += mlp(norm(x)).
 *
 * What a sublayer adds to the residual stream is added by the norm that follows, which reads the
 * stream anyway. So a layer ends with two parts of its output, state->middle and c->branch, and the
 * next layer, or the final norm, begins with their sum.
 *
 * What backward needs is kept per layer, or, under full recomputation, in one set that all layers
 * share: then only each layer's input is kept, and backward runs the layer's forward again (the
 * same ops on the same values: the same bits). Or layers share what the attention half needs, up to
 * its output, and backward runs that part again.
 */
#ifndef TRM_TRAINER_MODEL_BLOCK_H
#define TRM_TRAINER_MODEL_BLOCK_H

#include "trainer/model/linear.h"
#include "trainer/model/norm.h"

struct trm_block {
    struct trm_norm_layer norm1, norm2;
    struct trm_linear qkv, projection; /* attention */
    struct trm_linear up, down;        /* mlp */
    int first_tensor, tensor_count;    /* the layer's run of the layout */
};

/* Activations of one layer: N rows each, of which a cut stream holds this rank's alone in those of
 * C columns. */
struct trm_block_state {
    struct trm_norm_state norm1, norm2;
    struct trm_tensor normed1;       /* [N, C]; this and the next three may be shared */
    struct trm_tensor qkv;           /* [N, 3 A] */
    struct trm_tensor attended;      /* [N, A] */
    struct trm_tensor log_sum_exp;   /* [B H, T] */
    struct trm_tensor middle;        /* [N, C] residual stream between the two halves */
    struct trm_tensor normed2;       /* [N, C] */
    struct trm_tensor pre, expanded; /* [N, F] before and after the activation */
};

/* With `shared`, the attention half is that of another state. */
void trm_block_place(struct trm_model_context *c, struct trm_arena *arena,
                     struct trm_block_state *state, const struct trm_block_state *shared);

/* The layer's input is x, this rank's rows of the stream; with before.data, x is written first:
 * before + c->branch, as the layer before left them (`before` may be this state's middle). `whole`
 * false: only what backward needs is computed, and c->branch is not the layer's. */
void trm_block_forward(struct trm_model_context *c, const struct trm_block *block,
                       struct trm_block_state *state, struct trm_tensor x, struct trm_tensor before,
                       bool whole);

/* dx holds the gradient of the layer's output and becomes that of its input. `attend_again`: the
 * attention half has been another layer's since. */
void trm_block_backward(struct trm_model_context *c, const struct trm_block *block,
                        struct trm_block_state *state, struct trm_tensor dx, struct trm_tensor x,
                        bool attend_again);

#endif
