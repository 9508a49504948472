/* The layout in the words of checkpoints: global tensors, and owned runs as rectangles of them. */
#ifndef TRM_TRAINER_PIECES_H
#define TRM_TRAINER_PIECES_H

#include "checkpoint/catalog.h"
#include "trainer/plan/layout.h"

/* The layout's tensors as a checkpoint names them; returned owned (free), NULL when out of memory.
 */
struct trm_ckpt_tensor *trm_pieces_tensors(const struct trm_layout *layout);

/* The three states of this rank's shards; each is laid out by layout->tensors[].offset (parameter:
 * the flat vector) or by owned offset (moments). */
struct trm_pieces_memory {
    float *parameters, *exp_avg, *exp_avg_sq;
    bool parameters_are_owned; /* they lie by owned offset, too */
};

/* Where a run's parameters begin. */
float *trm_pieces_parameters(const struct trm_pieces_memory *memory,
                             const struct trm_layout_run *run);

/* Pieces of the runs, padding left out. `tensor_number[i]` is the checkpoint's number of the
 * layout's tensor i (NULL: the same). With `counted_only`, replicated tensors appear on tensor rank
 * 0 alone: for saving. *pieces is returned owned (free). */
enum trm_status trm_pieces_of_runs(const struct trm_layout *layout,
                                   const struct trm_layout_run *runs, int run_count,
                                   const struct trm_pieces_memory *memory, const int *tensor_number,
                                   bool counted_only, struct trm_ckpt_piece **pieces,
                                   int *piece_count, struct trm_error *err);

#endif
