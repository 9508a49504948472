#include "trainer/optimizer/exchange.h"

#include <stdlib.h>

#include "collectives/stages.h"

#define SLOTS 2 /* buckets under way at once */

enum stage { STAGE_FREE, STAGE_WITHIN, STAGE_BETWEEN };

/* A bucket under way. operands[k * nodes + n] is partial sum n of the shard that the rank at my
 * place in group k owns. */
struct slot {
    enum stage stage;
    const struct trm_layout_bucket *bucket;
    float *owned;
    float *within_staging, *between_staging;
    void **operands;
    struct trm_request *within,
        *behind; /* the first stage; what follows it and waits for nothing else */
};

struct trm_exchange {
    const struct trm_layout *layout;
    const struct trm_lanes *lanes;
    struct trm_comm *data;
    struct trm_stages *stages;
    int group, place;    /* of this rank */
    int within_foreign;  /* partial sums of other ranks of my group */
    int between_foreign; /* sums that other groups have left */
    struct slot slots[SLOTS];
    int started;
    struct trm_message *sends, *receives;
    enum trm_status status;
    struct trm_error error;
};

static void keep_first(struct trm_exchange *x, enum trm_status status,
                       const struct trm_error *error)
{
    if (status != TRM_OK && x->status == TRM_OK) {
        x->status = status;
        x->error = *error;
    }
}

/* Partial sums of ranks [first, first + count). */
static int nodes_of(const struct trm_lanes *lanes, int first, int count)
{
    return lanes->rank_node_begin[first + count] - lanes->rank_node_begin[first];
}

/* Messages of the larger of the two stages, sends or receives. */
static int count_messages(struct trm_exchange *x)
{
    const struct trm_stages *s = x->stages;
    int mine = nodes_of(x->lanes, x->data->rank, 1);
    int left = s->left_begin[x->group + 1] - s->left_begin[x->group];
    int within_sends = mine * s->group_count * (s->group_size - 1);
    int between_sends = left * (s->group_count - 1);
    int within, between;

    x->within_foreign = nodes_of(x->lanes, x->group * s->group_size, s->group_size) - mine;
    x->between_foreign = s->left_begin[s->group_count] - left;
    within = within_sends + x->within_foreign * s->group_count;
    between = between_sends + x->between_foreign;
    return within > between ? within : between;
}

enum trm_status trm_exchange_create(const struct trm_layout *layout, const struct trm_lanes *lanes,
                                    struct trm_comm *data, int group_size,
                                    struct trm_exchange **out, struct trm_error *err)
{
    struct trm_exchange *x = calloc(1, sizeof *x);
    enum trm_status status;
    int messages;

    if (!x)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient exchange");
    *x = (struct trm_exchange){.layout = layout,
                               .lanes = lanes,
                               .data = data,
                               .group = data->rank / group_size,
                               .place = data->rank % group_size};
    status = trm_stages_create(lanes, group_size, x->group, &x->stages, err);
    if (status != TRM_OK)
        goto fail;
    messages = count_messages(x);
    x->sends = calloc((size_t)messages + 1, sizeof *x->sends);
    x->receives = calloc((size_t)messages + 1, sizeof *x->receives);
    for (int i = 0; i < SLOTS && status == TRM_OK; i++) {
        size_t operands = (size_t)x->stages->group_count * (size_t)lanes->node_count;
        x->slots[i].operands = calloc(operands, sizeof(void *));
        status = x->sends && x->receives && x->slots[i].operands
                     ? trm_request_create(data, messages, &x->slots[i].within, err)
                     : trm_error_set(err, TRM_ERR_MEMORY, "no memory for the gradient exchange");
        if (status == TRM_OK)
            status = trm_request_create(data, messages, &x->slots[i].behind, err);
        if (status == TRM_OK)
            trm_request_detach(x->slots[i].behind);
    }
    if (status != TRM_OK)
        goto fail;
    *out = x;
    return TRM_OK;
fail:
    trm_exchange_destroy(x);
    return status;
}

void trm_exchange_destroy(struct trm_exchange *x)
{
    if (!x)
        return;
    for (int i = 0; i < SLOTS; i++) {
        trm_request_destroy(x->slots[i].within);
        trm_request_destroy(x->slots[i].behind);
        free(x->slots[i].operands);
    }
    trm_stages_destroy(x->stages);
    free(x->sends);
    free(x->receives);
    free(x);
}

void trm_exchange_place(struct trm_exchange *x, struct trm_arena *arena)
{
    int64_t shard = 0;

    for (int b = 0; b < x->layout->bucket_count; b++)
        if (x->layout->buckets[b].shard_elements > shard)
            shard = x->layout->buckets[b].shard_elements;
    for (int i = 0; i < SLOTS; i++) {
        int64_t within = (int64_t)x->within_foreign * x->stages->group_count * shard;
        int64_t between = (int64_t)x->between_foreign * shard;
        x->slots[i].within_staging =
            trm_arena_alloc(arena, TRM_ARENA_COMMUNICATION, (size_t)within * sizeof(float));
        x->slots[i].between_staging =
            trm_arena_alloc(arena, TRM_ARENA_COMMUNICATION, (size_t)between * sizeof(float));
    }
}

/* The operands of the shard at my place in group k. */
static void **operands_of(const struct trm_exchange *x, const struct slot *slot, int k)
{
    return slot->operands + (size_t)k * (size_t)x->lanes->node_count;
}

