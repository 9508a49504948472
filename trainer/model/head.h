/*
 * The language-model head and its loss: logits = x w^T over a vocabulary that may be cut over
 * tensor-parallel ranks, softmax cross-entropy, and the gradients, chunk of rows by chunk of rows,
 * so that the logits of a whole batch are never held.
 */
#ifndef TRM_TRAINER_MODEL_HEAD_H
#define TRM_TRAINER_MODEL_HEAD_H

#include "trainer/model/stream.h"

struct trm_head {
    int weight; /* tensor of the layout; tied to the token embedding */
    int64_t chunk_rows;
    struct trm_tensor logits;  /* [chunk_rows, V] */
    struct trm_tensor maximum; /* [chunk_rows]; where ranks share the vocabulary */
    struct trm_tensor sums;    /* [2, chunk_rows]; the same */
    struct trm_tensor loss;    /* [N] of the whole pass */
};

/* Decides the chunk (a function of sizes alone, so the bits don't depend on the machine). */
void trm_head_place(struct trm_model_context *c, struct trm_arena *arena, struct trm_head *head);

/* Losses of all rows into head->loss; x holds this rank's rows of the stream. With dx.data, scratch
 * of [N, C], the weight's gradient is written, and this rank's rows of the gradient of the sum of
 * the losses are returned, complete over ranks. */
struct trm_tensor trm_head_loss(struct trm_model_context *c, struct trm_head *head,
                                struct trm_tensor x, struct trm_tensor targets,
                                struct trm_tensor dx);

/* [N], of the pass under way. */
struct trm_tensor trm_head_losses(const struct trm_model_context *c, const struct trm_head *head);

/* logits[1, V] of one row. */
struct trm_tensor trm_head_logits(struct trm_model_context *c, struct trm_head *head,
                                  struct trm_tensor row);

#endif
