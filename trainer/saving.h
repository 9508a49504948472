/*
 * The trainer's side of saving: when a snapshot is taken, what is said about it, and what a failed
 * save means for the run (docs/saving.md).
 *
 * A save at an interval goes on behind training (checkpoint/parallel/saver.h); its progress is
 * agreed along with the beginning of each step. The save that ends a run is waited for.
 */
#ifndef TRM_TRAINER_SAVING_H
#define TRM_TRAINER_SAVING_H

#include "trainer/run.h"

/* Takes both snapshots from the arena, where the run is to save while it trains; runs twice. */
void trm_saving_place(struct trm_run *run);

/* Collective; agreed. Requires the state to have begun. */
enum trm_status trm_saving_open(struct trm_run *run, struct trm_error *err);

/* Waits for the file work at hand. */
void trm_saving_close(struct trm_run *run);

/* Collective. Begins to save the current step, unless it is saved already. What goes wrong with a
 * save is told, and is no error of the run, unless the directory belongs to another run
 * (TRM_ERR_MISMATCH: no later save could do better). The state is looked through first:
 * TRM_ERR_NUMERICS or TRM_ERR_DIVERGED, and nothing is saved, when it is not sound. */
enum trm_status trm_saving_begin(struct trm_run *run, struct trm_error *err);

/* Collective. Where tensors lie on a device, a save that was begun is still waiting for its copy of
 * them: hands it over. Before anything changes the state, counters included. */
enum trm_status trm_saving_join(struct trm_run *run, struct trm_error *err);

/* Collective. Takes note of the largest of all ranks' trm_saver_report. */
enum trm_status trm_saving_advance(struct trm_run *run, int64_t word, struct trm_error *err);

/* Collective. Until what was begun is done or has failed. */
enum trm_status trm_saving_wait(struct trm_run *run, struct trm_error *err);

/* Not collective. Checkpoints of later steps than the current one are gone. */
void trm_saving_forget_later(struct trm_run *run);

/* Collective. Saves the current step, unless it is saved already, and waits: on success everything
 * is durable. The save's own failure is the error. */
enum trm_status trm_saving_finish(struct trm_run *run, struct trm_error *err);

#endif
