/* The words of flight records: phases, groups, operations. Their numbers travel between programs of
 * one build. */
#ifndef TRM_COLLECTIVES_FLIGHT_TERMS_H
#define TRM_COLLECTIVES_FLIGHT_TERMS_H

#include <stdbool.h>

/* Where a rank is. Those marked I/O may wait for storage: they are told, and not taken for hangs
 * until io_timeout. */
enum trm_phase {
    TRM_PHASE_STARTUP,
    TRM_PHASE_COMM_INIT,
    TRM_PHASE_LOAD, /* I/O */
    TRM_PHASE_DATA, /* I/O: waits for its batch */
    TRM_PHASE_FORWARD,
    TRM_PHASE_BACKWARD,
    TRM_PHASE_GRAD_EXCHANGE,
    TRM_PHASE_OPTIMIZER,
    TRM_PHASE_SNAPSHOT,
    TRM_PHASE_SAVE, /* I/O: waits for a save */
    TRM_PHASE_EVALUATE,
    TRM_PHASE_EXIT,
    TRM_PHASE_COUNT
};

/* Where a run's state came from when a rank came up. */
enum trm_resumed { TRM_RESUMED_NOTHING, TRM_RESUMED_DISK, TRM_RESUMED_MEMORY, TRM_RESUMED_COUNT };

/* The communicators that are followed. */
enum trm_flight_group { TRM_FLIGHT_WORLD, TRM_FLIGHT_DATA, TRM_FLIGHT_TENSOR, TRM_FLIGHT_GROUPS };

enum trm_flight_operation {
    TRM_FLIGHT_NONE,
    TRM_FLIGHT_BARRIER,
    TRM_FLIGHT_BROADCAST,
    TRM_FLIGHT_ALL_GATHER,
    TRM_FLIGHT_ALL_TO_ALL,
    TRM_FLIGHT_EXCHANGE,
    TRM_FLIGHT_ALL_REDUCE,
    TRM_FLIGHT_REDUCE_SCATTER,
    TRM_FLIGHT_SPLIT,
    TRM_FLIGHT_OPERATION_COUNT
};

/* "forward", "gradient exchange"; "data"; "all-reduce"; static, "unknown" for other numbers. */
const char *trm_phase_name(enum trm_phase phase);
bool trm_phase_is_io(enum trm_phase phase);
const char *trm_resumed_name(enum trm_resumed from);
const char *trm_flight_group_name(enum trm_flight_group group);
const char *trm_flight_operation_name(enum trm_flight_operation operation);

#endif
