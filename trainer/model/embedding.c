#include "trainer/model/embedding.h"

void trm_embedding_forward(struct trm_model_context *c, const struct trm_embedding *layer,
                           struct trm_tensor x, struct trm_tensor tokens)
{
    struct trm_tensor whole =
        c->sequence_parallel ? trm_tensor_rows(c->branch, 0, trm_context_rows(c)) : x;
    struct trm_tensor mine;

    c->ops->embedding_forward(c->device, whole, tokens, trm_context_parameter(c, layer->token, 1),
                              c->first_vocabulary_row);
    mine = trm_stream_sum(c, whole);
    c->ops->position_forward(c->device, whole, trm_context_parameter(c, layer->position, 1),
                             c->seq_length, 0);
    if (c->sequence_parallel)
        c->ops->copy(c->device, x, mine);
}

void trm_embedding_backward(struct trm_model_context *c, const struct trm_embedding *layer,
                            struct trm_tensor dx, struct trm_tensor tokens)
{
    dx = trm_stream_gather(c, dx);
    c->ops->position_backward(c->device, trm_context_gradient_to_add(c, layer->position, 1), dx,
                              c->seq_length);
    trm_context_grad_ready(c, layer->position, 1);
    c->ops->embedding_backward(c->device, trm_context_gradient(c, layer->token, 1), dx, tokens,
                               c->first_vocabulary_row);
    trm_context_grad_ready(c, layer->token, 1);
}
