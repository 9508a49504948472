#include "collectives/flight_write.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* One writer, so that neither a lock nor an ordered addition is needed. */
#define SET(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define GET(field)        atomic_load_explicit(&(field), memory_order_relaxed)

void trm_flight_phase(struct trm_flight *flight, enum trm_phase phase)
{
    if (!flight || !flight->record)
        return;
    SET(flight->record->phase_since_ns, trm_clock_now_ns());
    SET(flight->record->phase, (int32_t)phase);
}

void trm_flight_mesh(struct trm_flight *flight, int world_size, int data_size, int tensor_size)
{
    if (!flight || !flight->record)
        return;
    SET(flight->record->world_size, world_size);
    SET(flight->record->data_size, data_size);
    SET(flight->record->tensor_size, tensor_size);
}

void trm_flight_step(struct trm_flight *flight, const struct trm_flight_step *step)
{
    int64_t bits;

    if (!flight || !flight->record)
        return;
    memcpy(&bits, &step->loss, sizeof bits);
    SET(flight->record->samples, step->samples);
    SET(flight->record->step_ns, step->step_ns);
    SET(flight->record->compute_ns, step->compute_ns);
    SET(flight->record->loss_bits, bits);
    SET(flight->record->step, step->step);
}

void trm_flight_resumed(struct trm_flight *flight, int64_t step, enum trm_resumed from,
                        int64_t restore_ns)
{
    if (!flight || !flight->record)
        return;
    SET(flight->record->restore_ns, restore_ns);
    SET(flight->record->resumed_from, from);
    SET(flight->record->resumed_step, step);
}

void trm_flight_memory_step(struct trm_flight *flight, int64_t step)
{
    if (flight && flight->record)
        SET(flight->record->memory_step, step);
}

void trm_flight_disk_step(struct trm_flight *flight, int64_t step)
{
    if (flight && flight->record)
        SET(flight->record->disk_step, step);
}

void trm_flight_blame(struct trm_flight *flight, int rank)
{
    if (flight && flight->record)
        SET(flight->record->blamed_rank, rank);
}

void trm_flight_exit(struct trm_flight *flight, enum trm_status status, int exit_code,
                     const char *text)
{
    struct trm_flight_record *record = flight ? flight->record : NULL;
    int32_t unclaimed = 0;

    if (!record || !atomic_compare_exchange_strong(&record->exit_claimed, &unclaimed, 1))
        return;
    trm_flight_phase(flight, TRM_PHASE_EXIT);
    snprintf(record->exit_text, sizeof record->exit_text, "%s", text ? text : "");
    SET(record->exit_status, (int32_t)status);
    SET(record->exit_code, exit_code);
    atomic_store_explicit(&record->state, TRM_FLIGHT_EXITED, memory_order_release);
}

struct trm_flight_lane *trm_flight_lane(struct trm_flight *flight, enum trm_flight_group group)
{
    return flight && flight->record ? &flight->record->lanes[group] : NULL;
}

int64_t trm_flight_waited_ns(const struct trm_flight *flight)
{
    int64_t sum = 0;

    for (int i = 0; flight && flight->record && i < TRM_FLIGHT_GROUPS; i++)
        sum += GET(flight->record->lanes[i].waited_ns);
    return sum;
}

int64_t trm_flight_enter(struct trm_flight_lane *lane, enum trm_flight_operation operation)
{
    int64_t number;

    if (!lane)
        return 0;
    number = GET(lane->entered) + 1;
    SET(lane->since_ns, trm_clock_now_ns());
    SET(lane->operation, (int32_t)operation);
    SET(lane->entered, number);
    return number;
}

void trm_flight_wait_begin(struct trm_flight_lane *lane, int64_t number,
                           enum trm_flight_operation operation)
{
    if (!lane)
        return;
    SET(lane->since_ns, trm_clock_now_ns());
    SET(lane->operation, (int32_t)operation);
    SET(lane->waiting, number);
}

void trm_flight_wait_end(struct trm_flight_lane *lane)
{
    int64_t now;

    if (!lane)
        return;
    now = trm_clock_now_ns();
    SET(lane->waiting, 0);
    SET(lane->waited_ns, GET(lane->waited_ns) + now - GET(lane->since_ns));
    SET(lane->since_ns, now);
}

void trm_flight_complete(struct trm_flight_lane *lane)
{
    if (lane)
        SET(lane->completed, GET(lane->completed) + 1);
}

void trm_flight_wait_newest(struct trm_flight_lane *lane)
{
    if (lane)
        trm_flight_wait_begin(lane, GET(lane->entered),
                              (enum trm_flight_operation)GET(lane->operation));
}

void trm_flight_complete_all(struct trm_flight_lane *lane)
{
    if (lane)
        SET(lane->completed, GET(lane->entered));
}
