/*
 * Which cores each rank of a node computes on. Pure: a topology and what each rank has now, to what
 * it should have.
 *
 * Ranks that may run on the same cores have been given them together (by Slurm, a control group,
 * taskset, or nobody), and divide them: in whole cores, as many for each, the ranks of one GPU's
 * socket or NUMA node among themselves. What does not divide is left to the system, since the
 * slowest rank sets the pace. Whoever has cores of its own was bound by its launcher, and keeps
 * them. Nobody is given a core that it did not have. Where there are more ranks than cores, they
 * share all, as before.
 */
#ifndef TRM_TRAINER_BIND_PLAN_H
#define TRM_TRAINER_BIND_PLAN_H

#include <hwloc.h>

#include "base/status.h"

struct trm_bind_rank {
    hwloc_const_cpuset_t allowed; /* borrowed: where it may run now */
    hwloc_obj_t gpu;              /* that it drives; NULL: none */
    /* The plan. */
    hwloc_cpuset_t cpuset; /* owned: what to bind it to; NULL: leave it as it is */
    int threads;           /* one for each core of its own, >= 1 */
    hwloc_obj_t adapter;   /* network adapter nearest to its GPU, NULL: none */
};

/* Fills in the plan of all. TRM_ERR_MEMORY, and nothing is to be cleared. */
enum trm_status trm_bind_plan(hwloc_topology_t topology, struct trm_bind_rank *ranks, int count,
                              struct trm_error *err);
void trm_bind_plan_clear(struct trm_bind_rank *ranks, int count);

/* The device at "0000:1b:00.0"; NULL: the topology has none there. */
hwloc_obj_t trm_bind_find_device(hwloc_topology_t topology, const char *bus_id);

#endif