/* What comes next on the communicator comes after `request`. */
static void chain(struct trm_exchange *x, struct trm_request *request)
{
    struct trm_error error = {0};
    keep_first(x, trm_request_wait_comm(request, &error), &error);
}

static void exchange(struct trm_exchange *x, struct trm_request *request, int sends, int receives)
{
    struct trm_error error = {0};
    chain(x, request);
    if (x->status == TRM_OK)
        keep_first(
            x, trm_comm_exchange(x->data, x->sends, sends, x->receives, receives, request, &error),
            &error);
}

static void sum(struct trm_exchange *x, struct slot *slot, void **operands,
                const struct trm_lane_add *adds, int add_count, float *into)
{
    struct trm_error error = {0};
    chain(x, slot->behind);
    if (x->status == TRM_OK)
        keep_first(x,
                   trm_comm_sum(x->data, operands, adds, add_count, into,
                                (size_t)slot->bucket->shard_elements, TRM_F32, slot->behind,
                                &error),
                   &error);
}

/* First stage: to each rank of my group, the shards of its place in all groups. */
static void start_within(struct trm_exchange *x, struct slot *slot, float *const *buffers)
{
    const struct trm_stages *s = x->stages;
    const struct trm_lanes *lanes = x->lanes;
    int64_t shard = slot->bucket->shard_elements;
    size_t bytes = (size_t)shard * sizeof(float);
    float *staging = slot->within_staging;
    int sends = 0, receives = 0;

    for (int place = 0; place < s->group_size; place++) {
        int rank = x->group * s->group_size + place, begin = lanes->rank_node_begin[rank];
        int mine = place == x->place ? 0 : nodes_of(lanes, x->data->rank, 1);
        for (int i = 0; i < mine; i++)
            for (int k = 0; k < s->group_count; k++)
                x->sends[sends++] = (struct trm_message){
                    rank, buffers[i] + slot->bucket->offset + (k * s->group_size + place) * shard,
                    bytes};
        for (int i = 0; i < nodes_of(lanes, rank, 1); i++) {
            for (int k = 0; k < s->group_count; k++) {
                float *data = staging;
                if (place == x->place)
                    data = buffers[i] + slot->bucket->offset + (k * s->group_size + place) * shard;
                else {
                    x->receives[receives++] = (struct trm_message){rank, data, bytes};
                    staging += shard;
                }
                operands_of(x, slot, k)[lanes->rank_nodes[begin + i]] = data;
            }
        }
    }
    slot->stage = STAGE_WITHIN;
    exchange(x, slot->within, sends, receives);
}

/* Second stage: what my group has left of a shard goes to its owner, at my place in each group. */
static void start_between(struct trm_exchange *x, struct slot *slot)
{
    const struct trm_stages *s = x->stages;
    float *staging = slot->between_staging;
    int sends = 0, receives = 0;
    int64_t shard;
    size_t bytes;

    if (slot->stage != STAGE_WITHIN)
        return;
    shard = slot->bucket->shard_elements;
    bytes = (size_t)shard * sizeof(float);
    chain(x, slot->within);
    slot->stage = STAGE_BETWEEN;
    for (int k = 0; k < s->group_count && s->within_count > 0; k++)
        sum(x, slot, operands_of(x, slot, k), s->within, s->within_count, NULL);
    for (int k = 0; k < s->group_count; k++) {
        int rank = k * s->group_size + x->place;
        if (k == x->group)
            continue;
        for (int i = s->left_begin[x->group]; i < s->left_begin[x->group + 1]; i++)
            x->sends[sends++] =
                (struct trm_message){rank, operands_of(x, slot, k)[s->left[i]], bytes};
        for (int i = s->left_begin[k]; i < s->left_begin[k + 1]; i++) {
            operands_of(x, slot, x->group)[s->left[i]] = staging;
            x->receives[receives++] = (struct trm_message){rank, staging, bytes};
            staging += shard;
        }
    }
    exchange(x, slot->behind, sends, receives);
}

static void finish_slot(struct trm_exchange *x, struct slot *slot)
{
    start_between(x, slot);
    if (slot->stage == STAGE_FREE)
        return;
    slot->stage = STAGE_FREE;
    sum(x, slot, operands_of(x, slot, x->group), x->stages->between, x->stages->between_count,
        slot->owned + slot->bucket->owned_offset);
}

void trm_exchange_start(struct trm_exchange *x, int bucket, float *const *buffers, float *owned)
{
    struct slot *slot = &x->slots[x->started % SLOTS];

    finish_slot(x, slot);
    start_between(x, &x->slots[(x->started + SLOTS - 1) % SLOTS]);
    x->started++;
    slot->bucket = &x->layout->buckets[bucket];
    slot->owned = owned;
    if (x->status == TRM_OK)
        start_within(x, slot, buffers);
}

enum trm_status trm_exchange_finish(struct trm_exchange *x, struct trm_error *err)
{
    enum trm_status status;

    for (int i = 0; i < SLOTS; i++)
        finish_slot(x, &x->slots[(x->started + i) % SLOTS]);
    for (int i = 0; i < SLOTS; i++) {
        struct trm_error error = {0};
        keep_first(x, trm_request_wait_stream(x->slots[i].behind, &error), &error);
    }
    status = x->status;
    if (status != TRM_OK && err)
        *err = x->error;
    x->started = 0;
    x->status = TRM_OK;
    return status;
}
