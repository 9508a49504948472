/*
 * Requests to stop: SIGTERM, SIGUSR1 (which mpirun forwards) and SIGINT.
 *
 * They are blocked in every thread and looked for between steps: no handler ever runs. A handler
 * would have to run on a stack of its own anyway: the matrix library's kernels point the stack
 * pointer into memory of theirs, and a signal frame there would overwrite the heap.
 */
#ifndef TRM_TRAINER_SIGNALS_H
#define TRM_TRAINER_SIGNALS_H

#include <stdbool.h>

#include "collectives/flight.h"

/* Blocks the signals, and ignores SIGPIPE: first thing in main, so that every thread inherits it.
 */
void trm_signals_block(void);

/* True once a request came, as a signal or by the agent through the flight record; stays true. */
bool trm_signals_stop_requested(const struct trm_flight *flight);

#endif
