/*
 * The groups that move a run's tensors: world, data and tensor group over the memory that tensors
 * lie in. Over host memory they are the mesh's own. Where tensors lie on devices, they are a second
 * mesh, over NCCL, beside the first: that one goes on to agree and to move what lies on the host.
 */
#ifndef TRM_TRAINER_GROUPS_H
#define TRM_TRAINER_GROUPS_H

#include "collectives/mesh.h"
#include "trainer/config/config.h"

struct trm_groups {
    struct trm_comm *world, *data, *tensor; /* borrowed from whichever mesh it is */
    struct trm_comm *device_world;          /* owned: over NCCL; NULL over host memory */
    struct trm_mesh device;                 /* owned: its data and tensor group */
    struct trm_flight *flight;              /* borrowed */
};

/* Over host memory: not collective, and nothing is formed. */
void trm_groups_on_host(struct trm_groups *groups, const struct trm_mesh *mesh);

/* Over devices: collective over mesh->world. `stream` is that of the device's computations; the
 * device is current in the calling thread. A deadline of the configuration's
 * progress_timeout_ceiling_ms holds for forming the groups and for each operation (0: none). When
 * the groups fail, the flight record says so before they are aborted, so that the reason is known
 * though the process may hang. Borrows all but the groups. */
enum trm_status trm_groups_on_device(struct trm_groups *groups, const struct trm_mesh *mesh,
                                     const struct trm_config *config, struct trm_flight *flight,
                                     void *stream, struct trm_error *err);

/* The host waits, with a deadline, until all operations of the groups are complete: before it reads
 * what comes out of a step, as only the device's stream waits for them otherwise. */
enum trm_status trm_groups_settle(struct trm_groups *groups, struct trm_error *err);

/* Collective where the groups are over devices and sound. */
void trm_groups_destroy(struct trm_groups *groups);

#endif
