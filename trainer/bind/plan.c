#include "trainer/bind/plan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A rank's wish, and its place among those that have the same. */
struct wish {
    hwloc_cpuset_t wanted; /* owned */
    int members, number;
};

/* Cores (or, where those are unknown or too few, hardware threads) of `set`. */
static int count_units(hwloc_topology_t topology, hwloc_const_cpuset_t set, hwloc_obj_type_t type)
{
    int count = 0;
    for (hwloc_obj_t unit = NULL; (unit = hwloc_get_next_obj_by_type(topology, type, unit));)
        count += hwloc_bitmap_intersects(unit->cpuset, set);
    return count;
}

static int count_cores(hwloc_topology_t topology, hwloc_const_cpuset_t set)
{
    int cores = count_units(topology, set, HWLOC_OBJ_CORE);
    return cores > 0 ? cores : count_units(topology, set, HWLOC_OBJ_PU);
}

/* What makes enough shares of `set`; HWLOC_OBJ_TYPE_MAX: nothing does. */
static hwloc_obj_type_t choose_unit(hwloc_topology_t topology, hwloc_const_cpuset_t set, int shares)
{
    if (count_units(topology, set, HWLOC_OBJ_CORE) >= shares)
        return HWLOC_OBJ_CORE;
    if (count_units(topology, set, HWLOC_OBJ_PU) >= shares)
        return HWLOC_OBJ_PU;
    return HWLOC_OBJ_TYPE_MAX;
}

/* Share `number` of `shares` of `set`: neighbouring units, as many as everybody has. Where some are
 * left over, they lie between the shares, which so keep to their part of the machine. */
static enum trm_status take_share(hwloc_topology_t topology, const struct wish *wish,
                                  struct trm_bind_rank *rank, struct trm_error *err)
{
    hwloc_obj_type_t type = choose_unit(topology, wish->wanted, wish->members);
    int units = count_units(topology, wish->wanted, type), each = units / wish->members;
    int first = (int)((long long)wish->number * units / wish->members), at = 0;
    rank->cpuset = hwloc_bitmap_alloc();
    if (!rank->cpuset)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a set of cores");
    for (hwloc_obj_t unit = NULL; (unit = hwloc_get_next_obj_by_type(topology, type, unit));) {
        if (!hwloc_bitmap_intersects(unit->cpuset, wish->wanted))
            continue;
        if (at >= first && at < first + each)
            hwloc_bitmap_or(rank->cpuset, rank->cpuset, unit->cpuset);
        at++;
    }
    hwloc_bitmap_and(rank->cpuset, rank->cpuset, wish->wanted);
    rank->threads = each;
    return TRM_OK;
}

/* Cores near the GPU, as far as the rank may use any of them; else all that it may use. */
static enum trm_status wish_for(hwloc_topology_t topology, const struct trm_bind_rank *rank,
                                bool near, struct wish *wish, struct trm_error *err)
{
    hwloc_obj_t place = rank->gpu ? hwloc_get_non_io_ancestor_obj(topology, rank->gpu) : NULL;
    wish->wanted = hwloc_bitmap_dup(rank->allowed);
    if (!wish->wanted)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a set of cores");
    if (near && place && hwloc_bitmap_intersects(place->cpuset, rank->allowed))
        hwloc_bitmap_and(wish->wanted, wish->wanted, place->cpuset);
    return TRM_OK;
}

/* Whether these wishes can all be met: equal or apart, with a share for each member. */
static bool count_members(hwloc_topology_t topology, struct wish *wishes, int count)
{
    for (int i = 0; i < count; i++) {
        wishes[i].members = wishes[i].number = 0;
        for (int j = 0; j < count; j++) {
            bool equal = hwloc_bitmap_isequal(wishes[i].wanted, wishes[j].wanted);
            if (!equal && hwloc_bitmap_intersects(wishes[i].wanted, wishes[j].wanted))
                return false;
            wishes[i].members += equal;
            wishes[i].number += equal && j < i;
        }
        if (choose_unit(topology, wishes[i].wanted, wishes[i].members) == HWLOC_OBJ_TYPE_MAX)
            return false;
    }
    return true;
}

static void clear_wishes(struct wish *wishes, int count)
{
    for (int i = 0; i < count; i++) {
        hwloc_bitmap_free(wishes[i].wanted);
        wishes[i].wanted = NULL;
    }
}

