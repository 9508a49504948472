/* Sums in fixed order on the device: the gradient exchange, the gather behind it and the all-reduce
 * of tensor parallelism give the bits that they give over MPI, without the host in between. */
#include "device_world.h"

#include <string.h>

#include "base/random.h"
#include "collectives/ordered.h"
#include "trainer/optimizer/grad_sync.h"
#include "trainer/optimizer/param_gather.h"

static const struct trm_tensor_spec specs[] = {
    {.name = "a", .dims = 2, .rows = 30, .columns = 50, .padded_rows = 30, .own_bucket = true},
    {.name = "b", .dims = 2, .rows = 70, .columns = 90, .padded_rows = 70, .bucket_group = 1},
    {.name = "c", .dims = 1, .rows = 700, .columns = 1, .padded_rows = 700, .bucket_group = 2},
    {.name = "d", .dims = 1, .rows = 900, .columns = 1, .padded_rows = 900, .bucket_group = 3},
};

#define TENSORS ((int)(sizeof specs / sizeof *specs))

/* Gradients of a lane, as a computation of the device would write them. Whole numbers have the same
 * sum in any order. */
struct lane_gradients {
    float *to;
    int lane;
    int64_t first, count;
    bool whole;
};

static void write_gradients(const void *argument)
{
    const struct lane_gradients *g = argument;
    for (int64_t e = g->first; e < g->first + g->count; e++) {
        double value = trm_random_normal((uint64_t)g->lane, (uint64_t)e) * (e % 3 ? 1e-3 : 1e4);
        g->to[e] = (float)(g->whole ? (double)(int)value : value);
    }
}

static void copy_floats(const void *argument)
{
    void *const *c = argument;
    memcpy(c[0], c[1], *(const size_t *)c[2]);
}

/* On the caller's stream, or for the host at once. */
static void run_on(cudaStream_t stream, void (*run)(const void *), const void *argument,
                   size_t bytes)
{
    if (stream)
        fake_launch(stream, run, argument, bytes);
    else
        run(argument);
}

struct training {
    struct trm_comm *comm;
    cudaStream_t stream; /* NULL: over host memory */
    int lane_count, group_size;
    bool fastest;
    struct trm_layout *layout;
    struct trm_lanes *lanes;
    struct trm_grad_sync *sync;
    struct trm_param_gather *gather;
    struct trm_arena arena;
    float *all;
    size_t shard_bytes[TENSORS];
};

static bool set_up(struct training *t)
{
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = t->comm->size};
    bool ok = !trm_layout_create(specs, TENSORS, &shape, &t->layout, NULL) &&
              !trm_lanes_create(t->lane_count, t->comm->size, &t->lanes, NULL) &&
              !trm_grad_sync_create(t->layout, t->lanes, t->comm, t->group_size, t->fastest,
                                    &t->sync, NULL) &&
              !trm_param_gather_create(t->layout, t->comm, TRM_F32, &t->gather, NULL);
    trm_arena_init(&t->arena);
    for (int pass = 0; pass < 2 && ok; pass++) {
        ok = pass == 0 || !trm_arena_commit(&t->arena, NULL);
        trm_grad_sync_place(t->sync, &t->arena);
        t->all = trm_arena_alloc(&t->arena, TRM_ARENA_PARAMETERS,
                                 (size_t)t->layout->elements * sizeof *t->all);
    }
    return ok;
}

static void backward(struct training *t, int lane, float *buffer)
{
    for (int i = TENSORS - 1; i >= 0; i--) {
        const struct trm_layout_tensor *tensor = &t->layout->tensors[i];
        const struct trm_layout_bucket *b = &t->layout->buckets[tensor->bucket];
        const struct lane_gradients g = {buffer, lane, b->offset, b->elements, t->fastest};
        run_on(t->stream, write_gradients, &g, sizeof g);
        trm_grad_sync_ready(t->sync, i, 1);
    }
}

