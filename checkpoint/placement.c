#include "checkpoint/placement.h"

#include <stdlib.h>

/* A slice, and the part that it belongs to: neighbouring slices of one rank, kind and tensor. */
struct entry {
    struct trm_slice slice;
    int64_t column, band; /* the part's least column; the same, or 0 where bands don't count */
    struct trm_rect first;
    int64_t origin;
};

static int sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_place(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int order = sign(a->slice.kind, b->slice.kind);
    if (order == 0)
        order = sign(a->slice.tensor, b->slice.tensor);
    if (order == 0)
        order = sign(a->band, b->band);
    if (order == 0)
        order = sign(a->first.row, b->first.row);
    if (order == 0)
        order = sign(a->first.column, b->first.column);
    return order != 0 ? order : sign(a->origin, b->origin);
}

static bool same_part(const struct trm_slice *a, const struct trm_slice *b)
{
    return a->kind == b->kind && a->tensor == b->tensor;
}

/* The slices of one rank. */
static void fill(const struct trm_slice *slices, int64_t begin, int64_t end, struct entry *entries)
{
    for (int64_t first = begin, next; first < end; first = next) {
        int64_t column = slices[first].rect.column;
        for (next = first; next < end && same_part(&slices[first], &slices[next]); next++)
            if (slices[next].rect.column < column)
                column = slices[next].rect.column;
        for (int64_t i = first; i < next; i++)
            entries[i] = (struct entry){slices[i], column, 0, slices[first].rect, i};
    }
}

/* Whether b begins where a ends, in a tensor whose rows begin with column 0. */
static bool continues(struct trm_rect a, struct trm_rect b)
{
    int64_t last = a.row + a.rows - 1;
    return b.row == last ? b.column == a.column + a.columns : b.row == last + 1 && b.column == 0;
}

/* Sorted without bands, a tensor that is cut along rows alone is one range. In any other, bands
 * come first. */
static void use_bands(struct entry *entries, int64_t count)
{
    for (int64_t begin = 0, end; begin < count; begin = end) {
        bool one_range = true;
        for (end = begin + 1; end < count; end++) {
            if (!same_part(&entries[begin].slice, &entries[end].slice))
                break;
            one_range =
                one_range && continues(entries[end - 1].slice.rect, entries[end].slice.rect);
        }
        for (int64_t i = begin; i < end && !one_range; i++)
            entries[i].band = entries[i].column;
    }
}

enum trm_status trm_placement_make(struct trm_slice *slices, const int64_t *counts, int ranks,
                                   int64_t *origins, int64_t elements[TRM_KIND_COUNT],
                                   struct trm_error *err)
{
    int64_t count = 0;
    for (int r = 0; r < ranks; r++)
        count += counts[r];
    struct entry *entries = malloc((size_t)count * sizeof(*entries) + 1);
    if (entries == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for placing %lld slices",
                             (long long)count);
    for (int64_t r = 0, begin = 0; r < ranks; begin += counts[r++])
        fill(slices, begin, begin + counts[r], entries);
    qsort(entries, (size_t)count, sizeof(*entries), by_place);
    use_bands(entries, count);
    qsort(entries, (size_t)count, sizeof(*entries), by_place);
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        elements[kind] = 0;
    for (int64_t row = 0; row < count; row++) {
        int64_t *end = &elements[entries[row].slice.kind];
        slices[row] = entries[row].slice;
        slices[row].offset = *end;
        origins[row] = entries[row].origin;
        *end += trm_rect_elements(slices[row].rect);
    }
    free(entries);
    return TRM_OK;
}
