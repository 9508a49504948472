#include "trainer/pieces.h"

#include <stdio.h>
#include <stdlib.h>

struct trm_ckpt_tensor *trm_pieces_tensors(const struct trm_layout *layout)
{
    struct trm_ckpt_tensor *tensors = calloc((size_t)layout->tensor_count, sizeof *tensors);

    for (int i = 0; tensors && i < layout->tensor_count; i++) {
        const struct trm_tensor_spec *spec = &layout->tensors[i].spec;
        snprintf(tensors[i].name, sizeof tensors[i].name, "%s", spec->name);
        tensors[i].type = TRM_F32;
        tensors[i].dims = spec->dims;
        tensors[i].rows = spec->rows;
        tensors[i].columns = spec->columns;
    }
    return tensors;
}

float *trm_pieces_parameters(const struct trm_pieces_memory *memory,
                             const struct trm_layout_run *run)
{
    return memory->parameters +
           (memory->parameters_are_owned ? run->owned_offset : run->flat_offset);
}

/* One run in one kind: at most three rectangles, stored one after the other at `data`. */
static int add_pieces(const struct trm_layout_tensor *t, const struct trm_layout_run *run,
                      int tensor, enum trm_ckpt_kind kind, float *data,
                      struct trm_ckpt_piece *pieces)
{
    struct trm_rect whole = {t->first_row, t->first_column, t->valid_rows, t->columns};
    struct trm_rect rects[TRM_RECT_SPLIT_MAX];
    int64_t valid = t->valid_rows * t->columns;
    int64_t end = run->end < valid ? run->end : valid;
    int count = run->begin < end ? trm_rect_split(whole, run->begin, end, rects) : 0;

    for (int i = 0; i < count; i++) {
        pieces[i] = (struct trm_ckpt_piece){tensor, kind, rects[i], data};
        data += trm_rect_elements(rects[i]);
    }
    return count;
}

enum trm_status trm_pieces_of_runs(const struct trm_layout *layout,
                                   const struct trm_layout_run *runs, int run_count,
                                   const struct trm_pieces_memory *memory, const int *tensor_number,
                                   bool counted_only, struct trm_ckpt_piece **pieces,
                                   int *piece_count, struct trm_error *err)
{
    size_t most = (size_t)run_count * TRM_KIND_COUNT * TRM_RECT_SPLIT_MAX;
    struct trm_ckpt_piece *list = calloc(most + 1, sizeof *list);
    int count = 0;

    if (!list)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to list the pieces of a checkpoint");
    for (int i = 0; i < run_count; i++) {
        const struct trm_layout_run *run = &runs[i];
        const struct trm_layout_tensor *t = &layout->tensors[run->tensor];
        int tensor = tensor_number ? tensor_number[run->tensor] : run->tensor;
        float *data[TRM_KIND_COUNT] = {
            [TRM_KIND_PARAMETER] = trm_pieces_parameters(memory, run),
            [TRM_KIND_EXP_AVG] = memory->exp_avg + run->owned_offset,
            [TRM_KIND_EXP_AVG_SQ] = memory->exp_avg_sq + run->owned_offset,
        };
        if (counted_only && !t->counted)
            continue;
        for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
            count += add_pieces(t, run, tensor, (enum trm_ckpt_kind)kind, data[kind], list + count);
    }
    *pieces = list;
    *piece_count = count;
    return TRM_OK;
}
