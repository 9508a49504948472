#include "checkpoint/restore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "checkpoint/restore_index.h"

enum trm_status trm_restore_read_slice(struct trm_source *source, int64_t number,
                                       const struct trm_ckpt_tensor *tensors, void *data,
                                       struct trm_error *err)
{
    const struct trm_slice *slice = &source->slices[number];
    size_t bytes = (size_t)trm_slice_bytes(slice, tensors[slice->tensor].type);
    enum trm_status status = source->operations->read(source, number, data, bytes, err);
    if (status != TRM_OK)
        return status;
    uint64_t checksum = trm_hash64(data, bytes);
    if (checksum == slice->checksum)
        return TRM_OK;
    char words[256];
    return trm_error_set(
        err, TRM_ERR_CORRUPT, "%s: %s have checksum %016" PRIx64 ", not %016" PRIx64, source->name,
        trm_slice_describe(words, sizeof(words), tensors, slice), checksum, slice->checksum);
}

/* One run: the plan at hand, and what has to be planned again. */
struct run {
    struct trm_restore *restore;
    const struct trm_ckpt_piece *pieces;
    struct trm_restore_want *failed; /* room for all copies of the plan at hand */
    int64_t failed_count;
    char *slice; /* TRM_CKPT_SLICE_BYTES */
    int64_t bytes_read;
    struct trm_error first; /* failure of a slice */
};

/* Where `rect` begins in a piece. */
static char *place_in(const struct trm_ckpt_piece *piece, struct trm_rect rect,
                      int64_t element_bytes)
{
    int64_t row = rect.row - piece->rect.row, column = rect.column - piece->rect.column;
    return (char *)piece->data + (row * piece->rect.columns + column) * element_bytes;
}

/* The place of the slice inside the piece, when it lies there as it lies in the file; else NULL. */
static char *direct_place(const struct run *run, const struct trm_slice *slice,
                          const struct trm_restore_copy *copies, int64_t count,
                          int64_t element_bytes)
{
    const struct trm_ckpt_piece *piece = &run->pieces[copies[0].piece];
    if (count != 1 || trm_rect_elements(copies[0].rect) != trm_rect_elements(slice->rect) ||
        (slice->rect.columns != piece->rect.columns && slice->rect.rows != 1))
        return NULL;
    return place_in(piece, slice->rect, element_bytes);
}

void trm_restore_place(const struct trm_restore *restore, const struct trm_ckpt_piece *pieces,
                       const struct trm_restore_copy *copy, const void *data)
{
    const struct trm_ckpt_piece *piece = &pieces[copy->piece];
    const struct trm_slice *slice = &restore->sources[copy->source]->slices[copy->number];
    const struct trm_rect rect = copy->rect;
    int64_t element_bytes = (int64_t)trm_type_bytes(restore->tensors[slice->tensor].type);
    char *to = place_in(piece, rect, element_bytes);
    int64_t row = rect.row - slice->rect.row, column = rect.column - slice->rect.column;
    const char *from = (const char *)data + (row * slice->rect.columns + column) * element_bytes;
    for (int64_t r = 0; r < rect.rows; r++) {
        memcpy(to, from, (size_t)(rect.columns * element_bytes));
        to += piece->rect.columns * element_bytes;
        from += slice->rect.columns * element_bytes;
    }
}

void trm_restore_strike(struct trm_restore *restore, const struct trm_restore_copy *copy)
{
    const struct trm_slice *slice = &restore->sources[copy->source]->slices[copy->number];
    int64_t group = (int64_t)slice->tensor * TRM_KIND_COUNT + slice->kind;
    for (int64_t i = restore->group_begin[group]; i < restore->group_begin[group + 1]; i++)
        if (restore->refs[i].source == copy->source && restore->refs[i].number == copy->number)
            restore->refs[i].bad = true;
}

/* All copies out of one slice. A failure is kept, not returned: another source may do. */
static void run_slice(struct run *run, const struct trm_restore_copy *copies, int64_t count)
{
    struct trm_restore *restore = run->restore;
    struct trm_source *source = restore->sources[copies[0].source];
    const struct trm_slice *slice = &source->slices[copies[0].number];
    enum trm_type type = restore->tensors[slice->tensor].type;
    int64_t element_bytes = (int64_t)trm_type_bytes(type);
    char *direct = direct_place(run, slice, copies, count, element_bytes);
    struct trm_error reason = {0};
    enum trm_status status = trm_restore_read_slice(source, copies[0].number, restore->tensors,
                                                    direct != NULL ? direct : run->slice, &reason);
    run->bytes_read += trm_slice_bytes(slice, type);
    if (status != TRM_OK) {
        trm_restore_strike(restore, &copies[0]);
        if (restore->passed_over != NULL)
            restore->passed_over(restore->context, source->name, reason.text);
        if (run->first.status == TRM_OK)
            run->first = reason;
        for (int64_t i = 0; i < count; i++)
            run->failed[run->failed_count++] =
                (struct trm_restore_want){copies[i].piece, copies[i].rect};
        return;
    }
    if (direct == NULL)
        for (int64_t i = 0; i < count; i++)
            trm_restore_place(restore, run->pieces, &copies[i], run->slice);
}

