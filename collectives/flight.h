/*
 * ★ trm_flight: what each rank of a node is doing, in memory shared with the node's agent.
 *
 * A segment has a head (lease, requests) and a record per local rank. A rank writes its own record
 * and reads the head; the agent reads the records and writes the head; so does nobody else. Fields
 * are single words, stored and loaded atomically and relaxed: a reader may see words of two
 * moments, never half a word. Writing an entry costs two stores.
 *
 * Under `trireme run` the segment is a memfd of the agent (attach.h). Under plain mpirun the ranks
 * of a node share an unnamed file in /dev/shm, which vanishes with them; its lease never ends.
 *
 * Times are CLOCK_MONOTONIC in nanoseconds (trm_clock_now_ns), the same for all processes of a
 * node; ages, not times, travel between nodes. The lease is CLOCK_BOOTTIME, which also counts a
 * suspended machine.
 */
#ifndef TRM_COLLECTIVES_FLIGHT_H
#define TRM_COLLECTIVES_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_FLIGHT_MAGIC      UINT64_C(0x31746867696c66) /* "flight1" */
#define TRM_FLIGHT_MAX_RANKS  1024                       /* of a node */
#define TRM_FLIGHT_TEXT_BYTES 256

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

/* "forward", "gradient exchange", ...; static. */
const char *trm_phase_name(enum trm_phase phase);
bool trm_phase_is_io(enum trm_phase phase);

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

const char *trm_flight_group_name(enum trm_flight_group group);
const char *trm_flight_operation_name(enum trm_flight_operation operation);

/* Collectives of one communicator, numbered from 1 in the order in which every member starts them.
 * entered > completed: waiting in number `completed` + 1 or later. */
struct trm_flight_lane {
    _Atomic int64_t entered, completed;
    _Atomic int64_t since_ns;  /* of the newest start or completion */
    _Atomic int32_t operation; /* the newest that was entered */
    _Atomic int32_t blocked;   /* 1 while the rank stands in a wait */
};

enum trm_flight_state { TRM_FLIGHT_EMPTY, TRM_FLIGHT_RUNNING, TRM_FLIGHT_EXITED };

struct trm_flight_record {
    _Atomic int32_t state; /* enum trm_flight_state */
    _Atomic int32_t rank, world_size, data_size, tensor_size;
    _Atomic int32_t phase;
    _Atomic int64_t pid; /* in the rank's own PID namespace */
    _Atomic int64_t phase_since_ns;
    _Atomic int64_t step;                   /* optimizer steps done */
    _Atomic int64_t samples;                /* consumed */
    _Atomic int64_t step_ns;                /* of the newest step, whole */
    _Atomic int64_t compute_ns;             /* of the newest step, without waiting for others */
    _Atomic int64_t loss_bits;              /* the double's */
    _Atomic int64_t memory_step, disk_step; /* newest snapshot complete in memory, on disk; -1 */
    struct trm_flight_lane lanes[TRM_FLIGHT_GROUPS];
    /* Written before state becomes EXITED; the agent trusts this record, not mpirun's status. */
    _Atomic int32_t exit_status; /* enum trm_status */
    _Atomic int32_t exit_code;
    char exit_text[TRM_FLIGHT_TEXT_BYTES];
};

/* What the agent asks of its ranks. */
enum trm_flight_request { TRM_FLIGHT_GO_ON, TRM_FLIGHT_STOP /* save, then exit with 75 */ };

struct trm_flight_segment {
    uint64_t magic;
    int32_t capacity; /* records */
    int32_t reserved;
    int64_t attempt;
    _Atomic int64_t lease_until_ns; /* CLOCK_BOOTTIME; INT64_MAX: no lease */
    _Atomic int32_t request;        /* enum trm_flight_request */
    char padding[216];
    struct trm_flight_record records[];
};

/* A rank's view. With record = NULL every call below is a no-op, so that tests and tools need no
 * segment. */
struct trm_flight {
    struct trm_flight_segment *segment; /* mapped; NULL: none */
    struct trm_flight_record *record;   /* this rank's, in it */
    size_t bytes;
};

size_t trm_flight_segment_bytes(int capacity);

/* Lays an empty segment into `bytes` zeroed bytes at `memory` (the agent's, or a test's). */
void trm_flight_segment_init(void *memory, int capacity, int64_t attempt);

/* Maps a segment that `fd` holds (not closed here), checks it, and claims record `index`. */
enum trm_status trm_flight_map(int fd, int index, struct trm_flight *out, struct trm_error *err);
void trm_flight_unmap(struct trm_flight *flight);

void trm_flight_phase(struct trm_flight *flight, enum trm_phase phase);
void trm_flight_exit(struct trm_flight *flight, enum trm_status status, int exit_code,
                     const char *text);

/* For comm.c. `lane` may be NULL. */
void trm_flight_enter(struct trm_flight_lane *lane, enum trm_flight_operation operation);
void trm_flight_blocked(struct trm_flight_lane *lane, bool blocked);
void trm_flight_complete(struct trm_flight_lane *lane);

/* The agent asked to stop. */
bool trm_flight_stop_requested(const struct trm_flight *flight);

/* CLOCK_BOOTTIME now, and whether the lease is over. */
int64_t trm_flight_boot_ns(void);
bool trm_flight_lease_lapsed(const struct trm_flight *flight);

#endif
