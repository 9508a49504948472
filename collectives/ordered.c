#include "collectives/ordered.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "collectives/backend.h"

/* All additions of a block happen while its operands are in the cache. */
#define BLOCK_ELEMENTS  4096
#define PARALLEL_BLOCKS 8     /* below that, waking threads costs more than adding */
#define WHOLE_ELEMENTS  16384 /* above that, two ranks gain by adding a half each */
#define CHUNK_ELEMENTS  16    /* chunks of a rank start at multiples of a cache line */

static void add_f32(float *restrict target, const float *restrict source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        target[i] += source[i];
}

static void add_f64(double *restrict target, const double *restrict source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        target[i] += source[i];
}

void trm_ordered_sum(void *const *operands, const struct trm_lane_add *adds, int add_count,
                     size_t count, enum trm_type type)
{
    TRM_ASSERT(type == TRM_F32 || type == TRM_F64);
    const size_t block_count = (count + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS;
#pragma omp parallel for schedule(static) if (block_count >= PARALLEL_BLOCKS)
    for (size_t block = 0; block < block_count; block++) {
        size_t first = block * BLOCK_ELEMENTS;
        size_t length = count - first < BLOCK_ELEMENTS ? count - first : BLOCK_ELEMENTS;
        for (int i = 0; i < add_count; i++) {
            void *target = operands[adds[i].target];
            const void *source = operands[adds[i].source];
            if (type == TRM_F32)
                add_f32((float *)target + first, (const float *)source + first, length);
            else
                add_f64((double *)target + first, (const double *)source + first, length);
        }
    }
}

void trm_ordered_add(void *target, const void *source, size_t count, enum trm_type type)
{
    void *operands[2] = {target, (void *)source};
    const struct trm_lane_add add = {.target = 0, .source = 1};
    trm_ordered_sum(operands, &add, 1, count, type);
}

enum trm_status trm_host_sum(struct trm_comm *comm, void *const *operands,
                             const struct trm_lane_add *adds, int add_count, void *into,
                             size_t count, enum trm_type type, struct trm_request *r,
                             struct trm_error *err)
{
    (void)comm;
    (void)r;
    if (type != TRM_F32 && type != TRM_F64)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "the host cannot sum %s in a fixed order: use float32",
                             trm_type_name(type));
    trm_ordered_sum(operands, adds, add_count, count, type);
    if (into && into != operands[0] && count > 0)
        memcpy(into, operands[0], count * trm_type_bytes(type));
    return TRM_OK;
}

/*
 * Each rank owns a chunk: every rank sends each chunk to its owner, the owner adds along the tree
 * of the ranks, and sends the sum to all. Two ranks with little data exchange all of it and both
 * add, which saves a round.
 */
struct trm_ordered_all_reduce {
    struct trm_comm *comm;
    size_t max_count;
    enum trm_type type;
    char *staging;                /* borrowed: a slot for each other rank */
    struct trm_lane_add *adds;    /* [size - 1], arranged so that the sum ends in my operand */
    void **operands;              /* [size], by rank */
    struct trm_message *sends;    /* [size - 1] */
    struct trm_message *receives; /* [size - 1] */
    struct trm_request *request;
};

struct chunk {
    size_t begin, count; /* elements */
};

static size_t even_chunk(size_t count, int size)
{
    size_t even = (count + (size_t)size - 1) / (size_t)size;
    return (even + CHUNK_ELEMENTS - 1) / CHUNK_ELEMENTS * CHUNK_ELEMENTS;
}

/* Even chunks but for the last ones, which may be shorter or empty. */
static struct chunk chunk_at(size_t count, size_t even, int rank)
{
    size_t begin = even * (size_t)rank < count ? even * (size_t)rank : count;
    return (struct chunk){begin, count - begin < even ? count - begin : even};
}

static bool exchanges_whole(int size, size_t count)
{
    return size == 2 && count <= WHOLE_ELEMENTS;
}

