#include "trainer/optimizer/grad_sync.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "collectives/ordered.h"

#define SLOTS 2 /* exchanges under way at once */

/* An exchange of one bucket. */
struct slot {
    int bucket; /* -1: free */
    float *staging;
    void **operands; /* [node_count]: my shard of every partial sum */
    struct trm_request *request;
};

struct trm_grad_sync {
    const struct trm_layout *layout;
    const struct trm_lanes *lanes;
    struct trm_comm *data;
    bool fastest;
    int lane_count, buffer_count, node_count; /* of this rank */
    struct trm_lane_step *steps;
    float **buffers;
    float *owned;
    struct slot slots[SLOTS];
    struct trm_message *sends, *receives;

    int lane;      /* steps of this rank begun; lane - 1 is under way */
    int *missing;  /* [buckets]: tensors not ready in this lane */
    int exchanged; /* buckets whose exchange was started */
    enum trm_status status;
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

static int foreign_nodes(const struct trm_grad_sync *sync)
{
    return sync->lanes->node_count - sync->node_count;
}

enum trm_status trm_grad_sync_create(const struct trm_layout *layout, const struct trm_lanes *lanes,
                                     struct trm_comm *data, bool fastest,
                                     struct trm_grad_sync **out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_grad_sync *sync = calloc(1, sizeof *sync);
    int rank = data->rank, messages;

    if (!sync)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient exchange");
    *sync =
        (struct trm_grad_sync){.layout = layout, .lanes = lanes, .data = data, .fastest = fastest};
    sync->lane_count = trm_lanes_schedule(lanes, rank, NULL, 0);
    sync->buffer_count = trm_lanes_buffer_count(lanes, rank);
    if (sync->buffer_count == 0)
        sync->buffer_count = fastest; /* a rank without lanes brings zeros to the vendor's sum */
    sync->node_count = lanes->rank_node_begin[rank + 1] - lanes->rank_node_begin[rank];
    messages = sync->node_count * (data->size - 1) + foreign_nodes(sync);
    sync->steps = calloc((size_t)sync->lane_count + 1, sizeof *sync->steps);
    sync->buffers = calloc((size_t)sync->buffer_count + 1, sizeof *sync->buffers);
    sync->missing = calloc((size_t)layout->bucket_count, sizeof *sync->missing);
    sync->sends = calloc((size_t)messages + 1, sizeof *sync->sends);
    sync->receives = calloc((size_t)messages + 1, sizeof *sync->receives);
    if (!sync->steps || !sync->buffers || !sync->missing || !sync->sends || !sync->receives)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient exchange");
    for (int i = 0; i < SLOTS && status == TRM_OK; i++) {
        sync->slots[i].bucket = -1;
        sync->slots[i].operands = calloc((size_t)lanes->node_count, sizeof(void *));
        status = sync->slots[i].operands
                     ? trm_request_create(data, messages, &sync->slots[i].request, err)
                     : trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient exchange");
    }
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
    for (int i = 0; i < SLOTS; i++) {
        trm_request_destroy(sync->slots[i].request);
        free(sync->slots[i].operands);
    }
    free(sync->steps);
    free(sync->buffers);
    free(sync->missing);
    free(sync->sends);
    free(sync->receives);
    free(sync);
}

void trm_grad_sync_place(struct trm_grad_sync *sync, struct trm_arena *arena)
{
    const struct trm_layout *layout = sync->layout;
    int64_t largest_shard = 0;

    for (int b = 0; b < layout->bucket_count; b++)
        if (layout->buckets[b].shard_elements > largest_shard)
            largest_shard = layout->buckets[b].shard_elements;
    for (int i = 0; i < sync->buffer_count; i++)
        sync->buffers[i] =
            trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, (size_t)layout->elements * sizeof(float));
    if (is_local(sync)) {
        sync->owned = sync->buffers[0];
        return;
    }
    sync->owned =
        trm_arena_alloc(arena, TRM_ARENA_GRADIENTS, (size_t)layout->owned_elements * sizeof(float));
    for (int i = 0; i < SLOTS && !sync->fastest; i++)
        sync->slots[i].staging =
            trm_arena_alloc(arena, TRM_ARENA_COMMUNICATION,
                            (size_t)(foreign_nodes(sync) * largest_shard) * sizeof(float));
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

/* Lists the messages of a bucket: shard s of my partial sums to rank s, mine of theirs to me. */
static void list_messages(struct trm_grad_sync *sync, struct slot *slot, int *send_count,
                          int *receive_count)
{
    const struct trm_lanes *lanes = sync->lanes;
    const struct trm_layout_bucket *b = &sync->layout->buckets[slot->bucket];
    size_t bytes = (size_t)b->shard_elements * sizeof(float);
    float *staging = slot->staging;
    int sends = 0, receives = 0;

    for (int rank = 0; rank < sync->data->size; rank++) {
        for (int i = 0; i < sync->node_count && rank != sync->data->rank; i++)
            sync->sends[sends++] =
                (struct trm_message){rank, partial(sync, i, b) + rank * b->shard_elements, bytes};
        for (int k = lanes->rank_node_begin[rank]; k < lanes->rank_node_begin[rank + 1]; k++) {
            int node = lanes->rank_nodes[k];
            if (rank == sync->data->rank) {
                slot->operands[node] =
                    partial(sync, k - lanes->rank_node_begin[rank], b) + rank * b->shard_elements;
                continue;
            }
            slot->operands[node] = staging;
            sync->receives[receives++] = (struct trm_message){rank, staging, bytes};
            staging += b->shard_elements;
        }
    }
    *send_count = sends;
    *receive_count = receives;
}

/* Waits for an exchange and adds what came along the tree. */
static void finish_slot(struct trm_grad_sync *sync, struct slot *slot)
{
    const struct trm_layout_bucket *b;
    struct trm_error error = {0};

    if (slot->bucket < 0)
        return;
    b = &sync->layout->buckets[slot->bucket];
    slot->bucket = -1;
    keep_first(sync, trm_request_wait(slot->request, &error), &error);
    if (sync->fastest || sync->status != TRM_OK)
        return;
    trm_ordered_sum(slot->operands, sync->lanes->adds, sync->lanes->node_count - 1,
                    (size_t)b->shard_elements, TRM_F32);
    memcpy(sync->owned + b->owned_offset, slot->operands[0],
           (size_t)b->shard_elements * sizeof(float));
}

/* The vendor adds in an order of its own, so this rank's partial sums may be added in any. */
static enum trm_status start_fastest(struct trm_grad_sync *sync, struct slot *slot,
                                     struct trm_error *err)
{
    const struct trm_layout_bucket *b = &sync->layout->buckets[slot->bucket];

