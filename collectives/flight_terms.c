#include "collectives/flight_terms.h"

static const char *const phase_names[TRM_PHASE_COUNT] = {
    [TRM_PHASE_STARTUP] = "start-up",
    [TRM_PHASE_COMM_INIT] = "communicator set-up",
    [TRM_PHASE_LOAD] = "loading",
    [TRM_PHASE_DATA] = "reading data",
    [TRM_PHASE_FORWARD] = "forward",
    [TRM_PHASE_BACKWARD] = "backward",
    [TRM_PHASE_GRAD_EXCHANGE] = "gradient exchange",
    [TRM_PHASE_OPTIMIZER] = "optimizer",
    [TRM_PHASE_SNAPSHOT] = "snapshot",
    [TRM_PHASE_SAVE] = "saving",
    [TRM_PHASE_EVALUATE] = "evaluation",
    [TRM_PHASE_EXIT] = "exit",
};

static const char *const group_names[TRM_FLIGHT_GROUPS] = {
    [TRM_FLIGHT_WORLD] = "world",
    [TRM_FLIGHT_DATA] = "data",
    [TRM_FLIGHT_TENSOR] = "tensor",
};

static const char *const operation_names[TRM_FLIGHT_OPERATION_COUNT] = {
    [TRM_FLIGHT_NONE] = "nothing",          [TRM_FLIGHT_BARRIER] = "barrier",
    [TRM_FLIGHT_BROADCAST] = "broadcast",   [TRM_FLIGHT_ALL_GATHER] = "all-gather",
    [TRM_FLIGHT_ALL_TO_ALL] = "all-to-all", [TRM_FLIGHT_EXCHANGE] = "exchange",
    [TRM_FLIGHT_ALL_REDUCE] = "all-reduce", [TRM_FLIGHT_REDUCE_SCATTER] = "reduce-scatter",
    [TRM_FLIGHT_SPLIT] = "split",
};

static const char *const resumed_names[TRM_RESUMED_COUNT] = {
    [TRM_RESUMED_NOTHING] = "nothing",
    [TRM_RESUMED_DISK] = "disk",
    [TRM_RESUMED_MEMORY] = "memory",
};

/* The numbers come from another process, or by wire. */
static const char *name_of(const char *const *names, unsigned count, unsigned number)
{
    return number < count ? names[number] : "unknown";
}

const char *trm_phase_name(enum trm_phase phase)
{
    return name_of(phase_names, TRM_PHASE_COUNT, (unsigned)phase);
}

bool trm_phase_is_io(enum trm_phase phase)
{
    return phase == TRM_PHASE_LOAD || phase == TRM_PHASE_DATA || phase == TRM_PHASE_SAVE;
}

const char *trm_resumed_name(enum trm_resumed from)
{
    return name_of(resumed_names, TRM_RESUMED_COUNT, (unsigned)from);
}

const char *trm_flight_group_name(enum trm_flight_group group)
{
    return name_of(group_names, TRM_FLIGHT_GROUPS, (unsigned)group);
}

const char *trm_flight_operation_name(enum trm_flight_operation operation)
{
    return name_of(operation_names, TRM_FLIGHT_OPERATION_COUNT, (unsigned)operation);
}
