#include "trainer/bind/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_RANKS 64

/* A node: its topology, and ranks that may run on cores of theirs. */
struct node {
    hwloc_topology_t topology;
    int count;
    struct trm_bind_rank ranks[MOST_RANKS];
};

static void load(struct node *node, const char *synthetic, const char *xml)
{
    assert_int_equal(hwloc_topology_init(&node->topology), 0);
    if (synthetic)
        assert_int_equal(hwloc_topology_set_synthetic(node->topology, synthetic), 0);
    else
        assert_int_equal(hwloc_topology_set_xml(node->topology, xml), 0);
    hwloc_topology_set_io_types_filter(node->topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    assert_int_equal(hwloc_topology_load(node->topology), 0);
}

/* Ranks that may all run on `cores` ("0-7"), NULL: everywhere. */
static void start(struct node *node, const char *synthetic, int count, const char *cores)
{
    *node = (struct node){.count = count};
    load(node, synthetic, TRM_BIND_XML);
    for (int i = 0; i < count; i++) {
        hwloc_bitmap_t set = hwloc_bitmap_alloc();
        if (cores)
            assert_int_equal(hwloc_bitmap_list_sscanf(set, cores), 0);
        else
            hwloc_bitmap_copy(set, hwloc_topology_get_allowed_cpuset(node->topology));
        node->ranks[i].allowed = set;
    }
}

static void may_run_on(struct node *node, int rank, const char *cores)
{
    hwloc_bitmap_t set = (hwloc_bitmap_t)(uintptr_t)node->ranks[rank].allowed;
    assert_int_equal(hwloc_bitmap_list_sscanf(set, cores), 0);
}

static void plan(struct node *node)
{
    assert_int_equal(trm_bind_plan(node->topology, node->ranks, node->count, NULL), TRM_OK);
}

static void finish(struct node *node)
{
    trm_bind_plan_clear(node->ranks, node->count);
    for (int i = 0; i < node->count; i++)
        hwloc_bitmap_free((hwloc_bitmap_t)(uintptr_t)node->ranks[i].allowed);
    hwloc_topology_destroy(node->topology);
}

/* "": left as it is. */
static void expect(const struct node *node, int rank, const char *cores, int threads)
{
    char text[256] = "";
    if (node->ranks[rank].cpuset)
        hwloc_bitmap_list_snprintf(text, sizeof text, node->ranks[rank].cpuset);
    if (strcmp(text, cores) != 0 || node->ranks[rank].threads != threads)
        fail_msg("rank %d is bound to \"%s\" with %d threads, and not to \"%s\" with %d", rank,
                 text, node->ranks[rank].threads, cores, threads);
}

static void expect_adapter(const struct node *node, int rank, const char *name)
{
    const char *found = node->ranks[rank].adapter ? node->ranks[rank].adapter->name : "none";
    assert_string_equal(found, name);
}

static void ranks_that_share_cores_divide_them(void **state)
{
    (void)state;
    static const struct {
        const char *machine, *allowed;
        int ranks, threads;
        const char *cores[4];
    } cases[] = {
        {"package:2 core:4 pu:1", NULL, 2, 4, {"0-3", "4-7"}},
        {"package:2 core:4 pu:1", NULL, 4, 2, {"0-1", "2-3", "4-5", "6-7"}},
        /* Two for each of three, and none is on both sockets. */
        {"package:2 core:4 pu:1", NULL, 3, 2, {"0-1", "2-3", "5-6"}},
        /* Both threads of a core, and one thread to compute on them. */
        {"package:1 core:4 pu:2", NULL, 2, 2, {"0-3", "4-7"}},
        /* Fewer cores than ranks, but as many hardware threads. */
        {"package:1 core:2 pu:2", NULL, 4, 1, {"0", "1", "2", "3"}},
        /* Within what Slurm or a control group gave. */
        {"package:2 core:4 pu:1", "2-5", 2, 2, {"2-3", "4-5"}},
        {"package:2 core:4 pu:1", "1,3,5,7", 4, 1, {"1", "3", "5", "7"}},
        {"package:1 core:4 pu:2", "0,2,4,6", 2, 2, {"0,2", "4,6"}},
        /* One more rank than hardware threads: as it was. */
        {"package:1 core:2 pu:1", NULL, 3, 1, {"", "", ""}},
        {"package:1 core:2 pu:1", NULL, 2, 1, {"0", "1"}},
        /* Nobody to share with. */
        {"package:2 core:4 pu:1", NULL, 1, 8, {""}},
        {"package:2 core:4 pu:2", "0-5", 1, 3, {""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct node node;
        start(&node, cases[i].machine, cases[i].ranks, cases[i].allowed);
        plan(&node);
        for (int r = 0; r < cases[i].ranks; r++)
            expect(&node, r, cases[i].cores[r], cases[i].threads);
        finish(&node);
    }
}

static void ranks_that_their_launcher_bound_stay_so(void **state)
{
    (void)state;
    static const char *const own[] = {"0-1", "2-3", "4-5", "6-7"};
    static const char *const overlapping[] = {"0-3", "2-5", "4-7", "0-7"};
    struct node node;
    start(&node, "package:2 core:4 pu:1", 4, NULL);
    for (int r = 0; r < 4; r++)
        may_run_on(&node, r, own[r]);
    plan(&node);
    for (int r = 0; r < 4; r++)
        expect(&node, r, "", 2);
    for (int r = 0; r < 4; r++)
        may_run_on(&node, r, overlapping[r]);
    plan(&node);
    expect(&node, 0, "", 1);
    expect(&node, 3, "", 2);
    /* Two by two, as `--bind-to socket` has it. */
    for (int r = 0; r < 4; r++)
        may_run_on(&node, r, r < 2 ? "0-3" : "4-7");
    plan(&node);
    for (int r = 0; r < 4; r++)
        expect(&node, r, own[r], 2);
    finish(&node);
}

/* GPUs 2, 6, 10, 14 of the first socket, and 82, 86, 8a, 8e of the second. */
static void drive_gpus(struct node *node, const char *const *bus_ids)
{
    for (int i = 0; i < node->count; i++) {
        char text[32];
        snprintf(text, sizeof text, "0000:%s:00.0", bus_ids[i]);
        node->ranks[i].gpu = trm_bind_find_device(node->topology, text);
        assert_non_null(node->ranks[i].gpu);
    }
}

static void a_rank_for_each_of_eight_gpus_has_cores_and_adapter_of_its_gpu(void **state)
{
    (void)state;
    static const char *const gpus[] = {"02", "06", "0a", "0e", "82", "86", "8a", "8e"};
    static const char *const cores[] = {"0-1,16-17", "2-3,18-19",   "4-5,20-21",   "6-7,22-23",
                                        "8-9,24-25", "10-11,26-27", "12-13,28-29", "14-15,30-31"};
    static const char *const adapters[] = {"mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3",
                                           "mlx5_7", "mlx5_6", "mlx5_5", "mlx5_4"};
    struct node node;
    start(&node, NULL, 8, NULL);
    drive_gpus(&node, gpus);
    plan(&node);
    for (int r = 0; r < 8; r++) {
        expect(&node, r, cores[r], 2);
        expect_adapter(&node, r, adapters[r]);
    }
    finish(&node);
}

/* CUDA's numbers need not follow the sockets: each rank is where its GPU is all the same. */
static void gpus_in_any_order_keep_their_ranks_on_their_socket(void **state)
{
    (void)state;
    static const char *const gpus[] = {"8e", "02", "86", "0a"};
    struct node node;
    start(&node, NULL, 4, NULL);
    drive_gpus(&node, gpus);
    plan(&node);
    expect(&node, 0, "8-11,24-27", 4);
    expect(&node, 1, "0-3,16-19", 4);
    expect(&node, 2, "12-15,28-31", 4);
    expect(&node, 3, "4-7,20-23", 4);
    expect_adapter(&node, 0, "mlx5_4");
    finish(&node);
}

static void cores_that_are_not_near_do_for_gpus_where_near_ones_may_not_be_used(void **state)
{
    (void)state;
    static const char *const gpus[] = {"02", "06", "82", "86"};
    struct node node;
    start(&node, NULL, 4, "8-15"); /* the second socket's */
    drive_gpus(&node, gpus);
    plan(&node);
    expect(&node, 0, "8-9", 2);
    expect(&node, 3, "14-15", 2);
    finish(&node);
    start(&node, NULL, 4, "0-1,8-13"); /* two cores of the first */
    drive_gpus(&node, gpus);
    plan(&node);
    expect(&node, 0, "0", 1);
    expect(&node, 1, "1", 1);
    expect(&node, 2, "8-10", 3);
    expect(&node, 3, "11-13", 3);
    finish(&node);
    start(&node, NULL, 4, "0,8-14"); /* one: not enough for its two GPUs */
    drive_gpus(&node, gpus);
    plan(&node);
    expect(&node, 0, "0,8", 2);
    expect(&node, 1, "9-10", 2);
    finish(&node);
}

static void a_device_that_the_topology_does_not_have_is_none(void **state)
{
    (void)state;
    struct node node;
    start(&node, NULL, 2, NULL);
    assert_null(trm_bind_find_device(node.topology, "0000:77:00.0"));
    assert_null(trm_bind_find_device(node.topology, ""));
    assert_null(trm_bind_find_device(node.topology, "noise"));
    plan(&node);
    expect_adapter(&node, 0, "none");
    expect(&node, 1, "8-15,24-31", 8);
    finish(&node);
}

static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Over machines, control groups and numbers of ranks: no core that was not allowed, none twice, as
 * many for each, and none idle that would have sufficed for one more each. */
static void every_plan_keeps_to_what_is_allowed_and_is_fair(void **state)
{
    (void)state;
    static const char *const machines[] = {
        "package:1 core:1 pu:1",        "package:1 core:2 pu:2", "package:2 core:3 pu:1",
        "package:2 numa:2 core:4 pu:2", "package:4 core:5 pu:1", "package:1 core:48 pu:2",
        "package:2 l3:4 core:4 pu:2"};
    uint32_t seed = 7;
    for (int i = 0; i < 300; i++) {
        struct node node;
        int ranks = 1 + (int)(next_number(&seed) % 12);
        start(&node, machines[next_number(&seed) % (sizeof machines / sizeof *machines)], ranks,
              NULL);
        hwloc_const_bitmap_t whole = hwloc_topology_get_allowed_cpuset(node.topology);
        hwloc_bitmap_t allowed = hwloc_bitmap_dup(whole), used = hwloc_bitmap_alloc();
        for (int pu = hwloc_bitmap_last(whole); pu >= 0; pu--)
            if (next_number(&seed) % 3 == 0 && hwloc_bitmap_weight(allowed) > 1)
                hwloc_bitmap_clr(allowed, (unsigned)pu);
        for (int r = 0; r < ranks; r++)
            hwloc_bitmap_copy((hwloc_bitmap_t)(uintptr_t)node.ranks[r].allowed, allowed);
        plan(&node);
        int cores = 0;
        for (hwloc_obj_t core = NULL;
             (core = hwloc_get_next_obj_by_type(node.topology, HWLOC_OBJ_CORE, core));)
            cores += hwloc_bitmap_intersects(core->cpuset, allowed);
        bool bound = ranks > 1 && hwloc_bitmap_weight(allowed) >= ranks;
        for (int r = 0; r < ranks; r++) {
            assert_int_equal(node.ranks[r].cpuset != NULL, bound);
            assert_int_equal(node.ranks[r].threads, cores / ranks > 1 ? cores / ranks : 1);
            if (!bound)
                continue;
            assert_true(hwloc_bitmap_isincluded(node.ranks[r].cpuset, allowed));
            assert_false(hwloc_bitmap_iszero(node.ranks[r].cpuset));
            assert_false(hwloc_bitmap_intersects(node.ranks[r].cpuset, used));
            hwloc_bitmap_or(used, used, node.ranks[r].cpuset);
        }
        hwloc_bitmap_free(allowed);
        hwloc_bitmap_free(used);
        finish(&node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_share_cores_divide_them),
        cmocka_unit_test(ranks_that_their_launcher_bound_stay_so),
        cmocka_unit_test(a_rank_for_each_of_eight_gpus_has_cores_and_adapter_of_its_gpu),
        cmocka_unit_test(gpus_in_any_order_keep_their_ranks_on_their_socket),
        cmocka_unit_test(cores_that_are_not_near_do_for_gpus_where_near_ones_may_not_be_used),
        cmocka_unit_test(a_device_that_the_topology_does_not_have_is_none),
        cmocka_unit_test(every_plan_keeps_to_what_is_allowed_and_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
