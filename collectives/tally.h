/*
 * Groups of ranks, counted once: what a verdict (verdict.h) asks of all members of a communicator
 * at once, so that it needs no look at every pair of ranks. Pure; no allocation: the table is the
 * caller's. For ranks of which none is gone.
 */
#ifndef TRM_COLLECTIVES_TALLY_H
#define TRM_COLLECTIVES_TALLY_H

#include "collectives/flight_view.h"

/* One communicator, as far as its members are in the list. */
struct trm_tally {
    int64_t number; /* among those of its kind */
    int tensor_size;
    int members;           /* 0: a free place of the table */
    int waiters;           /* who stand still in it */
    int64_t least_entered; /* by a member */
    int64_t most_waiting;  /* number that a waiter stands still for; 0: none */
};

/* Places of a table for `count` ranks. */
#define TRM_TALLY_PLACES(count) ((size_t)TRM_FLIGHT_GROUPS * (size_t)(count))

/* The lane that a rank stands still in, -1: none. It stands in one wait at a time. */
int trm_tally_waiting_group(const struct trm_flight_view *rank);

/* Fills tallies[TRM_TALLY_PLACES(count)]. */
void trm_tally_fill(const struct trm_flight_view *ranks, int count, struct trm_tally *tallies);

/* The communicator of this kind that a rank of the list is in; NULL before the mesh is known, when
 * there is only the world. */
const struct trm_tally *trm_tally_of(struct trm_tally *tallies, int count,
                                     const struct trm_flight_view *rank, int group);

#endif
