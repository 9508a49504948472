/*
 * What a run computes with: its device, the groups that move tensors, and all of its memory, which
 * is planned, told and compared with what there is before any of it is allocated.
 */
#ifndef TRM_TRAINER_RESOURCES_H
#define TRM_TRAINER_RESOURCES_H

#include "trainer/run.h"

/* Not collective. run->device, run->threads and run->type, as the configuration says. */
enum trm_status trm_resources_open_device(struct trm_run *run, struct trm_error *err);

/* Collective over the mesh. run->groups. */
enum trm_status trm_resources_open_groups(struct trm_run *run, struct trm_error *err);

/* Collective; agreed. Gives every part its place. TRM_ERR_MEMORY, with what would fit, before
 * anything is allocated when the plan does not. */
enum trm_status trm_resources_allocate(struct trm_run *run, struct trm_error *err);

/* Memory, groups, device; after everything that uses them. Collective where the groups are. */
void trm_resources_close(struct trm_run *run);

#endif