/* Ranks with the same cores: each gets a part near its GPU, or, where that can't be, of all. */
static enum trm_status divide(hwloc_topology_t topology, struct trm_bind_rank **members, int count,
                              struct wish *wishes, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    bool possible = false;
    for (int near = 1; near >= 0 && !possible && status == TRM_OK; near--) {
        clear_wishes(wishes, count);
        for (int i = 0; i < count && status == TRM_OK; i++)
            status = wish_for(topology, members[i], near, &wishes[i], err);
        possible = status == TRM_OK && count_members(topology, wishes, count);
    }
    for (int i = 0; i < count && possible && status == TRM_OK; i++)
        status = take_share(topology, &wishes[i], members[i], err);
    clear_wishes(wishes, count);
    return status;
}

/* How many objects lie between a device and the first that is above both; fewer is nearer. */
static int distance(hwloc_obj_t device, hwloc_obj_t other)
{
    int steps = 0;
    for (hwloc_obj_t above = device; above; above = above->parent, steps++)
        for (hwloc_obj_t up = other; up; up = up->parent)
            if (up == above)
                return steps;
    return steps;
}

static bool is_adapter(hwloc_obj_t device, hwloc_obj_osdev_type_t type)
{
    return device->attr->osdev.type == type &&
           strcmp(device->name ? device->name : "lo", "lo") != 0;
}

/* InfiniBand and RoCE before plain networks; of those that are as near, what fewer have. */
static hwloc_obj_t find_adapter(hwloc_topology_t topology, const struct trm_bind_rank *ranks,
                                int rank)
{
    static const hwloc_obj_osdev_type_t types[] = {HWLOC_OBJ_OSDEV_OPENFABRICS,
                                                   HWLOC_OBJ_OSDEV_NETWORK};
    hwloc_obj_t best = NULL;
    int best_steps = 0, best_users = 0;
    for (int t = 0; t < 2 && !best && ranks[rank].gpu; t++)
        for (hwloc_obj_t device = NULL; (device = hwloc_get_next_osdev(topology, device));) {
            if (!is_adapter(device, types[t]))
                continue;
            int steps = distance(ranks[rank].gpu, device), users = 0;
            for (int i = 0; i < rank; i++)
                users += ranks[i].adapter == device;
            if (!best || steps < best_steps || (steps == best_steps && users < best_users)) {
                best = device;
                best_steps = steps;
                best_users = users;
            }
        }
    return best;
}

/* Ranks that may run where this one may: in `members`, those with the very same cores; returns how
 * many overlap with it at all. */
static int find_group(struct trm_bind_rank *ranks, int count, int rank,
                      struct trm_bind_rank **members, int *member_count)
{
    int overlapping = 0;
    *member_count = 0;
    for (int i = 0; i < count; i++) {
        overlapping += hwloc_bitmap_intersects(ranks[i].allowed, ranks[rank].allowed);
        if (hwloc_bitmap_isequal(ranks[i].allowed, ranks[rank].allowed))
            members[(*member_count)++] = &ranks[i];
    }
    return overlapping;
}

enum trm_status trm_bind_plan(hwloc_topology_t topology, struct trm_bind_rank *ranks, int count,
                              struct trm_error *err)
{
    struct trm_bind_rank **members = calloc((size_t)count + 1, sizeof *members);
    struct wish *wishes = calloc((size_t)count + 1, sizeof *wishes);
    enum trm_status status = TRM_OK;
    for (int i = 0; i < count; i++) {
        ranks[i].cpuset = NULL;
        ranks[i].threads = 0;
        ranks[i].adapter = NULL;
    }
    if (!members || !wishes)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d ranks", count);
    for (int i = 0; i < count && status == TRM_OK; i++) {
        int equal = 0, overlapping = find_group(ranks, count, i, members, &equal);
        if (equal > 1 && equal == overlapping && members[0] == &ranks[i])
            status = divide(topology, members, equal, wishes, err);
        if (ranks[i].threads == 0)
            ranks[i].threads = count_cores(topology, ranks[i].allowed) / overlapping;
        if (ranks[i].threads < 1)
            ranks[i].threads = 1;
        ranks[i].adapter = find_adapter(topology, ranks, i);
    }
    free(members);
    free(wishes);
    if (status != TRM_OK)
        trm_bind_plan_clear(ranks, count);
    return status;
}

void trm_bind_plan_clear(struct trm_bind_rank *ranks, int count)
{
    for (int i = 0; i < count; i++) {
        hwloc_bitmap_free(ranks[i].cpuset);
        ranks[i].cpuset = NULL;
    }
}

hwloc_obj_t trm_bind_find_device(hwloc_topology_t topology, const char *bus_id)
{
    return bus_id[0] ? hwloc_get_pcidev_by_busidstring(topology, bus_id) : NULL;
}
