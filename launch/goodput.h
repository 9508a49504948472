/*
 * Goodput: where the time of a run went, read from what it leaves in its directory, events.jsonl
 * and metrics.jsonl; over all supervisors that it had, without the time between them. metrics.jsonl
 * holds the steps that count alone, since what is done again is cut off there, so that their times
 * are the part that was of use.
 *
 * Source of the term: Google Cloud, "Introducing ML Productivity Goodput" (2024).
 */
#ifndef TRM_LAUNCH_GOODPUT_H
#define TRM_LAUNCH_GOODPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Seconds. wall = steps + validation + starting + recovering + other. */
struct trm_goodput {
    double wall_s; /* from the first word of each supervisor to its last, or of its ranks */
    double steps_s;
    double validation_s;
    double starting_s;   /* from a supervisor's beginning to the first step */
    double recovering_s; /* from the first sign of a fault to the next step */
    double other_s;      /* steps that were done again, saves that held up training, leaving */
    double rank_s;       /* the wall's, times the ranks at the time: what is to be paid for */
    int64_t steps, faults, supervisors;
};

/* `alive_s`: when the run was last known to be alive, in seconds since 1970; 0: its files tell.
 * TRM_ERR_NOT_FOUND where there is no events.jsonl. Lines that are cut off or damaged are passed
 * over. Reads both files whole, a line at a time. */
enum trm_status trm_goodput_read(const char *run_dir, double alive_s, struct trm_goodput *out,
                                 struct trm_error *err);

/* "93.1 % of 12 min 04 s went into steps that count, 2.0 % into validation, ...". Writes into
 * `text` and returns it. */
char *trm_goodput_text(const struct trm_goodput *goodput, char *text, size_t text_bytes);

#endif
