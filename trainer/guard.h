/*
 * What a step's numbers are worth, and what follows from that: decisions without ranks, files or
 * clocks (docs/guard.md).
 *
 * Everything is decided from what is equal on all ranks and in all layouts: the exact sums of loss
 * and norm, the configuration, and the persistent state, which holds the losses of recent steps. So
 * all ranks decide alike without a word about it, and a run that was resumed decides as the one
 * that was not interrupted.
 */
#ifndef TRM_TRAINER_GUARD_H
#define TRM_TRAINER_GUARD_H

#include "checkpoint/catalog.h"
#include "trainer/config/config.h"

enum trm_guard_verdict { TRM_GUARD_SOUND, TRM_GUARD_NOT_FINITE, TRM_GUARD_SPIKE };

/* The largest loss that is no spike: loss_spike_factor times the median of the last
 * loss_spike_window losses (of an even number, the lower of the two in the middle). Infinity
 * without such a rule, or with fewer losses. */
double trm_guard_limit(const struct trm_config *config, const struct trm_ckpt_state *state);

enum trm_guard_verdict trm_guard_judge(const struct trm_config *config,
                                       const struct trm_ckpt_state *state, double loss,
                                       double grad_norm);

enum trm_guard_policy trm_guard_policy_of(const struct trm_config *config,
                                          enum trm_guard_verdict verdict);

/* After the update of a step that was sound. Keeps its loss where a rule will want it; forgets the
 * tries before it. */
void trm_guard_note(const struct trm_config *config, struct trm_ckpt_state *state, double loss);

/* Adds the samples [first, end) to those that are skipped for good; overlaps are merged. Nothing
 * happens when the range is empty. Allocates. TRM_ERR_NUMERICS when the list is full. */
enum trm_status trm_guard_skip(struct trm_ckpt_state *state, int64_t first, int64_t end,
                               struct trm_error *err);

/* The position after `count` samples from `position` on, those to be skipped left out. */
int64_t trm_guard_walk(const struct trm_ckpt_state *state, int64_t position, int64_t count);

/* Which of digests[count] deviate from more than half of all, into deviates[count]; returns how
 * many do. -1: no value is held by more than half, so nobody can tell (deviates is all false). */
int trm_guard_vote(const uint64_t *digests, int count, bool *deviates);

#endif