/* Elements of a staging slot, for reductions of up to `count`. */
static size_t slot_count(int size, size_t count)
{
    size_t whole = count < WHOLE_ELEMENTS ? count : WHOLE_ELEMENTS;
    size_t needed = chunk_at(count, even_chunk(count, size), 0).count;
    if (size == 2 && needed < whole)
        needed = whole;
    return (needed + CHUNK_ELEMENTS - 1) / CHUNK_ELEMENTS * CHUNK_ELEMENTS;
}

size_t trm_ordered_all_reduce_bytes(const struct trm_comm *comm, size_t max_count,
                                    enum trm_type type)
{
    return (size_t)(comm->size - 1) * slot_count(comm->size, max_count) * trm_type_bytes(type);
}

/* The tree of `size` ranks with one operand each. Addition commutes, so whichever of two operands
 * holds my chunk may be the target: then the sum ends in its place without a copy. */
static enum trm_status plan_adds(struct trm_ordered_all_reduce *reduce, struct trm_error *err)
{
    int size = reduce->comm->size, mine = reduce->comm->rank;
    struct trm_lanes *lanes = NULL;
    enum trm_status status = trm_lanes_create(size, size, &lanes, err);
    if (status)
        return status;
    TRM_ASSERT(lanes->node_count == size);
    for (int i = 0, holder = mine; i < size - 1; i++) {
        /* `holder` is the operand that the plan lets carry my share so far; I keep it in `mine`. */
        struct trm_lane_add add = lanes->adds[i];
        if (add.source == holder) {
            reduce->adds[i] = (struct trm_lane_add){.target = mine, .source = add.target};
            holder = add.target;
        } else if (add.target == holder) {
            reduce->adds[i] = (struct trm_lane_add){.target = mine, .source = add.source};
        } else {
            reduce->adds[i] = add;
        }
    }
    trm_lanes_destroy(lanes);
    return TRM_OK;
}

enum trm_status trm_ordered_all_reduce_create(struct trm_comm *comm, size_t max_count,
                                              enum trm_type type, void *staging,
                                              struct trm_ordered_all_reduce **out,
                                              struct trm_error *err)
{
    TRM_ASSERT(type == TRM_F32 || type == TRM_F64 ||
               (type == TRM_BF16 && comm->backend->on_device));
    size_t size = (size_t)comm->size;
    enum trm_status status;
    struct trm_ordered_all_reduce *reduce = calloc(1, sizeof *reduce);
    if (!reduce)
        goto no_memory;
    reduce->comm = comm;
    reduce->max_count = max_count;
    reduce->type = type;
    reduce->staging = staging;
    reduce->adds = calloc(size, sizeof *reduce->adds);
    reduce->operands = calloc(size, sizeof *reduce->operands);
    reduce->sends = calloc(size, sizeof *reduce->sends);
    reduce->receives = calloc(size, sizeof *reduce->receives);
    if (!reduce->adds || !reduce->operands || !reduce->sends || !reduce->receives)
        goto no_memory;
    status = plan_adds(reduce, err);
    if (!status)
        status = trm_request_create(comm, 2 * (comm->size - 1), &reduce->request, err);
    if (status) {
        trm_ordered_all_reduce_destroy(reduce);
        return status;
    }
    *out = reduce;
    return TRM_OK;
no_memory:
    trm_ordered_all_reduce_destroy(reduce);
    return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a reduction over %d ranks",
                         comm->size);
}

void trm_ordered_all_reduce_destroy(struct trm_ordered_all_reduce *reduce)
{
    if (!reduce)
        return;
    trm_request_destroy(reduce->request);
    free(reduce->adds);
    free(reduce->operands);
    free(reduce->sends);
    free(reduce->receives);
    free(reduce);
}

/* After what this reduction started before. */
static enum trm_status exchange(struct trm_ordered_all_reduce *reduce, int send_count,
                                int receive_count, struct trm_error *err)
{
    enum trm_status status = trm_request_wait_comm(reduce->request, err);
    if (status)
        return status;
    return trm_comm_exchange(reduce->comm, reduce->sends, send_count, reduce->receives,
                             receive_count, reduce->request, err);
}