/* The optimizer's part: the owned sums to their places, and from there to all. */
static bool update(struct training *t)
{
    float *owned = NULL;
    bool ok = !trm_grad_sync_finish(t->sync, &owned, NULL);
    for (int b = 0; b < t->layout->bucket_count && ok; b++) {
        const struct trm_layout_bucket *bucket = &t->layout->buckets[b];
        t->shard_bytes[b] = (size_t)bucket->shard_elements * sizeof(float);
        void *copy[3] = {t->all + bucket->offset + t->comm->rank * bucket->shard_elements,
                         owned + bucket->owned_offset, &t->shard_bytes[b]};
        run_on(t->stream, copy_floats, copy, sizeof copy);
    }
    ok = ok && !trm_param_gather_start(t->gather, t->all, NULL);
    trm_param_gather_wait(t->gather, 0, TENSORS);
    return !trm_param_gather_finish(t->gather, NULL) && ok;
}

/* Two steps; the parameters after them, returned owned. */
static float *train(struct training *t, bool *ok)
{
    struct trm_lane_step steps[64];
    float *result = NULL;
    *ok = set_up(t) && *ok;
    int mine = trm_lanes_schedule(t->lanes, t->comm->rank, steps, 64);
    for (int step = 0; step < 2 && *ok; step++) {
        for (int i = 0; i < mine; i++)
            backward(t, steps[i].lane + 100 * step, trm_grad_sync_begin_lane(t->sync));
        *ok = update(t);
    }
    *ok = !trm_comm_settle(t->comm, NULL) && *ok;
    if (t->stream)
        *ok = cudaStreamSynchronize(t->stream) == cudaSuccess && *ok;
    result = malloc((size_t)t->layout->elements * sizeof *result);
    memcpy(result, t->all, (size_t)t->layout->elements * sizeof *result);
    trm_arena_destroy(&t->arena);
    trm_param_gather_destroy(t->gather);
    trm_grad_sync_destroy(t->sync);
    trm_lanes_destroy(t->lanes);
    return result;
}

static bool trains_alike(struct device_world *world, int lane_count, int group_size, bool fastest)
{
    struct training host = {.comm = world->host,
                            .lane_count = lane_count,
                            .group_size = group_size,
                            .fastest = fastest};
    struct training device = host;
    bool ok = true;
    device.comm = world->device;
    device.stream = world->stream;
    float *expected = train(&host, &ok);
    float *result = train(&device, &ok);
    ok = ok && memcmp(expected, result, (size_t)host.layout->elements * sizeof *result) == 0;
    trm_layout_destroy(host.layout);
    trm_layout_destroy(device.layout);
    free(expected);
    free(result);
    return ok;
}

static void gradients_are_summed_to_the_bits_of_mpi(void **state)
{
    struct device_world *world = *state;
    int size = world->host->size;
    bool ok = true;
    for (int lanes = size; lanes <= 9; lanes++) {
        for (int group = 1; group <= size; group++) {
            fake_seed((uint64_t)(lanes * 10 + group));
            if (size % group == 0)
                ok = trains_alike(world, lanes, group, false) && ok;
        }
    }
    assert_on_all_ranks(world->host, ok);
}

static void the_vendors_sum_takes_their_place_where_it_may(void **state)
{
    struct device_world *world = *state;
    bool ok = true;
    for (int lanes = world->host->size; lanes <= 9; lanes++)
        ok = trains_alike(world, lanes, 1, true) && ok;
    assert_on_all_ranks(world->host, ok);
}

/* The same random operand on both; its sum with the others', in place. */
static bool reduces_alike(struct device_world *world, size_t most, size_t count, enum trm_type type)
{
    struct trm_comm *comms[2] = {world->host, world->device};
    void *data[2] = {NULL, NULL};
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        struct trm_ordered_all_reduce *reduce = NULL;
        size_t bytes = trm_ordered_all_reduce_bytes(comms[i], most, type);
        void *staging = aligned_alloc(64, (bytes + 64) / 64 * 64);
        data[i] = calloc(most + 1, 8);
        for (size_t e = 0; e < count; e++) {
            double value = trm_random_normal((uint64_t)world->host->rank, e);
            if (type == TRM_F32)
                ((float *)data[i])[e] = (float)value;
            else
                ((double *)data[i])[e] = value;
        }
        ok = !trm_ordered_all_reduce_create(comms[i], most, type, staging, &reduce, NULL) && ok;
        ok = ok && !trm_ordered_all_reduce_run(reduce, data[i], count, NULL);
        ok = ok && !trm_comm_settle(comms[i], NULL);
        trm_ordered_all_reduce_destroy(reduce);
        free(staging);
    }
    ok = ok && memcmp(data[0], data[1], (most + 1) * trm_type_bytes(type)) == 0;
    free(data[0]);
    free(data[1]);
    return ok;
}

