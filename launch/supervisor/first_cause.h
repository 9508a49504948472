/*
 * What came first by network need not be what happened first: mpirun that dies takes ranks and
 * daemons with it; one that notices a dead rank or a dead node ends its daemons; and a node that
 * hears nothing any more ends both by itself. Before a fault is told, it is looked at again with
 * what has become known since. Pure.
 */
#ifndef TRM_LAUNCH_SUPERVISOR_FIRST_CAUSE_H
#define TRM_LAUNCH_SUPERVISOR_FIRST_CAUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "launch/supervisor/fault.h"

struct trm_clues {
    bool mpirun_ended;
    int64_t mpirun_status;
    int mpirun_signal;           /* that ended it; 0: none */
    int signal_rank;             /* whom mpirun says a signal ended; -1: nobody */
    int signal_number;           /* which */
    const char *signal_node;     /* that rank's; NULL: not known */
    enum trm_phase signal_phase; /* that rank's */
    int died_of;           /* which signal ended the fault's rank, as its node says; 0: unknown */
    const char *lost_node; /* of the attempt, whose agent is gone; NULL: none */
    const char *lost_reason;
    int64_t lost_heard_ns; /* when it was heard last */
    bool proved_itself;    /* the fault's node has proved its ranks dead, and nobody had asked it */
};

/* Changes *fault to what the clues say came before it, and fills in the signal. */
void trm_first_cause(struct fault *fault, const struct trm_clues *clues);

#endif
