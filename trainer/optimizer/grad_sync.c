#include "trainer/optimizer/grad_sync.h"

#include <stdlib.h>

#include "base/assert.h"
#include "trainer/optimizer/exchange.h"

struct trm_grad_sync {
    const struct trm_layout *layout;
    const struct trm_lanes *lanes;
    struct trm_comm *data;
    struct trm_exchange *exchange; /* NULL in `fastest` mode and for one rank */
    struct trm_request *request;   /* of the vendor's reduction */
    struct trm_request *merging;   /* of sums of this rank's own buffers */
    bool fastest;
    int lane_count, buffer_count, node_count; /* of this rank */
    struct trm_lane_step *steps;
    float **buffers;
    float *owned;

    int lane;               /* steps of this rank begun; lane - 1 is under way */
    int *missing;           /* [buckets]: tensors not ready in this lane */
    int exchanged;          /* buckets whose exchange was started */
    enum trm_status status; /* of the vendor's reduction; the exchange keeps its own */
    struct trm_error error;
};

static void keep_first(struct trm_grad_sync *sync, enum trm_status status,
                       const struct trm_error *error)
{
    if (status != TRM_OK && sync->status == TRM_OK) {
        sync->status = status;
        sync->error = *error;
    }
}

/* One rank that owns the whole sum has it in buffer 0 already. */
static bool is_local(const struct trm_grad_sync *sync)
{
    return sync->data->size == 1;
}

enum trm_status trm_grad_sync_create(const struct trm_layout *layout, const struct trm_lanes *lanes,
                                     struct trm_comm *data, int group_size, bool fastest,
                                     struct trm_grad_sync **out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_grad_sync *sync = calloc(1, sizeof *sync);
    int rank = data->rank;

    if (!sync)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient sums");
    *sync =
        (struct trm_grad_sync){.layout = layout, .lanes = lanes, .data = data, .fastest = fastest};
    sync->lane_count = trm_lanes_schedule(lanes, rank, NULL, 0);
    sync->buffer_count = trm_lanes_buffer_count(lanes, rank);
    if (sync->buffer_count == 0)
        sync->buffer_count = fastest; /* a rank without lanes brings zeros to the vendor's sum */
    sync->node_count = lanes->rank_node_begin[rank + 1] - lanes->rank_node_begin[rank];
    sync->steps = calloc((size_t)sync->lane_count + 1, sizeof *sync->steps);
    sync->buffers = calloc((size_t)sync->buffer_count + 1, sizeof *sync->buffers);
    sync->missing = calloc((size_t)layout->bucket_count, sizeof *sync->missing);
    if (!sync->steps || !sync->buffers || !sync->missing)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient sums");
    if (status == TRM_OK && !fastest && !is_local(sync))
        status = trm_exchange_create(layout, lanes, data, group_size, &sync->exchange, err);
    if (status == TRM_OK)
        status = trm_request_create(data, 0, &sync->request, err);
    if (status == TRM_OK)
        status = trm_request_create(data, 0, &sync->merging, err);
    if (status != TRM_OK) {
        trm_grad_sync_destroy(sync);
        return status;
    }
    trm_lanes_schedule(lanes, rank, sync->steps, sync->lane_count);
    *out = sync;
    return TRM_OK;
}

void trm_grad_sync_destroy(struct trm_grad_sync *sync)
{
    if (!sync)
        return;
    trm_exchange_destroy(sync->exchange);
    trm_request_destroy(sync->request);
    trm_request_destroy(sync->merging);
    free(sync->steps);
    free(sync->buffers);
    free(sync->missing);
    free(sync);
}

void trm_grad_sync_place(struct trm_grad_sync *sync, struct trm_arena *arena)
{
    const struct trm_layout *layout = sync->layout;

    for (int i = 0; i < sync->buffer_count; i++)
        sync->buffers[i] =
            trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, (size_t)layout->elements * sizeof(float));
    if (is_local(sync)) {
        sync->owned = sync->buffers[0];
        return;
    }
    sync->owned =
        trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, (size_t)layout->owned_elements * sizeof(float));
    if (sync->exchange)
        trm_exchange_place(sync->exchange, arena);
}

float *trm_grad_sync_scratch(struct trm_grad_sync *sync)
{
    return sync->buffers[0];
}