static uint16_t half_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float float_of(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bfloat16 on the device, against float32 sums of the same values over MPI, rounded once. */
static bool reduces_halves(struct device_world *world, size_t count)
{
    struct trm_comm *comms[2] = {world->host, world->device};
    enum trm_type types[2] = {TRM_F32, TRM_BF16};
    float *wide = calloc(count + 1, sizeof *wide);
    uint16_t *half = calloc(count + 1, sizeof *half);
    void *data[2] = {wide, half};
    bool ok = true;
    for (size_t e = 0; e < count; e++) {
        half[e] = half_of((float)trm_random_normal((uint64_t)world->host->rank, e));
        wide[e] = float_of(half[e]);
    }
    for (int i = 0; i < 2; i++) {
        struct trm_ordered_all_reduce *reduce = NULL;
        size_t bytes = trm_ordered_all_reduce_bytes(comms[i], count, types[i]);
        void *staging = aligned_alloc(64, (bytes + 64) / 64 * 64);
        ok = !trm_ordered_all_reduce_create(comms[i], count, types[i], staging, &reduce, NULL) &&
             ok && !trm_ordered_all_reduce_run(reduce, data[i], count, NULL);
        ok = ok && !trm_comm_settle(comms[i], NULL);
        trm_ordered_all_reduce_destroy(reduce);
        free(staging);
    }
    for (size_t e = 0; e < count; e++)
        ok = ok && half[e] == half_of(wide[e]);
    free(wide);
    free(half);
    return ok;
}

static void all_reduces_in_bfloat16_are_rounded_once(void **state)
{
    static const size_t counts[] = {0, 1, 15, 17, 1000, 16385, 40001};
    struct device_world *world = *state;
    bool ok = true;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        fake_seed(c);
        ok = reduces_halves(world, counts[c]) && ok;
    }
    assert_on_all_ranks(world->host, ok);
}

static void all_reduces_have_the_bits_of_mpi(void **state)
{
    static const size_t counts[] = {0, 1, 15, 17, 1000, 16385, 40001};
    struct device_world *world = *state;
    bool ok = true;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        fake_seed(c);
        ok = reduces_alike(world, 40001, counts[c], TRM_F32) && ok;
        ok = reduces_alike(world, 40001, counts[c], TRM_F64) && ok;
    }
    assert_on_all_ranks(world->host, ok);
}

static void types_that_cannot_be_summed_are_refused_in_words(void **state)
{
    struct device_world *world = *state;
    float data[2] = {1, 2};
    void *operands[2] = {data, data + 1};
    const struct trm_lane_add add = {0, 1};
    struct trm_error err = {0};
    bool ok = trm_comm_sum(world->device, operands, &add, 1, NULL, 1, TRM_I32, NULL, &err) ==
              TRM_ERR_UNSUPPORTED;
    ok = ok && strstr(err.text, "int32");
    ok = ok && trm_comm_sum(world->host, operands, &add, 1, NULL, 1, TRM_BF16, NULL, &err) ==
                   TRM_ERR_UNSUPPORTED;
    ok = ok && strstr(err.text, "bfloat16");
    ok = ok && !trm_comm_barrier(world->device, NULL, NULL); /* and nothing is broken by it */
    assert_on_all_ranks(world->host, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_summed_to_the_bits_of_mpi),
        cmocka_unit_test(the_vendors_sum_takes_their_place_where_it_may),
        cmocka_unit_test(all_reduces_have_the_bits_of_mpi),
        cmocka_unit_test(all_reduces_in_bfloat16_are_rounded_once),
        cmocka_unit_test(types_that_cannot_be_summed_are_refused_in_words),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
