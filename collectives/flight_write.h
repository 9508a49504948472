/*
 * What a rank writes into its flight record. Not collective; one thread. Without a record (and,
 * below, with lane = NULL) each call is a no-op.
 */
#ifndef TRM_COLLECTIVES_FLIGHT_WRITE_H
#define TRM_COLLECTIVES_FLIGHT_WRITE_H

#include "collectives/flight.h"

void trm_flight_phase(struct trm_flight *flight, enum trm_phase phase);
void trm_flight_mesh(struct trm_flight *flight, int world_size, int data_size, int tensor_size);

/* Where the run stands: after a load, and after each step. */
struct trm_flight_step {
    int64_t step, samples;
    int64_t step_ns, compute_ns; /* 0: not measured */
    double loss;
};
void trm_flight_step(struct trm_flight *flight, const struct trm_flight_step *step);

/* This rank has its state: of `step`, from there, after so long. */
void trm_flight_resumed(struct trm_flight *flight, int64_t step, enum trm_resumed from,
                        int64_t restore_ns);

/* Newest snapshot that is complete in memory, on disk. */
void trm_flight_memory_step(struct trm_flight *flight, int64_t step);
void trm_flight_disk_step(struct trm_flight *flight, int64_t step);

/* Before the exit: the node of that rank of the world is to be left out. */
void trm_flight_blame(struct trm_flight *flight, int rank);

/* The last entry: why this rank leaves (`text` may be NULL). Any thread; the first of several
 * stands. */
void trm_flight_exit(struct trm_flight *flight, enum trm_status status, int exit_code,
                     const char *text);

/* The lane of a group, for struct trm_comm.flight; NULL without a record. */
struct trm_flight_lane *trm_flight_lane(struct trm_flight *flight, enum trm_flight_group group);

/* All that this rank waited for others so far. */
int64_t trm_flight_waited_ns(const struct trm_flight *flight);

/* For comm.c. A collective starts; its number. */
int64_t trm_flight_enter(struct trm_flight_lane *lane, enum trm_flight_operation operation);
/* The rank stands still for it, and goes on. */
void trm_flight_wait_begin(struct trm_flight_lane *lane, int64_t number,
                           enum trm_flight_operation operation);
void trm_flight_wait_end(struct trm_flight_lane *lane);
void trm_flight_complete(struct trm_flight_lane *lane);
/* The same for all that was started: what streams and not the host wait for is settled at once. */
void trm_flight_wait_newest(struct trm_flight_lane *lane);
void trm_flight_complete_all(struct trm_flight_lane *lane);

#endif
