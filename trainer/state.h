/* The persistent state of a run: from nothing, to a checkpoint, and back, at any layout. */
#ifndef TRM_TRAINER_STATE_H
#define TRM_TRAINER_STATE_H

#include "trainer/run.h"

/* Collective. Starts afresh (weights by counter-based random numbers) or from the checkpoint that
 * the configuration names, as its key `load` says; fills run->state and the parameters of all
 * ranks. A checkpoint of another model is refused (TRM_ERR_CONFIG); other differences are told. One
 * that turns out to be damaged is passed over, by name, for an older one. */
enum trm_status trm_state_begin(struct trm_run *run, struct trm_error *err);

/* Collective. Puts the newest state before step `before` (1 or more) back, in place: from the
 * memory of nodes, from `save`, or, where that has no checkpoint yet, what the run began with. Run
 * id and attempt stay. No transfer of parameters may be under way; one is when it returns.
 * TRM_ERR_NOT_FOUND when there are checkpoints and none of an earlier step opens; after another
 * error the parameters hold nothing to rely on. */
enum trm_status trm_state_restore_before(struct trm_run *run, int64_t before,
                                         struct trm_error *err);

/* Collective; agreed. Fills run->state, parameters and moments from an open checkpoint, compared as
 * above; nothing is told of success. *bytes: read by this rank. */
struct trm_checkpoint;
enum trm_status trm_state_restore(struct trm_run *run, struct trm_checkpoint *checkpoint,
                                  int64_t *bytes, struct trm_error *err);

/* Opens the checkpoint a configuration names, or sets *out to NULL where it says to start afresh
 * and may. Collective over `world`; tells `log` what was passed over. */
enum trm_status trm_state_open(const struct trm_config *config, struct trm_comm *world,
                               const struct trm_log *log, struct trm_checkpoint **out,
                               struct trm_error *err);

#endif