float *trm_grad_sync_begin_lane(struct trm_grad_sync *sync)
{
    TRM_ASSERT(sync->lane < sync->lane_count);
    for (int b = 0; b < sync->layout->bucket_count; b++)
        sync->missing[b] = sync->layout->buckets[b].tensor_count;
    return sync->buffers[sync->steps[sync->lane++].buffer];
}

/* Where my own partial sum number `i` of a bucket starts. */
static float *partial(const struct trm_grad_sync *sync, int i, const struct trm_layout_bucket *b)
{
    return sync->buffers[i] + b->offset;
}

/* Adds partial sum `source` of a bucket into `target`, where the gradients lie. */
static void add(struct trm_grad_sync *sync, int target, int source,
                const struct trm_layout_bucket *b)
{
    void *operands[2] = {partial(sync, target, b), partial(sync, source, b)};
    const struct trm_lane_add step = {.target = 0, .source = 1};
    struct trm_error error = {0};

    keep_first(sync, trm_request_wait_comm(sync->merging, &error), &error);
    if (sync->status == TRM_OK)
        keep_first(sync,
                   trm_comm_sum(sync->data, operands, &step, 1, NULL, (size_t)b->elements, TRM_F32,
                                sync->merging, &error),
                   &error);
}

/* The vendor adds in an order of its own, so this rank's partial sums may be added in any. */
static void start_fastest(struct trm_grad_sync *sync, int bucket)
{
    const struct trm_layout_bucket *b = &sync->layout->buckets[bucket];
    struct trm_error error = {0};

    for (int i = 1; i < sync->node_count; i++)
        add(sync, 0, i, b);
    keep_first(sync, trm_request_wait_comm(sync->request, &error), &error);
    if (sync->status == TRM_OK)
        keep_first(sync,
                   trm_comm_fastest_reduce_scatter(
                       sync->data, partial(sync, 0, b), sync->owned + b->owned_offset,
                       (size_t)b->shard_elements, TRM_F32, sync->request, &error),
                   &error);
}

static void start_exchange(struct trm_grad_sync *sync, int bucket)
{
    sync->exchanged++;
    if (is_local(sync))
        return;
    if (sync->fastest)
        start_fastest(sync, bucket);
    else
        trm_exchange_start(sync->exchange, bucket, sync->buffers, sync->owned);
}

/* The newest buffers become their parents in the tree, for one bucket; then the next lane may have
 * them. */
static void merge(struct trm_grad_sync *sync, int bucket)
{
    const struct trm_lane_step *step = &sync->steps[sync->lane - 1];
    struct trm_error error = {0};

    for (int i = 0; i < step->merge_count; i++)
        add(sync, step->buffer - i - 1, step->buffer - i, &sync->layout->buckets[bucket]);
    keep_first(sync, trm_request_wait_stream(sync->merging, &error), &error);
}

void trm_grad_sync_ready(struct trm_grad_sync *sync, int first, int count)
{
    for (int i = first + count - 1; i >= first; i--) {
        int bucket = sync->layout->tensors[i].bucket;
        TRM_ASSERT(sync->missing[bucket] > 0);
        if (--sync->missing[bucket] > 0)
            continue;
        merge(sync, bucket);
        if (sync->lane < sync->lane_count)
            continue;
        TRM_ASSERT(bucket == sync->layout->bucket_count - 1 - sync->exchanged);
        start_exchange(sync, bucket);
    }
}

enum trm_status trm_grad_sync_finish(struct trm_grad_sync *sync, float **owned,
                                     struct trm_error *err)
{
    struct trm_error error = {0};
    enum trm_status status;

    /* Without a lane: zeros for the vendor's sum, as the arena gave them and nobody wrote since. */
    while (sync->lane_count == 0 && sync->exchanged < sync->layout->bucket_count)
        start_exchange(sync, sync->layout->bucket_count - 1 - sync->exchanged);
    TRM_ASSERT(sync->exchanged == sync->layout->bucket_count);
    keep_first(sync, trm_request_wait_stream(sync->request, &error), &error);
    if (sync->exchange)
        keep_first(sync, trm_exchange_finish(sync->exchange, &error), &error);
    status = sync->status;
    if (status != TRM_OK && err)
        *err = sync->error;
    sync->lane = sync->exchanged = 0;
    sync->status = TRM_OK;
    if (status == TRM_OK)
        *owned = sync->owned;
    return status;
}
