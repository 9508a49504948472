/*
 * How often copies are taken: as often as they cost under 1 % of the step. Pure arithmetic on what
 * was measured.
 *
 * A copy costs what its thread takes off the cores, what the training thread stands still for it,
 * and the exchange. That hides behind training, and how much of it does cannot be seen; so it
 * counts with what it took when nothing hid it, at the start (the best of a few). Copies and steps
 * are smoothed (an eighth of each new value), and agreed by the ranks: the dearest copy and the
 * shortest step count.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_PACE_H
#define TRM_CHECKPOINT_PARALLEL_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define TRM_PACE_AUTO         (-1)
#define TRM_PACE_SHARE        0.01
#define TRM_PACE_INTERVAL_MAX 1000 /* so much work at most may be lost with a rank */

struct trm_pace {
    int64_t interval; /* steps from one copy to the next, at least */
    bool automatic;
    int64_t told;       /* the interval that was worth telling last, 0: none */
    int steps, copies;  /* measured */
    double exchange_ns; /* unhidden; 0: there is none */
    double copy_ns, step_ns;
    double agreed_cost_ns, agreed_step_ns; /* 0: not known yet */
};

/* `interval`: steps, or TRM_PACE_AUTO, which begins with 1. */
void trm_pace_init(struct trm_pace *pace, int64_t interval);

/* What was measured on this rank: an exchange that nothing hid; a copy, with all that training
 * stood still for it; a step. The first step is not counted: it warms up. */
void trm_pace_exchange(struct trm_pace *pace, int64_t ns);
void trm_pace_copy(struct trm_pace *pace, int64_t ns);
void trm_pace_step(struct trm_pace *pace, int64_t ns);

/* For all ranks to agree on: the maximum of each word. */
#define TRM_PACE_WORDS 2
void trm_pace_report(const struct trm_pace *pace, int64_t words[TRM_PACE_WORDS]);

/* With the agreed words; all ranks get the same interval. True when it is worth telling: chosen for
 * the first time, or changed to half or double. */
bool trm_pace_agree(struct trm_pace *pace, const int64_t words[TRM_PACE_WORDS]);

/* The share of the time that copies take at this interval, as it was agreed last; 0 when unknown.
 */
double trm_pace_cost_share(const struct trm_pace *pace);

#endif
