/*
 * Ranks that slow all others down without failing: those whose compute time stands out from the
 * median's in each of several steps; pure. Times without waits (compute_ms) are compared, since in
 * whole steps all are as slow as the slowest.
 */
#ifndef TRM_COLLECTIVES_STRAGGLER_H
#define TRM_COLLECTIVES_STRAGGLER_H

#include "collectives/flight_view.h"

struct trm_straggler_watch;

struct trm_straggler {
    int rank;
    int64_t step;            /* at which it was found */
    int steps;               /* in a row */
    double compute_ms;       /* mean of them */
    double median_ms, ratio; /* mean of the medians, and of compute time over it */
};

/* For ranks 0 to rank_count - 1: stands out who takes more than `factor` (> 1) times the median in
 * `steps` (>= 1) observed steps in a row. *out is returned owned. Allocates here alone. */
enum trm_status trm_straggler_create(int rank_count, double factor, int steps,
                                     struct trm_straggler_watch **out, struct trm_error *err);
void trm_straggler_destroy(struct trm_straggler_watch *watch);

/* Looks at all ranks together; steps between two looks are passed over, ranks that have not taken
 * one since the last look are not judged. Returns how many ranks have newly come to stand out, and
 * fills in at most `most` of them. One is told again once it has been well in between. */
int trm_straggler_observe(struct trm_straggler_watch *watch, const struct trm_flight_view *ranks,
                          int count, struct trm_straggler *found, int most);

/* "rank 3 on node2 slows all down: it computes 1.8 times as long as the median (412 ms, and not
 * 229 ms) for 20 steps"; `node` may be NULL. */
void trm_straggler_describe(const struct trm_straggler *straggler, const char *node, char *text,
                            size_t text_bytes);

#endif
