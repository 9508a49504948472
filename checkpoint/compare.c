#include "checkpoint/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/restore_index.h"

struct comparison {
    const struct trm_stored *first, *second;
    const struct trm_compare_report *report;
    struct trm_source **first_sources, **second_sources;
    struct trm_restore *first_restore, *second_restore;
    char *a, *b; /* a slice of each */
    int64_t bytes;
    bool identical;
};

static void say(struct comparison *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct comparison *c, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    c->identical = false;
    c->report->unequal(c->report->context, text);
}

static void compare_counters(struct comparison *c)
{
    const struct trm_ckpt_state *a = &c->first->catalog.state, *b = &c->second->catalog.state;
    if (a->step != b->step)
        say(c, "step: %" PRId64 " and %" PRId64, a->step, b->step);
    if (a->next_sample != b->next_sample)
        say(c, "next_sample: %" PRId64 " and %" PRId64, a->next_sample, b->next_sample);
    if (a->data_hash != b->data_hash)
        say(c, "data_hash: %016" PRIx64 " and %016" PRIx64, a->data_hash, b->data_hash);
    /* What the next steps are judged by, and do without. */
    if (a->skip_count != b->skip_count ||
        memcmp(a->skips, b->skips, (size_t)a->skip_count * sizeof(*a->skips)) != 0)
        say(c, "skips: %d and %d ranges, and not the same", a->skip_count, b->skip_count);
    if (a->recent_loss_count != b->recent_loss_count ||
        memcmp(a->recent_losses, b->recent_losses,
               (size_t)a->recent_loss_count * sizeof(*a->recent_losses)) != 0)
        say(c, "recent_losses: %d and %d, and not the same", a->recent_loss_count,
            b->recent_loss_count);
    if (a->skips_in_row != b->skips_in_row)
        say(c, "skips_in_row: %d and %d", a->skips_in_row, b->skips_in_row);
}

static double element_value(const void *data, int64_t i, enum trm_type type)
{
    float single = 0;
    double value = 0;
    int32_t integer = 0;
    uint16_t half = 0;
    switch (type) {
    case TRM_F64:
        memcpy(&value, (const char *)data + i * 8, sizeof(value));
        return value;
    case TRM_I32:
        memcpy(&integer, (const char *)data + i * 4, sizeof(integer));
        return integer;
    case TRM_BF16: {
        memcpy(&half, (const char *)data + i * 2, sizeof(half));
        uint32_t bits = (uint32_t)half << 16;
        memcpy(&single, &bits, sizeof(single));
        return (double)single;
    }
    default:
        memcpy(&single, (const char *)data + i * 4, sizeof(single));
        return (double)single;
    }
}

static void compare_elements(const void *a, const void *b, int64_t count, enum trm_type type,
                             struct trm_difference *difference)
{
    size_t bytes = trm_type_bytes(type);
    difference->elements += count;
    if (memcmp(a, b, (size_t)count * bytes) == 0)
        return;
    for (int64_t i = 0; i < count; i++) {
        size_t at = (size_t)i * bytes;
        if (memcmp((const char *)a + at, (const char *)b + at, bytes) == 0)
            continue;
        difference->different++;
        double x = element_value(a, i, type), y = element_value(b, i, type);
        double absolute = fabs(x - y);
        double size = fabs(x) > fabs(y) ? fabs(x) : fabs(y);
        double relative = absolute == 0 ? 0 : absolute / size;
        if (!isfinite(x) || !isfinite(y))
            absolute = relative = INFINITY;
        if (absolute > difference->largest_absolute)
            difference->largest_absolute = absolute;
        if (relative > difference->largest_relative)
            difference->largest_relative = relative;
    }
}