/* Each rank's chunk of my data to it, mine of its data into its staging slot, and their sum into my
 * chunk. `even` = 0: all exchange everything. */
static enum trm_status sum_chunks(struct trm_ordered_all_reduce *reduce, char *data, size_t count,
                                  size_t even, struct trm_error *err)
{
    const int size = reduce->comm->size, rank = reduce->comm->rank;
    const size_t width = trm_type_bytes(reduce->type);
    const size_t slot_bytes = slot_count(size, reduce->max_count) * width;
    const struct chunk whole = {0, count};
    const struct chunk mine = even == 0 ? whole : chunk_at(count, even, rank);
    int sends = 0, receives = 0, slot = 0;
    for (int peer = 0; peer < size; peer++) {
        if (peer == rank)
            continue;
        struct chunk theirs = even == 0 ? whole : chunk_at(count, even, peer);
        char *place = reduce->staging + (size_t)slot++ * slot_bytes;
        reduce->operands[peer] = place;
        if (theirs.count > 0)
            reduce->sends[sends++] =
                (struct trm_message){peer, data + theirs.begin * width, theirs.count * width};
        if (mine.count > 0)
            reduce->receives[receives++] = (struct trm_message){peer, place, mine.count * width};
    }
    enum trm_status status = exchange(reduce, sends, receives, err);
    if (status || mine.count == 0)
        return status;
    status = trm_request_wait_comm(reduce->request, err);
    if (status)
        return status;
    reduce->operands[rank] = data + mine.begin * width;
    return trm_comm_sum(reduce->comm, reduce->operands, reduce->adds, size - 1, NULL, mine.count,
                        reduce->type, reduce->request, err);
}

/* My summed chunk to all, and theirs into their places. */
static enum trm_status gather_sums(struct trm_ordered_all_reduce *reduce, char *data, size_t count,
                                   struct trm_error *err)
{
    const int size = reduce->comm->size, rank = reduce->comm->rank;
    const size_t width = trm_type_bytes(reduce->type);
    const size_t even = even_chunk(count, size);
    const struct chunk mine = chunk_at(count, even, rank);
    int sends = 0, receives = 0;
    for (int peer = 0; peer < size; peer++) {
        struct chunk theirs = chunk_at(count, even, peer);
        if (peer == rank)
            continue;
        if (mine.count > 0)
            reduce->sends[sends++] =
                (struct trm_message){peer, data + mine.begin * width, mine.count * width};
        if (theirs.count > 0)
            reduce->receives[receives++] =
                (struct trm_message){peer, data + theirs.begin * width, theirs.count * width};
    }
    return exchange(reduce, sends, receives, err);
}

enum trm_status trm_ordered_all_reduce_run(struct trm_ordered_all_reduce *reduce, void *data,
                                           size_t count, struct trm_error *err)
{
    const int size = reduce->comm->size;
    const bool whole = exchanges_whole(size, count);
    TRM_ASSERT(count <= reduce->max_count);
    if (size == 1 || count == 0)
        return TRM_OK;
    enum trm_status status =
        sum_chunks(reduce, data, count, whole ? 0 : even_chunk(count, size), err);
    if (!status && !whole)
        status = gather_sums(reduce, data, count, err);
    return status ? status : trm_request_wait_stream(reduce->request, err);
}

enum trm_status trm_ordered_reduce_scatter_run(struct trm_ordered_all_reduce *reduce, void *data,
                                               size_t count, struct trm_error *err)
{
    const size_t all = (size_t)reduce->comm->size * count;
    TRM_ASSERT(all <= reduce->max_count);
    if (reduce->comm->size == 1 || count == 0)
        return TRM_OK;
    enum trm_status status = sum_chunks(reduce, data, all, count, err);
    return status ? status : trm_request_wait_stream(reduce->request, err);
}
