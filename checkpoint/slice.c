#include "checkpoint/slice.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Slices of a piece: whole rows as long as one fits, else runs of one row. Writes to `slices`
 * unless it is NULL; returns how many. Tensor, kind and rect are set. */
static int64_t cut_piece(const struct trm_ckpt_piece *piece, enum trm_type type,
                         struct trm_slice *slices)
{
    int64_t most = TRM_CKPT_SLICE_BYTES / (int64_t)trm_type_bytes(type);
    struct trm_rect whole = piece->rect;
    if (whole.rows == 0 || whole.columns == 0)
        return 0;
    int64_t columns = smaller(whole.columns, most);
    int64_t rows = columns == whole.columns ? most / columns : 1;
    int64_t count = 0;
    for (int64_t row = 0; row < whole.rows; row += rows)
        for (int64_t column = 0; column < whole.columns; column += columns) {
            if (slices != NULL)
                slices[count] = (struct trm_slice){
                    .tensor = piece->tensor,
                    .kind = (int32_t)piece->kind,
                    .rect = {whole.row + row, whole.column + column,
                             smaller(rows, whole.rows - row),
                             smaller(columns, whole.columns - column)},
                };
            count++;
        }
    return count;
}

static enum trm_status check_piece(const struct trm_ckpt_tensor *tensors, int tensor_count,
                                   const struct trm_ckpt_piece *piece, int number,
                                   struct trm_error *err)
{
    if (piece->tensor < 0 || piece->tensor >= tensor_count ||
        (unsigned)piece->kind >= TRM_KIND_COUNT)
        return trm_error_set(err, TRM_ERR_INTERNAL, "piece %d names tensor %d of %d and kind %d",
                             number, piece->tensor, tensor_count, (int)piece->kind);
    const struct trm_ckpt_tensor *tensor = &tensors[piece->tensor];
    struct trm_rect r = piece->rect;
    if (r.rows < 0 || r.columns < 0 || !trm_rect_contains(trm_ckpt_tensor_rect(tensor), r))
        return trm_error_set(
            err, TRM_ERR_INTERNAL,
            "piece %d, %lld x %lld at (%lld, %lld), lies outside tensor \"%s\" of %lld x %lld",
            number, (long long)r.rows, (long long)r.columns, (long long)r.row, (long long)r.column,
            tensor->name, (long long)tensor->rows, (long long)tensor->columns);
    return TRM_OK;
}

static int64_t fill_set(const struct trm_ckpt_tensor *tensors, const struct trm_ckpt_piece *pieces,
                        int piece_count, struct trm_slice_set *set)
{
    int64_t count = 0;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++) {
        int64_t elements = 0;
        for (int p = 0; p < piece_count; p++) {
            const struct trm_ckpt_piece *piece = &pieces[p];
            if ((int)piece->kind != kind)
                continue;
            const char *data = piece->data;
            enum trm_type type = tensors[piece->tensor].type;
            int64_t cut = cut_piece(piece, type, &set->slices[count]);
            for (int64_t i = count; i < count + cut; i++) {
                set->data[i] = data;
                set->slices[i].offset = elements;
                data += trm_slice_bytes(&set->slices[i], type);
                elements += trm_rect_elements(set->slices[i].rect);
            }
            count += cut;
        }
        set->elements[kind] = elements;
    }
    return count;
}

enum trm_status trm_slice_set_cut(const struct trm_ckpt_tensor *tensors, int tensor_count,
                                  const struct trm_ckpt_piece *pieces, int piece_count,
                                  struct trm_slice_set *set, struct trm_error *err)
{
    struct trm_slice_set made = {0};
    for (int p = 0; p < piece_count; p++) {
        enum trm_status status = check_piece(tensors, tensor_count, &pieces[p], p, err);
        if (status != TRM_OK)
            return status;
        made.count += cut_piece(&pieces[p], tensors[pieces[p].tensor].type, NULL);
        if (made.count > TRM_CKPT_MAX_SLICES)
            return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                                 "a shard of over %d slices: save from more ranks",
                                 TRM_CKPT_MAX_SLICES);
    }
    made.slices = calloc((size_t)made.count + 1, sizeof(*made.slices));
    made.data = calloc((size_t)made.count + 1, sizeof(*made.data));
    if (made.slices == NULL || made.data == NULL) {
        int64_t count = made.count;
        trm_slice_set_destroy(&made);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %lld slices",
                             (long long)count);
    }
    int64_t count = fill_set(tensors, pieces, piece_count, &made);
    TRM_ASSERT(count == made.count);
    *set = made;
    return TRM_OK;
}

void trm_slice_set_destroy(struct trm_slice_set *set)
{
    if (set == NULL)
        return;
    free(set->slices);
    free(set->data);
    *set = (struct trm_slice_set){0};
}

