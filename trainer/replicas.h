/*
 * Do all data-parallel ranks hold the same parameters? (docs/guard.md)
 *
 * Every rank hashes its flat vector of parameters, which must be complete
 * (trm_param_gather_finish); 16 bytes are reduced. Only when hashes differ do all ranks tell
 * theirs, with their host's name, so that all name the same ranks: those that deviate from more
 * than half. Memory: none in a steady step.
 */
#ifndef TRM_TRAINER_REPLICAS_H
#define TRM_TRAINER_REPLICAS_H

#include "trainer/run.h"

/* Whether the configuration asks for a comparison in step `step`. */
bool trm_replicas_due(const struct trm_run *run, int64_t step);

/* Collective over the world. TRM_ERR_DIVERGED on all ranks, naming ranks and hosts, when the copies
 * differ; `step` is for the words. */
enum trm_status trm_replicas_check(struct trm_run *run, int64_t step, struct trm_error *err);

#endif
