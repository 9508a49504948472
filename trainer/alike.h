/* Whether all ranks run the same thing: configuration, arithmetic and data. Where they don't,
 * training would go on with wrong weights and nobody would know. */
#ifndef TRM_TRAINER_ALIKE_H
#define TRM_TRAINER_ALIKE_H

#include "trainer/run.h"

/* Collective over the world, as all three; TRM_ERR_CONFIG names the first rank that differs from
 * rank 0. Devices compare by instruction set and library versions. */
enum trm_status trm_alike_devices(struct trm_run *run, struct trm_error *err);

/* Every value of the resolved configuration. */
enum trm_status trm_alike_configs(struct trm_run *run, struct trm_error *err);

/* Sizes of the training files, and the first samples' places and tokens. */
enum trm_status trm_alike_data(struct trm_run *run, struct trm_error *err);

#endif
