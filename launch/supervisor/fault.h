/* What ended an attempt: one fault, the first that was seen. */
#ifndef TRM_LAUNCH_SUPERVISOR_FAULT_H
#define TRM_LAUNCH_SUPERVISOR_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "collectives/flight_terms.h"
#include "launch/hostfile.h"

enum fault_kind {
    FAULT_NONE,
    FAULT_RANK_GONE, /* a process died */
    FAULT_RANK_LEFT, /* it left with an error that another attempt may not meet */
    FAULT_NODE,      /* a node was lost */
    FAULT_LAUNCHER,  /* mpirun */
    FAULT_DAEMON,    /* its daemon on a node */
    FAULT_HANG,
    FAULT_START, /* did not come up in time */
    FAULT_LEASE, /* leases ran out because this supervisor did not prolong them */
};

struct fault {
    enum fault_kind kind;
    int rank, signal; /* -1, 0: unknown */
    int64_t step;
    enum trm_phase phase;
    char node[TRM_HOST_NAME_BYTES]; /* "": none */
    char cause[1024]; /* "was killed (signal 9)", for a sentence that begins with who */
    bool blames_node;
    double
        starved_s; /* for so long its node got no answer, by this supervisor's own doing; 0: no */
    bool stood_still; /* because it did nothing at all, and not because it saw no claim */
    int64_t sign_ns, decided_ns, fenced_ns;
};

#endif