/* Each slice of the first against its rectangle in the second. */
static enum trm_status compare_kind(struct comparison *c, int first_tensor, int second_tensor,
                                    enum trm_ckpt_kind kind, struct trm_error *err)
{
    const struct trm_ckpt_tensor *tensors = c->first->catalog.tensors;
    const struct trm_ckpt_tensor *tensor = &tensors[first_tensor];
    const struct trm_restore *index = c->first_restore;
    const int64_t *group = &index->group_begin[(int64_t)first_tensor * TRM_KIND_COUNT + kind];
    struct trm_difference difference = {0};
    for (int64_t i = group[0]; i < group[1]; i++) {
        const struct trm_restore_ref *ref = &index->refs[i];
        struct trm_source *source = c->first_sources[ref->source];
        const struct trm_slice *slice = &source->slices[ref->number];
        struct trm_ckpt_piece other = {second_tensor, kind, slice->rect, c->b};
        enum trm_status status = trm_restore_read_slice(source, ref->number, tensors, c->a, err);
        if (i + 1 == group[1] || index->refs[i + 1].source != ref->source)
            source->operations->idle(source);
        if (status == TRM_OK)
            status = trm_restore_run(c->second_restore, &other, 1, NULL, err);
        if (status != TRM_OK)
            return status;
        compare_elements(c->a, c->b, trm_rect_elements(slice->rect), tensor->type, &difference);
        c->bytes += trm_slice_bytes(slice, tensor->type);
        if (c->report->progress != NULL)
            c->report->progress(c->report->context, c->bytes);
    }
    if (difference.different > 0) {
        c->identical = false;
        c->report->differs(c->report->context, tensor, kind, &difference);
    }
    return TRM_OK;
}

static enum trm_status compare_tensor(struct comparison *c, int number, struct trm_error *err)
{
    const struct trm_catalog *first = &c->first->catalog, *second = &c->second->catalog;
    const struct trm_ckpt_tensor *a = &first->tensors[number];
    int other = trm_catalog_find(second, a->name);
    if (other < 0) {
        say(c, "tensor \"%s\" is in the first alone", a->name);
        return TRM_OK;
    }
    const struct trm_ckpt_tensor *b = &second->tensors[other];
    if (a->type != b->type) {
        say(c, "tensor \"%s\": type %s and %s", a->name, trm_type_name(a->type),
            trm_type_name(b->type));
        return TRM_OK;
    }
    if (a->dims != b->dims || a->rows != b->rows || a->columns != b->columns) {
        say(c, "tensor \"%s\": shape %" PRId64 " x %" PRId64 " and %" PRId64 " x %" PRId64, a->name,
            a->rows, a->columns, b->rows, b->columns);
        return TRM_OK;
    }
    enum trm_status status = TRM_OK;
    for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++)
        if (first->kinds[kind] && second->kinds[kind])
            status = compare_kind(c, number, other, (enum trm_ckpt_kind)kind, err);
    return status;
}

static enum trm_status compare_all(struct comparison *c, struct trm_error *err)
{
    const struct trm_catalog *first = &c->first->catalog, *second = &c->second->catalog;
    enum trm_status status = TRM_OK;
    compare_counters(c);
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        if (first->kinds[kind] != second->kinds[kind])
            say(c, "%s is in the %s alone", trm_ckpt_kind_name((enum trm_ckpt_kind)kind),
                first->kinds[kind] ? "first" : "second");
    for (int i = 0; status == TRM_OK && i < first->tensor_count; i++)
        status = compare_tensor(c, i, err);
    for (int i = 0; status == TRM_OK && i < second->tensor_count; i++)
        if (trm_catalog_find(first, second->tensors[i].name) < 0)
            say(c, "tensor \"%s\" is in the second alone", second->tensors[i].name);
    return status;
}

static enum trm_status prepare(const struct trm_stored *stored, struct trm_source ***sources,
                               struct trm_restore **restore, struct trm_error *err)
{
    enum trm_status status = trm_sources_of_stored(stored, sources, err);
    if (status == TRM_OK)
        status = trm_restore_create(stored->catalog.tensors, stored->catalog.tensor_count, *sources,
                                    stored->catalog.file_count, NULL, NULL, restore, err);
    return status;
}

enum trm_status trm_compare(const struct trm_stored *first, const struct trm_stored *second,
                            const struct trm_compare_report *report, bool *identical,
                            struct trm_error *err)
{
    struct comparison c = {.first = first, .second = second, .report = report, .identical = true};
    c.a = malloc(TRM_CKPT_SLICE_BYTES);
    c.b = malloc(TRM_CKPT_SLICE_BYTES);
    enum trm_status status = TRM_OK;
    if (c.a == NULL || c.b == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for comparing checkpoints");
    if (status == TRM_OK)
        status = prepare(first, &c.first_sources, &c.first_restore, err);
    if (status == TRM_OK)
        status = prepare(second, &c.second_sources, &c.second_restore, err);
    if (status == TRM_OK)
        status = compare_all(&c, err);
    if (status == TRM_OK)
        *identical = c.identical;
    trm_restore_destroy(c.first_restore);
    trm_restore_destroy(c.second_restore);
    trm_sources_destroy(c.first_sources, first->catalog.file_count);
    trm_sources_destroy(c.second_sources, second->catalog.file_count);
    free(c.a);
    free(c.b);
    return status;
}
