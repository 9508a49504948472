#include "trainer/bind/bind.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/bind/plan.h"

#define MASK_BITS (TRM_BIND_MASK_WORDS * 64)

enum trm_status trm_bind_look(struct trm_bind_place *place, struct trm_error *err)
{
    cpu_set_t *set = CPU_ALLOC(MASK_BITS);
    size_t bytes = CPU_ALLOC_SIZE(MASK_BITS);
    struct trm_bind_place look = {0};

    if (!set)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a set of cores");
    if (sched_getaffinity(0, bytes, set) != 0) {
        int reason = errno;
        CPU_FREE(set);
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "asking which cores may be used: %s",
                             strerror(reason));
    }
    for (int i = 0; i < MASK_BITS; i++)
        if (CPU_ISSET_S((size_t)i, bytes, set))
            look.mask[i / 64] |= UINT64_C(1) << (i % 64);
    CPU_FREE(set);
    *place = look;
    return TRM_OK;
}

/* Only what is looked at: cores and NUMA nodes; devices where there are GPUs, by what the kernel
 * says of them, since asking drivers starts them. */
static enum trm_status load(bool devices, hwloc_topology_t *out, struct trm_error *err)
{
    static const char *const drivers[] = {"cuda", "nvml", "opencl", "rsmi", "levelzero", "gl"};
    hwloc_topology_t topology;

    if (hwloc_topology_init(&topology) != 0)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the machine's topology");
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                      drivers[i]);
    hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    if (devices)
        hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(topology) != 0) {
        hwloc_topology_destroy(topology);
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "the machine's topology can't be read: %s",
                             strerror(errno));
    }
    *out = topology;
    return TRM_OK;
}

static hwloc_bitmap_t read_mask(hwloc_topology_t topology, const struct trm_bind_place *place)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();

    for (unsigned i = 0; set && i < MASK_BITS; i++)
        if (place->mask[i / 64] >> (i % 64) & 1)
            hwloc_bitmap_set(set, i);
    if (set)
        hwloc_bitmap_and(set, set, hwloc_topology_get_allowed_cpuset(topology));
    return set;
}

static void describe(const struct trm_bind_rank *rank, const char *gpu, struct trm_bound *out)
{
    char cores[128];
    int length;

    hwloc_bitmap_list_snprintf(cores, sizeof cores, rank->cpuset ? rank->cpuset : rank->allowed);
    length = snprintf(out->text, sizeof out->text, "cores %s", cores);
    if (gpu[0] && length < (int)sizeof out->text)
        length += snprintf(out->text + length, sizeof out->text - (size_t)length, ", GPU %s", gpu);
    if (rank->adapter && length < (int)sizeof out->text)
        snprintf(out->text + length, sizeof out->text - (size_t)length, ", nearest adapter %s",
                 rank->adapter->name);
}

static enum trm_status plan_and_bind(hwloc_topology_t topology, const struct trm_bind_place *places,
                                     struct trm_bind_rank *ranks, int count, int mine, bool apply,
                                     struct trm_bound *out, struct trm_error *err)
{
    struct trm_bound bound = {0};
    enum trm_status status = TRM_OK;

    for (int i = 0; i < count && status == TRM_OK; i++) {
        ranks[i].allowed = read_mask(topology, &places[i]);
        ranks[i].gpu = trm_bind_find_device(topology, places[i].gpu);
        if (!ranks[i].allowed)
            status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a set of cores");
    }
    if (status == TRM_OK)
        status = trm_bind_plan(topology, ranks, count, err);
    if (status != TRM_OK)
        return status;
    if (apply && ranks[mine].cpuset) {
        bound.bound = hwloc_set_cpubind(topology, ranks[mine].cpuset, HWLOC_CPUBIND_THREAD) == 0;
        if (!bound.bound)
            status =
                trm_error_set(err, TRM_ERR_UNSUPPORTED, "binding to cores: %s", strerror(errno));
    }
    bound.threads = ranks[mine].threads;
    describe(&ranks[mine], places[mine].gpu, &bound);
    trm_bind_plan_clear(ranks, count);
    if (status == TRM_OK)
        *out = bound;
    return status;
}

enum trm_status trm_bind(const struct trm_bind_place *places, int count, int mine, bool apply,
                         struct trm_bound *out, struct trm_error *err)
{
    struct trm_bind_rank *ranks = calloc((size_t)count, sizeof *ranks);
    hwloc_topology_t topology = NULL;
    bool devices = false;
    enum trm_status status;

    if (!ranks)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d ranks", count);
    for (int i = 0; i < count; i++)
        devices = devices || places[i].gpu[0];
    status = load(devices, &topology, err);
    if (status == TRM_OK) {
        status = plan_and_bind(topology, places, ranks, count, mine, apply, out, err);
        for (int i = 0; i < count; i++)
            hwloc_bitmap_free((hwloc_bitmap_t)(uintptr_t)ranks[i].allowed);
        hwloc_topology_destroy(topology);
    }
    free(ranks);
    return status;
}
