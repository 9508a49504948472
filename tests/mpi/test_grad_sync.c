/* Lane sums, exchange in groups, and the gather: every rank ends with the sum along the tree of all
 * lanes, whatever the groups; a rank may own no lane. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "collectives/ordered.h"
#include "trainer/optimizer/grad_sync.h"
#include "trainer/optimizer/param_gather.h"

static const struct trm_tensor_spec specs[] = {
    {.name = "a", .dims = 2, .rows = 30, .columns = 50, .padded_rows = 30, .own_bucket = true},
    {.name = "b", .dims = 2, .rows = 70, .columns = 90, .padded_rows = 70, .bucket_group = 1},
    {.name = "c", .dims = 1, .rows = 700, .columns = 1, .padded_rows = 700, .bucket_group = 2},
};

#define TENSORS ((int)(sizeof specs / sizeof *specs))

static float value(int lane, int64_t element)
{
    double scale = element % 3 ? 1e-3 : 1e4;
    return (float)(scale * trm_random_normal((uint64_t)lane, (uint64_t)element));
}

/* What the tree gives for one element. */
static float expected(int first, int count, int64_t element)
{
    int left;
    if (count == 1)
        return value(first, element);
    left = trm_lanes_left(count);
    return expected(first, left, element) + expected(first + left, count - left, element);
}

/* One step with `lane_count` lanes; true when every element of every rank is right. */
static bool step_is_right(struct trm_comm *world, int lane_count, int group_size)
{
    struct trm_layout_shape shape = {.tensor_size = 1, .data_size = world->size};
    struct trm_layout *layout = NULL;
    struct trm_lanes *lanes = NULL;
    struct trm_grad_sync *sync = NULL;
    struct trm_param_gather *gather = NULL;
    struct trm_lane_step steps[64];
    struct trm_arena arena;
    struct trm_error error;
    float *all = NULL, *owned = NULL;
    bool ok =
        trm_layout_create(specs, TENSORS, &shape, &layout, &error) == TRM_OK &&
        trm_lanes_create(lane_count, world->size, &lanes, &error) == TRM_OK &&
        trm_grad_sync_create(layout, lanes, world, group_size, false, &sync, &error) == TRM_OK &&
        trm_param_gather_create(layout, world, TRM_F32, &gather, &error) == TRM_OK;
    int mine = ok ? trm_lanes_schedule(lanes, world->rank, steps, 64) : 0;

    trm_arena_init(&arena);
    for (int pass = 0; pass < 2 && ok; pass++) {
        if (pass == 1)
            ok = trm_arena_commit(&arena, &error) == TRM_OK;
        trm_grad_sync_place(sync, &arena);
        all = trm_arena_alloc(&arena, TRM_ARENA_PARAMETERS, (size_t)layout->elements * sizeof *all);
    }
    for (int repeat = 0; repeat < 2 && ok; repeat++) {
        for (int i = 0; i < mine; i++) {
            float *buffer = trm_grad_sync_begin_lane(sync);
            for (int64_t e = 0; e < layout->elements; e++)
                buffer[e] = value(steps[i].lane, e);
            for (int t = TENSORS - 1; t >= 0; t--)
                trm_grad_sync_ready(sync, t, 1);
        }
        ok = trm_grad_sync_finish(sync, &owned, &error) == TRM_OK;
        for (int b = 0; b < layout->bucket_count && ok; b++) {
            const struct trm_layout_bucket *bucket = &layout->buckets[b];
            memcpy(all + bucket->offset + world->rank * bucket->shard_elements,
                   owned + bucket->owned_offset, (size_t)bucket->shard_elements * sizeof *all);
        }
        ok = ok && trm_param_gather_start(gather, all, &error) == TRM_OK;
        trm_param_gather_wait(gather, 0, TENSORS);
        ok = ok && trm_param_gather_finish(gather, &error) == TRM_OK;
        for (int64_t e = 0; e < layout->elements && ok; e++)
            ok = all[e] == expected(0, lane_count, e);
    }
    trm_arena_destroy(&arena);
    trm_param_gather_destroy(gather);
    trm_grad_sync_destroy(sync);
    trm_lanes_destroy(lanes);
    trm_layout_destroy(layout);
    return ok;
}

static void every_rank_ends_with_the_sum_of_the_tree(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;

    for (int lanes = world->size; lanes <= 9; lanes++)
        for (int group = 1; group <= world->size; group++)
            if (world->size % group == 0)
                ok = step_is_right(world, lanes, group) && ok;
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_ends_with_the_sum_of_the_tree),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
