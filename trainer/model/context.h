/*
 * What the layers of a model share: sizes, the flat vectors, the tensor-parallel sum, hooks and
 * scratch. Internal to trainer/model.
 *
 * Letters: N rows (batch x sequence), C hidden size, F ffn size of this rank, A attention width of
 * this rank (its heads x head size), V vocabulary rows of this rank.
 */
#ifndef TRM_TRAINER_MODEL_CONTEXT_H
#define TRM_TRAINER_MODEL_CONTEXT_H

#include "trainer/model/model.h"

#define TRM_PENDING_NORMS 2 /* of a transformer layer */

struct trm_norm_layer {
    int weight, bias; /* tensors of the layout */
};

struct trm_model_context {
    const struct trm_config *config;
    const struct trm_layout *layout;
    struct trm_device *device;
    const struct trm_ops *ops;
    struct trm_comm *tensor;
    /* NULL for one tensor-parallel rank; one for both where the types are the same. */
    struct trm_ordered_all_reduce *tensor_sum, *wide_sum;
    enum trm_type type;      /* of parameters and activations */
    enum trm_type wide_type; /* of statistics and gradients of parameters: float32 for bfloat16 */
    bool training;
    bool sequence_parallel; /* the stream is cut by rows over the tensor group (stream.h) */

    int64_t batch, seq_length; /* of the pass under way: sampling runs shorter sequences */
    int64_t max_rows;          /* batch x seq_length at most */
    int64_t hidden, ffn, attention_width, heads, head_size;
    int64_t vocabulary, first_vocabulary_row, valid_vocabulary_rows;

    char *parameters; /* flat vectors of `type` and `wide_type` */
    char *gradients;
    bool accumulate; /* the gradients hold earlier micro-batches of the lane */
    const struct trm_model_hooks *hooks;
    enum trm_status status; /* the first failure of the tensor group */
    struct trm_error error;

    /* Scratch that no layer keeps. */
    struct trm_tensor branch;   /* [N, C] output of a sublayer, or gradient into a norm */
    struct trm_tensor gathered; /* [N, C]; this and what follows for sequence parallelism alone */
    struct trm_request *gather; /* owned */

    /* Gradients of norms over this rank's rows, [2 TRM_PENDING_NORMS, C]: weight and bias of each.
     */
    struct trm_tensor norm_parts;
    const struct trm_norm_layer *pending_norms[TRM_PENDING_NORMS];
    int pending_norm_count;
    struct trm_tensor wide;   /* [N, max(F, 3 A)] gradient inside a sublayer */
    struct trm_tensor narrow; /* [N, A] gradient of the attention's output */
};

/* Rows of the pass under way. */
int64_t trm_context_rows(const struct trm_model_context *c);

/* Memory for an [rows, columns] tensor of the model's type. */
struct trm_tensor trm_context_alloc(struct trm_model_context *c, struct trm_arena *arena,
                                    enum trm_arena_category category, int64_t rows,
                                    int64_t columns);

/* The same for statistics, of the wide type. */
struct trm_tensor trm_context_alloc_wide(struct trm_model_context *c, struct trm_arena *arena,
                                         enum trm_arena_category category, int64_t rows,
                                         int64_t columns);

/* Views of `count` adjacent tensors of the layout, as one matrix (or vector, when 1-D). */
struct trm_tensor trm_context_parameter(const struct trm_model_context *c, int tensor, int count);
struct trm_tensor trm_context_gradient(const struct trm_model_context *c, int tensor, int count);

/* The same, zeroed first when this is the first micro-batch of a lane: for ops that only add. */
struct trm_tensor trm_context_gradient_to_add(const struct trm_model_context *c, int tensor,
                                              int count);

/* Keeps the first failure of a pass. */
void trm_context_keep(struct trm_model_context *c, enum trm_status status,
                      const struct trm_error *error);

/* t becomes its sum over the tensor-parallel ranks; contiguous, of either type. */
void trm_context_tensor_sum(struct trm_model_context *c, struct trm_tensor t);

/* The maximum over the tensor-parallel ranks, elementwise. */
void trm_context_tensor_max(struct trm_model_context *c, struct trm_tensor t);

void trm_context_param_wait(const struct trm_model_context *c, int first, int count);
void trm_context_backward(const struct trm_model_context *c);
void trm_context_grad_ready(const struct trm_model_context *c, int first, int count);

#endif
