/* Places tensors one after the other, bucket by bucket; everything else is looked up. */
#include "trainer/plan/layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* The part of [0, padded) that rank `rank` of `size` holds starts at rank * padded / size. */
static enum trm_status place_slice(struct trm_layout_tensor *t, int size, int rank,
                                   struct trm_error *err)
{
    const struct trm_tensor_spec *spec = &t->spec;
    int64_t cut = spec->split == TRM_SPLIT_COLUMNS ? spec->columns : spec->padded_rows;

    t->rows = spec->padded_rows;
    t->columns = spec->columns;
    if (spec->split != TRM_SPLIT_NONE && cut % size != 0)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "tensor \"%s\" has %lld %s, which %d tensor-parallel ranks don't divide", spec->name,
            (long long)cut, spec->split == TRM_SPLIT_ROWS ? "rows" : "columns", size);
    if (spec->split == TRM_SPLIT_ROWS) {
        t->rows = cut / size;
        t->first_row = rank * t->rows;
    } else if (spec->split == TRM_SPLIT_COLUMNS) {
        t->columns = cut / size;
        t->first_column = rank * t->columns;
    }
    t->valid_rows = spec->rows - t->first_row;
    if (t->valid_rows > t->rows)
        t->valid_rows = t->rows;
    if (t->valid_rows < 0)
        t->valid_rows = 0;
    t->elements = t->rows * t->columns;
    t->counted = spec->split != TRM_SPLIT_NONE || rank == 0;
    return TRM_OK;
}

/* Pads the open bucket so that it cuts into equal aligned shards. */
static void close_bucket(struct trm_layout *layout, struct trm_layout_bucket *bucket,
                         int64_t end_offset)
{
    int64_t used = end_offset - bucket->offset;
    bucket->shard_elements =
        round_up(round_up(used, layout->data_size) / layout->data_size, TRM_LAYOUT_ALIGNMENT);
    bucket->elements = bucket->shard_elements * layout->data_size;
    bucket->owned_offset = layout->owned_elements;
    layout->owned_elements += bucket->shard_elements;
    layout->elements = bucket->offset + bucket->elements;
}

/* A new bucket starts at tensor i when a group starts there and the open one is full, or either of
 * the two groups wants a bucket of its own. */
static bool starts_bucket(const struct trm_layout *layout, int i, int64_t open_elements,
                          int64_t bucket_elements)
{
    const struct trm_tensor_spec *spec = &layout->tensors[i].spec;
    const struct trm_tensor_spec *before = &layout->tensors[i - 1].spec;
    if (spec->bucket_group == before->bucket_group)
        return false;
    return open_elements >= bucket_elements || spec->own_bucket || before->own_bucket;
}

static void place_all(struct trm_layout *layout, int64_t bucket_elements)
{
    struct trm_layout_bucket *bucket = &layout->buckets[0];
    int64_t end = 0;

    layout->bucket_count = 1;
    for (int i = 0; i < layout->tensor_count; i++) {
        struct trm_layout_tensor *t = &layout->tensors[i];
        if (i > 0 && starts_bucket(layout, i, end - bucket->offset, bucket_elements)) {
            close_bucket(layout, bucket, end);
            bucket = &layout->buckets[layout->bucket_count++];
            bucket->offset = end = layout->elements;
            bucket->first_tensor = i;
        }
        t->offset = t->spec.fused ? end : round_up(end, TRM_LAYOUT_ALIGNMENT);
        t->bucket = layout->bucket_count - 1;
        bucket->tensor_count++;
        end = t->offset + t->elements;
    }
    close_bucket(layout, bucket, end);
}

enum trm_status trm_layout_create(const struct trm_tensor_spec *specs, int count,
                                  const struct trm_layout_shape *shape, struct trm_layout **out,
                                  struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_layout *layout = calloc(1, sizeof *layout);

    TRM_ASSERT(count > 0 && shape->tensor_size > 0 && shape->data_size > 0);
    if (layout) {
        layout->tensors = calloc((size_t)count, sizeof *layout->tensors);
        layout->buckets = calloc((size_t)count, sizeof *layout->buckets);
    }
    if (!layout || !layout->tensors || !layout->buckets) {
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "no memory for the layout of %d tensors", count);
        goto fail;
    }
    layout->tensor_size = shape->tensor_size;
    layout->tensor_rank = shape->tensor_rank;
    layout->data_size = shape->data_size;
    layout->tensor_count = count;
    for (int i = 0; i < count; i++) {
        struct trm_layout_tensor *t = &layout->tensors[i];
        t->spec = specs[i];
        TRM_ASSERT(t->spec.padded_rows >= t->spec.rows && t->spec.rows > 0);
        status = place_slice(t, shape->tensor_size, shape->tensor_rank, err);
        if (status != TRM_OK)
            goto fail;
        layout->parameter_count += specs[i].rows * specs[i].columns;
    }
    place_all(layout, shape->bucket_elements);
    *out = layout;
    return TRM_OK;
fail:
    trm_layout_destroy(layout);
    return status;
}

void trm_layout_destroy(struct trm_layout *layout)
{
    if (!layout)
        return;
    free(layout->tensors);
    free(layout->buckets);
    free(layout);
}

int trm_layout_find(const struct trm_layout *layout, const char *name)
{
    for (int i = 0; i < layout->tensor_count; i++)
        if (strcmp(layout->tensors[i].spec.name, name) == 0)
            return i;
    return -1;
}

int trm_layout_owned_runs(const struct trm_layout *layout, int data_rank,
                          struct trm_layout_run *runs, int max)
{
    int count = 0;

    TRM_ASSERT(data_rank >= 0 && data_rank < layout->data_size);
    for (int i = 0; i < layout->tensor_count; i++) {
        const struct trm_layout_tensor *t = &layout->tensors[i];
        const struct trm_layout_bucket *b = &layout->buckets[t->bucket];
        int64_t shard_begin = b->offset + data_rank * b->shard_elements;
        int64_t shard_end = shard_begin + b->shard_elements;
        int64_t begin = t->offset > shard_begin ? t->offset : shard_begin;
        int64_t end = t->offset + t->elements < shard_end ? t->offset + t->elements : shard_end;
        if (begin >= end)
            continue;
        if (count < max)
            runs[count] = (struct trm_layout_run){
                .tensor = i,
                .begin = begin - t->offset,
                .end = end - t->offset,
                .flat_offset = begin,
                .owned_offset = b->owned_offset + begin - shard_begin,
            };
        count++;
    }
    return count;
}