/* The slice after the one at hand, so that a disk is not idle while that is checked and copied. */
static void announce(const struct trm_restore *restore, struct trm_source *source,
                     const struct trm_restore_copy *copy)
{
    const struct trm_slice *slice = &source->slices[copy->number];
    bool whole = trm_rect_elements(copy->rect) == trm_rect_elements(slice->rect);
    if (source->operations->ahead != NULL)
        source->operations->ahead(
            source, copy->number,
            (size_t)trm_slice_bytes(slice, restore->tensors[slice->tensor].type), whole);
}

static void run_copies(struct run *run, const struct trm_restore_copy *copies, int64_t count)
{
    int64_t begin = 0;
    while (begin < count) {
        int64_t end = begin + 1;
        while (end < count && copies[end].source == copies[begin].source &&
               copies[end].number == copies[begin].number)
            end++;
        struct trm_source *source = run->restore->sources[copies[begin].source];
        if (end < count && copies[end].source == copies[begin].source)
            announce(run->restore, source, &copies[end]);
        run_slice(run, &copies[begin], end - begin);
        if (end == count || copies[end].source != copies[begin].source)
            source->operations->idle(source);
        begin = end;
    }
}

/* Plans `wants` and runs the plan; what failed are the next wants. Takes `wants`. */
static enum trm_status run_round(struct run *run, struct trm_restore_want **wants,
                                 int64_t *want_count, struct trm_error *err)
{
    struct trm_restore_copy *copies = NULL;
    int64_t copy_count = 0;
    enum trm_status status =
        trm_restore_plan(run->restore, run->pieces, *wants, *want_count, &copies, &copy_count, err);
    if (status == TRM_ERR_CORRUPT && run->first.status != TRM_OK)
        status = trm_error_set(err, run->first.status, "%s", run->first.text);
    if (status != TRM_OK)
        return status;
    run->failed_count = 0;
    run->failed = malloc((size_t)copy_count * sizeof(*run->failed) + 1);
    if (run->failed == NULL) {
        free(copies);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a restore plan");
    }
    run_copies(run, copies, copy_count);
    free(copies);
    free(*wants);
    *wants = run->failed;
    *want_count = run->failed_count;
    return TRM_OK;
}

enum trm_status trm_restore_check_pieces(const struct trm_restore *restore,
                                         const struct trm_ckpt_piece *pieces, int piece_count,
                                         struct trm_error *err)
{
    for (int p = 0; p < piece_count; p++) {
        const struct trm_ckpt_piece *piece = &pieces[p];
        bool known = piece->tensor >= 0 && piece->tensor < restore->tensor_count &&
                     (unsigned)piece->kind < TRM_KIND_COUNT;
        if (!known ||
            !trm_rect_contains(trm_ckpt_tensor_rect(&restore->tensors[piece->tensor]), piece->rect))
            return trm_error_set(err, TRM_ERR_INTERNAL,
                                 "wanted piece %d lies outside the tensors of the checkpoint", p);
    }
    return TRM_OK;
}

enum trm_status trm_restore_run(struct trm_restore *restore, const struct trm_ckpt_piece *pieces,
                                int piece_count, int64_t *bytes_read, struct trm_error *err)
{
    enum trm_status status = trm_restore_check_pieces(restore, pieces, piece_count, err);
    if (status != TRM_OK)
        return status;
    struct run run = {.restore = restore, .pieces = pieces};
    int64_t want_count = piece_count;
    struct trm_restore_want *wants = malloc((size_t)piece_count * sizeof(*wants) + 1);
    run.slice = malloc(TRM_CKPT_SLICE_BYTES);
    if (wants == NULL || run.slice == NULL) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading a checkpoint");
        goto cleanup;
    }
    for (int p = 0; p < piece_count; p++)
        wants[p] = (struct trm_restore_want){p, pieces[p].rect};
    /* Ends: each round that leaves something over has struck off a slice. */
    while (status == TRM_OK && want_count > 0)
        status = run_round(&run, &wants, &want_count, err);
    if (status == TRM_OK && bytes_read != NULL)
        *bytes_read += run.bytes_read;
cleanup:
    free(wants);
    free(run.slice);
    return status;
}
