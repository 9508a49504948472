/* The pure half of restoring: which slice gives which part of which piece. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/restore_index.h"

static const struct trm_slice *slice_of(const struct trm_restore *restore, int source,
                                        int64_t number)
{
    return &restore->sources[source]->slices[number];
}

/* A counting sort: stable, so that preferred sources stay in front. */
static void fill_groups(struct trm_restore *restore)
{
    int64_t groups = (int64_t)restore->tensor_count * TRM_KIND_COUNT;
    int64_t *begin = restore->group_begin;
    for (int s = 0; s < restore->source_count; s++)
        for (int64_t i = 0; i < restore->sources[s]->slice_count; i++) {
            const struct trm_slice *slice = slice_of(restore, s, i);
            begin[slice->tensor * TRM_KIND_COUNT + slice->kind + 1]++;
        }
    for (int64_t g = 0; g < groups; g++)
        begin[g + 1] += begin[g];
    for (int s = 0; s < restore->source_count; s++)
        for (int64_t i = 0; i < restore->sources[s]->slice_count; i++) {
            const struct trm_slice *slice = slice_of(restore, s, i);
            int64_t group = slice->tensor * TRM_KIND_COUNT + slice->kind;
            restore->refs[begin[group]++] = (struct trm_restore_ref){.source = s, .number = i};
        }
    /* Each entry has moved on to its group's end, which is the next one's beginning. */
    memmove(begin + 1, begin, (size_t)groups * sizeof(*begin));
    begin[0] = 0;
}

enum trm_status trm_restore_create(const struct trm_ckpt_tensor *tensors, int tensor_count,
                                   struct trm_source *const *sources, int source_count,
                                   trm_passed_over_fn passed_over, void *context,
                                   struct trm_restore **out, struct trm_error *err)
{
    struct trm_restore *restore = calloc(1, sizeof(*restore));
    int64_t total = 0;
    for (int s = 0; s < source_count; s++)
        total += sources[s]->slice_count;
    if (restore != NULL) {
        restore->refs = malloc((size_t)total * sizeof(*restore->refs) + 1);
        restore->group_begin =
            calloc((size_t)tensor_count * TRM_KIND_COUNT + 1, sizeof(*restore->group_begin));
    }
    if (restore == NULL || restore->refs == NULL || restore->group_begin == NULL) {
        trm_restore_destroy(restore);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for an index of %lld slices",
                             (long long)total);
    }
    restore->tensors = tensors;
    restore->tensor_count = tensor_count;
    restore->sources = sources;
    restore->source_count = source_count;
    restore->passed_over = passed_over;
    restore->context = context;
    fill_groups(restore);
    *out = restore;
    return TRM_OK;
}

void trm_restore_destroy(struct trm_restore *restore)
{
    if (restore == NULL)
        return;
    free(restore->refs);
    free(restore->group_begin);
    free(restore);
}

/* What a plan grows while it is made. */
struct draft {
    struct trm_restore_copy *copies;
    int64_t copy_count, copy_room;
    struct trm_rect *missing; /* of the want at hand */
    int64_t missing_count, missing_room;
};

static bool add_copy(struct draft *draft, struct trm_restore_copy copy)
{
    if (draft->copy_count == draft->copy_room) {
        int64_t room = draft->copy_room == 0 ? 64 : draft->copy_room * 2;
        void *larger = realloc(draft->copies, (size_t)room * sizeof(*draft->copies));
        if (larger == NULL)
            return false;
        draft->copies = larger;
        draft->copy_room = room;
    }
    draft->copies[draft->copy_count++] = copy;
    return true;
}

static bool add_missing(struct draft *draft, struct trm_rect rect)
{
    if (draft->missing_count == draft->missing_room) {
        int64_t room = draft->missing_room == 0 ? 64 : draft->missing_room * 2;
        void *larger = realloc(draft->missing, (size_t)room * sizeof(*draft->missing));
        if (larger == NULL)
            return false;
        draft->missing = larger;
        draft->missing_room = room;
    }
    draft->missing[draft->missing_count++] = rect;
    return true;
}

/* Takes from what is missing all that this slice has. False when memory is out. */
static bool take_slice(struct draft *draft, const struct trm_restore *restore,
                       const struct trm_restore_ref *ref, int piece)
{
    struct trm_rect have = slice_of(restore, ref->source, ref->number)->rect, common;
    /* Downwards: what is moved into the gap, and what is appended, was looked at or needn't be. */
    for (int64_t i = draft->missing_count - 1; i >= 0; i--) {
        struct trm_rect whole = draft->missing[i], rest[TRM_RECT_SUBTRACT_MAX];
        if (!trm_rect_intersect(whole, have, &common))
            continue;
        draft->missing[i] = draft->missing[--draft->missing_count];
        int rest_count = trm_rect_subtract(whole, common, rest);
        for (int r = 0; r < rest_count; r++)
            if (!add_missing(draft, rest[r]))
                return false;
        if (!add_copy(draft, (struct trm_restore_copy){ref->source, piece, ref->number, common}))
            return false;
    }
    return true;
}

static enum trm_status plan_want(struct draft *draft, const struct trm_restore *restore,
                                 const struct trm_ckpt_piece *piece,
                                 const struct trm_restore_want *want, struct trm_error *err)
{
    int64_t group = (int64_t)piece->tensor * TRM_KIND_COUNT + piece->kind;
    bool room = true;
    draft->missing_count = 0;
    if (trm_rect_elements(want->rect) > 0)
        room = add_missing(draft, want->rect);
    for (int64_t i = restore->group_begin[group];
         room && draft->missing_count > 0 && i < restore->group_begin[group + 1]; i++)
        if (!restore->refs[i].bad)
            room = take_slice(draft, restore, &restore->refs[i], want->piece);
    if (!room)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a restore plan");
    if (draft->missing_count == 0)
        return TRM_OK;
    char words[256];
    struct trm_slice missing = {
        .tensor = piece->tensor, .kind = (int32_t)piece->kind, .rect = draft->missing[0]};
    return trm_error_set(err, TRM_ERR_CORRUPT, "no source holds %s",
                         trm_slice_describe(words, sizeof(words), restore->tensors, &missing));
}

static int by_slice(const void *left, const void *right)
{
    const struct trm_restore_copy *a = left, *b = right;
    if (a->source != b->source)
        return a->source < b->source ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return 0;
}

enum trm_status trm_restore_plan(const struct trm_restore *restore,
                                 const struct trm_ckpt_piece *pieces,
                                 const struct trm_restore_want *wants, int64_t want_count,
                                 struct trm_restore_copy **copies, int64_t *copy_count,
                                 struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct draft draft = {0};
    for (int64_t w = 0; status == TRM_OK && w < want_count; w++)
        status = plan_want(&draft, restore, &pieces[wants[w].piece], &wants[w], err);
    free(draft.missing);
    if (status != TRM_OK) {
        free(draft.copies);
        return status;
    }
    if (draft.copy_count > 0)
        qsort(draft.copies, (size_t)draft.copy_count, sizeof(*draft.copies), by_slice);
    *copies = draft.copies;
    *copy_count = draft.copy_count;
    return TRM_OK;
}
