/*
 * Starts of a run by a batch system: whether it gets on from one to the next.
 *
 * A job that is requeued, or an array whose jobs run one after the other, is a chain of starts.
 * RUN_DIR/supervisor/start.json holds the newest: its chain, the newest checkpoint when it began,
 * and how it ended, if it could still say so. What a start that saved nothing means:
 *
 *   stopped    its time was up: the next one would fare no better, so the chain ends
 *   preempted  says nothing about the run, and is not counted
 *   vanished   its node died, or too few nodes were left: may happen, but not too often in a row
 *
 * One writer, the supervisor's process; calls block on the file system.
 */
#ifndef TRM_LAUNCH_SLURM_STARTS_H
#define TRM_LAUNCH_SLURM_STARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "launch/attempt.h"

#define TRM_START_CHAIN_BYTES 32

enum trm_start_end {
    TRM_START_VANISHED, /* as a start is noted when it begins */
    TRM_START_STOPPED,
    TRM_START_PREEMPTED,
    TRM_START_ENDS
};

struct trm_start {
    char chain[TRM_START_CHAIN_BYTES]; /* equal for all starts of a chain */
    int64_t step;                      /* newest checkpoint when it began, -1: none */
    int fruitless;                     /* starts before it, in a row, that saved nothing */
    enum trm_start_end end;
};

/* Judges a start of `chain` with the newest checkpoint `step`, after `previous` (NULL: there is
 * none): *start is what to note. False, with the reason in err, when the chain should end. Pure. */
bool trm_start_judge(const struct trm_start *previous, const char *chain, int64_t step,
                     int most_fruitless, struct trm_start *start, struct trm_error *err);

/* The newest start of the run. TRM_ERR_NOT_FOUND when there is none. */
enum trm_status trm_start_read(const struct trm_attempts *attempts, struct trm_start *start,
                               struct trm_error *err);

enum trm_status trm_start_write(const struct trm_attempts *attempts, const struct trm_start *start,
                                struct trm_error *err);

#endif
