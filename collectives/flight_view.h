/*
 * A flight record at one moment, as plain values. Ages instead of times, so that it means the same
 * on another node: agents send it, verdicts are made of it. Not of one instant: each word is true
 * of some moment during the call. Anybody may read; no allocation.
 */
#ifndef TRM_COLLECTIVES_FLIGHT_VIEW_H
#define TRM_COLLECTIVES_FLIGHT_VIEW_H

#include "collectives/flight.h"

struct trm_flight_lane_view {
    int64_t entered, completed, waiting;
    int64_t age_ms;
    enum trm_flight_operation operation;
};

struct trm_flight_view {
    enum trm_flight_state state;
    int rank, world_size, data_size, tensor_size; /* sizes: 0 until known */
    int64_t pid;
    char process; /* as trm_flight_process says, '?' unless the reader asks it */
    enum trm_phase phase;
    int64_t phase_age_ms;
    int64_t step, samples;
    double step_ms, compute_ms, loss;
    int64_t memory_step, disk_step;
    struct trm_flight_lane_view lanes[TRM_FLIGHT_GROUPS];
    enum trm_status exit_status;
    int exit_code;
    char exit_text[TRM_FLIGHT_TEXT_BYTES]; /* valid UTF-8 without control characters */
};

/* The values of `record` at `now_ns` (trm_clock_now_ns). */
void trm_flight_view(const struct trm_flight_record *record, int64_t now_ns,
                     struct trm_flight_view *out);

/* The process as the kernel shows it: 'R' runs, 'S' sleeps, 'D' waits for storage or a device and
 * can't be interrupted, 'T' was stopped by a signal, 't' stands in a debugger, 'X' is gone (zombies
 * too), '?' is not known. `pid` counts in this process's own PID namespace. */
char trm_flight_process(int64_t pid);

#endif
