/*
 * The memory tier: the newest state twice in the memory of nodes, under `trireme run` alone, whose
 * agents hold the slots (docs/memory-tier.md).
 *
 * At start: what earlier attempts left is looked at before memory is planned, the newest step wins
 * over the disk's if it is not older, and copies are made anew before the first step. Then every
 * few steps (`memory_interval`) behind training, agreed along with the beginning of each step.
 * Without an agent, or with `memory_interval: 0`, all calls do nothing.
 */
#ifndef TRM_TRAINER_MEMORY_TIER_H
#define TRM_TRAINER_MEMORY_TIER_H

#include "checkpoint/parallel/partner.h"
#include "trainer/run.h"

/* Collective. What can't be had (slots that can't be looked at) is told, and is no error. */
enum trm_status trm_memory_tier_open(struct trm_run *run, struct trm_error *err);

/* Notes the slots in the plan of memory. */
void trm_memory_tier_place(struct trm_run *run);

/* Bytes of that plan which the agent holds already, of this rank's part. */
uint64_t trm_memory_tier_held_bytes(const struct trm_run *run);

/* Collective; agreed. Restores the newest state in memory of a step before `below` (INT64_MAX: any)
 * that is not older than what the disk has; *restored says whether there was one. One that turns
 * out to be damaged is passed over, by name. On an error the parameters hold nothing to rely on. */
enum trm_status trm_memory_tier_restore(struct trm_run *run, int64_t below, bool *restored,
                                        struct trm_error *err);

/* Collective; agreed. Makes the first copies, of the state as it is. */
enum trm_status trm_memory_tier_begin(struct trm_run *run, struct trm_error *err);

/* Around a step: as partner.h says, with the words reduced by TRM_MAX_I64 in between. */
enum trm_status trm_memory_tier_report(struct trm_run *run, int64_t words[TRM_PARTNER_WORDS],
                                       struct trm_error *err);
enum trm_status trm_memory_tier_advance(struct trm_run *run, const int64_t words[TRM_PARTNER_WORDS],
                                        struct trm_error *err);
void trm_memory_tier_poll(struct trm_run *run);
enum trm_status trm_memory_tier_join(struct trm_run *run, struct trm_error *err);
void trm_memory_tier_note_step(struct trm_run *run, int64_t step_ns);

/* Collective, unless communication failed: waits for what is under way, and says what it all cost.
 */
void trm_memory_tier_close(struct trm_run *run);

#endif
