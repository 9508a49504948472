/* Token and position embeddings. The token table is cut by vocabulary rows over tensor-parallel
 * ranks: each rank looks up what it holds, and the sum over ranks is the lookup. */
#ifndef TRM_TRAINER_MODEL_EMBEDDING_H
#define TRM_TRAINER_MODEL_EMBEDDING_H

#include "trainer/model/stream.h"

struct trm_embedding {
    int token, position; /* tensors of the layout */
};

/* x, this rank's rows of the stream, from tokens[N]. */
void trm_embedding_forward(struct trm_model_context *c, const struct trm_embedding *layer,
                           struct trm_tensor x, struct trm_tensor tokens);

/* Gradients of both tables from dx, of this rank's rows. The token table's is added to: it is tied
 * to the head's, which writes first. */
void trm_embedding_backward(struct trm_model_context *c, const struct trm_embedding *layer,
                            struct trm_tensor dx, struct trm_tensor tokens);

#endif