    for (int i = 1; i < sync->node_count; i++)
        trm_ordered_add(partial(sync, 0, b), partial(sync, i, b), (size_t)b->elements, TRM_F32);
    return trm_comm_fastest_reduce_scatter(sync->data, partial(sync, 0, b),
                                           sync->owned + b->owned_offset, (size_t)b->shard_elements,
                                           TRM_F32, slot->request, err);
}

static void start_exchange(struct trm_grad_sync *sync, int bucket)
{
    struct slot *slot = &sync->slots[sync->exchanged++ % SLOTS];
    struct trm_error error = {0};
    int sends, receives;

    if (is_local(sync))
        return;
    finish_slot(sync, slot);
    if (sync->status != TRM_OK)
        return;
    slot->bucket = bucket;
    if (sync->fastest) {
        keep_first(sync, start_fastest(sync, slot, &error), &error);
        return;
    }
    list_messages(sync, slot, &sends, &receives);
    keep_first(sync,
               trm_comm_exchange(sync->data, sync->sends, sends, sync->receives, receives,
                                 slot->request, &error),
               &error);
}

/* The newest buffers become their parents in the tree, for one bucket. */
static void merge(struct trm_grad_sync *sync, int bucket)
{
    const struct trm_lane_step *step = &sync->steps[sync->lane - 1];
    const struct trm_layout_bucket *b = &sync->layout->buckets[bucket];

    for (int i = 0; i < step->merge_count; i++)
        trm_ordered_add(partial(sync, step->buffer - i - 1, b), partial(sync, step->buffer - i, b),
                        (size_t)b->elements, TRM_F32);
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
    enum trm_status status;

    if (sync->lane_count == 0 && sync->buffer_count > 0)
        memset(sync->buffers[0], 0, (size_t)sync->layout->elements * sizeof(float));
    while (sync->lane_count == 0 && sync->exchanged < sync->layout->bucket_count)
        start_exchange(sync, sync->layout->bucket_count - 1 - sync->exchanged);
    TRM_ASSERT(sync->status != TRM_OK || sync->exchanged == sync->layout->bucket_count);
    for (int i = 0; i < SLOTS; i++)
        finish_slot(sync, &sync->slots[(sync->exchanged + i) % SLOTS]);
    status = sync->status;
    if (status != TRM_OK && err)
        *err = sync->error;
    sync->lane = sync->exchanged = 0;
    sync->status = TRM_OK;
    if (status == TRM_OK)
        *owned = sync->owned;
    return status;
}
