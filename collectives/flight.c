#include "collectives/flight.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

/* Ranks and agent are programs of one build, but the layout is also the cache's. */
_Static_assert(sizeof(struct trm_flight_segment) == TRM_FLIGHT_ALIGNMENT, "the head is one line");
_Static_assert(sizeof(struct trm_flight_record) % TRM_FLIGHT_ALIGNMENT == 0, "whole lines");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "a lock would belong to one process");

size_t trm_flight_segment_bytes(int capacity)
{
    TRM_ASSERT(capacity >= 1 && capacity <= TRM_FLIGHT_MAX_RANKS);
    return sizeof(struct trm_flight_segment) + (size_t)capacity * sizeof(struct trm_flight_record);
}

void trm_flight_segment_init(void *memory, int capacity, int64_t attempt)
{
    struct trm_flight_segment *segment = memory;

    TRM_ASSERT((uintptr_t)memory % TRM_FLIGHT_ALIGNMENT == 0);
    memset(memory, 0, trm_flight_segment_bytes(capacity));
    segment->capacity = capacity;
    segment->attempt = attempt;
    atomic_store(&segment->lease_until_ns, INT64_MAX);
    segment->magic = TRM_FLIGHT_MAGIC;
}

static enum trm_status map_segment(int fd, struct trm_flight *out, struct trm_error *err)
{
    struct stat info;
    void *memory;
    struct trm_flight_segment *segment;

    if (fstat(fd, &info) != 0)
        return trm_error_set_errno(err, errno, "looking at the flight records");
    if (info.st_size < (off_t)trm_flight_segment_bytes(1))
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "the flight records have %lld bytes, too few for one rank",
                             (long long)info.st_size);
    memory = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return trm_error_set_errno(err, errno, "mapping the flight records");
    segment = memory;
    if (segment->magic != TRM_FLIGHT_MAGIC || segment->capacity < 1 ||
        segment->capacity > TRM_FLIGHT_MAX_RANKS ||
        trm_flight_segment_bytes(segment->capacity) > (size_t)info.st_size) {
        munmap(memory, (size_t)info.st_size);
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "the flight records are of another version of this program, or "
                             "damaged: run one build of trireme and trireme-train on all nodes");
    }
    *out = (struct trm_flight){.segment = segment, .bytes = (size_t)info.st_size};
    return TRM_OK;
}

/* The state comes last: whoever sees it sees the rest. */
static void fill(struct trm_flight_record *record, int rank)
{
    atomic_store(&record->rank, rank);
    atomic_store(&record->pid, (int64_t)getpid());
    atomic_store(&record->pid_space, trm_flight_pid_space());
    atomic_store(&record->phase, TRM_PHASE_STARTUP);
    atomic_store(&record->phase_since_ns, trm_clock_now_ns());
    atomic_store(&record->step, -1);
    atomic_store(&record->memory_step, -1);
    atomic_store(&record->resumed_step, -1);
    atomic_store(&record->blamed_rank, -1);
    atomic_store(&record->disk_step, -1);
    atomic_store_explicit(&record->state, TRM_FLIGHT_RUNNING, memory_order_release);
}

enum trm_status trm_flight_map(int fd, int index, int rank, struct trm_flight *out,
                               struct trm_error *err)
{
    struct trm_flight flight;
    enum trm_status status = map_segment(fd, &flight, err);

    if (status != TRM_OK)
        return status;
    if (index < 0 || index >= flight.segment->capacity ||
        atomic_load(&flight.segment->records[index].state) != TRM_FLIGHT_EMPTY) {
        status = trm_error_set(err, TRM_ERR_MISMATCH,
                               "flight record %d of %d has an owner or is none: two processes run "
                               "as one rank",
                               index, flight.segment->capacity);
        trm_flight_unmap(&flight);
        return status;
    }
    flight.record = &flight.segment->records[index];
    fill(flight.record, rank);
    *out = flight;
    return TRM_OK;
}

void trm_flight_unmap(struct trm_flight *flight)
{
    if (flight && flight->segment)
        munmap(flight->segment, flight->bytes);
    if (flight)
        *flight = (struct trm_flight){0};
}

int64_t trm_flight_boot_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool trm_flight_lease_lapsed(const struct trm_flight *flight)
{
    int64_t until;

    if (!flight->segment)
        return false;
    until = atomic_load_explicit(&flight->segment->lease_until_ns, memory_order_relaxed);
    return until != INT64_MAX && trm_flight_boot_ns() >= until;
}

bool trm_flight_stop_requested(const struct trm_flight *flight)
{
    return flight && flight->segment &&
           atomic_load_explicit(&flight->segment->request, memory_order_relaxed) == TRM_FLIGHT_STOP;
}

int64_t trm_flight_pid_space(void)
{
    struct stat info;

    return stat("/proc/self/ns/pid", &info) == 0 ? (int64_t)info.st_ino : 0;
}