void trm_slices_encode(const struct trm_slice *slices, int64_t count, int64_t *rows,
                       uint64_t *checksums)
{
    for (int64_t i = 0; i < count; i++) {
        const struct trm_slice *s = &slices[i];
        const int64_t words[TRM_SLICE_ROW_WORDS] = {
            s->tensor,    s->kind,         s->rect.row, s->rect.column,
            s->rect.rows, s->rect.columns, s->offset,
        };
        for (int w = 0; w < TRM_SLICE_ROW_WORDS; w++)
            rows[i * TRM_SLICE_ROW_WORDS + w] = words[w];
        checksums[i] = s->checksum;
    }
}

static enum trm_status decode_row(const struct trm_catalog *catalog,
                                  const struct trm_ckpt_file *file, int64_t number,
                                  const int64_t *row, struct trm_slice *slice,
                                  struct trm_error *err)
{
    if (row[0] < 0 || row[0] >= catalog->tensor_count)
        return trm_error_set(err, TRM_ERR_CORRUPT, "slice %lld is of tensor %lld of %d",
                             (long long)number, (long long)row[0], catalog->tensor_count);
    if (row[1] < 0 || row[1] >= TRM_KIND_COUNT || !catalog->kinds[row[1]])
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "slice %lld is of kind %lld, which this checkpoint has not got",
                             (long long)number, (long long)row[1]);
    const struct trm_ckpt_tensor *tensor = &catalog->tensors[row[0]];
    struct trm_rect rect = {row[2], row[3], row[4], row[5]};
    if (rect.rows < 1 || rect.columns < 1 || !trm_rect_contains(trm_ckpt_tensor_rect(tensor), rect))
        return trm_error_set(
            err, TRM_ERR_CORRUPT,
            "slice %lld, %lld x %lld at (%lld, %lld), lies outside tensor \"%s\" of %lld x %lld",
            (long long)number, (long long)rect.rows, (long long)rect.columns, (long long)rect.row,
            (long long)rect.column, tensor->name, (long long)tensor->rows,
            (long long)tensor->columns);
    int64_t element_bytes = (int64_t)trm_type_bytes(tensor->type);
    int64_t elements = trm_rect_elements(rect);
    if (elements > TRM_CKPT_SLICE_BYTES / element_bytes)
        return trm_error_set(err, TRM_ERR_CORRUPT, "slice %lld has %lld elements, over %d bytes",
                             (long long)number, (long long)elements, TRM_CKPT_SLICE_BYTES);
    int64_t stored = file->data[row[1]].bytes / element_bytes;
    if (row[6] < 0 || elements > stored || row[6] > stored - elements)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "slice %lld starts at element %lld of the %lld of its dataset",
                             (long long)number, (long long)row[6], (long long)stored);
    *slice = (struct trm_slice){
        .tensor = (int32_t)row[0], .kind = (int32_t)row[1], .rect = rect, .offset = row[6]};
    return TRM_OK;
}

enum trm_status trm_slices_decode(const struct trm_catalog *catalog,
                                  const struct trm_ckpt_file *file, const int64_t *rows,
                                  const uint64_t *checksums, struct trm_slice *slices,
                                  struct trm_error *err)
{
    for (int64_t i = 0; i < file->slice_count; i++) {
        enum trm_status status =
            decode_row(catalog, file, i, &rows[i * TRM_SLICE_ROW_WORDS], &slices[i], err);
        if (status != TRM_OK)
            return status;
        slices[i].checksum = checksums[i];
    }
    return TRM_OK;
}

int64_t trm_slice_bytes(const struct trm_slice *slice, enum trm_type type)
{
    return trm_rect_elements(slice->rect) * (int64_t)trm_type_bytes(type);
}

char *trm_slice_describe(char *text, size_t text_bytes, const struct trm_ckpt_tensor *tensors,
                         const struct trm_slice *slice)
{
    const struct trm_ckpt_tensor *tensor = &tensors[slice->tensor];
    const struct trm_rect *r = &slice->rect;
    const char *kind = trm_ckpt_kind_name((enum trm_ckpt_kind)slice->kind);
    if (tensor->dims == 1)
        snprintf(text, text_bytes, "elements %lld..%lld of %s of \"%s\"", (long long)r->row,
                 (long long)(r->row + r->rows - 1), kind, tensor->name);
    else
        snprintf(text, text_bytes, "rows %lld..%lld, columns %lld..%lld of %s of \"%s\"",
                 (long long)r->row, (long long)(r->row + r->rows - 1), (long long)r->column,
                 (long long)(r->column + r->columns - 1), kind, tensor->name);
    return text;
}
