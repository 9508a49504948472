/*
 * ★ trm_flight: what each rank of a node is doing, in memory shared with the node's agent.
 *
 * A segment has a head (lease, requests) and a record per local rank. A rank writes its own record
 * and reads the head; the agent reads the records and writes the head; so does nobody else. Fields
 * are single words, stored and loaded atomically and relaxed: a reader may see words of two
 * moments, never half a word. An entry costs a few stores and a look at the clock, about 25 ns.
 *
 * Under `trireme run` the segment is a memfd of the agent (attach.h). Under plain mpirun the ranks
 * of a node share an unnamed file in /dev/shm (node_flight.h), which vanishes with them; its lease
 * never ends.
 *
 * Times are CLOCK_MONOTONIC in nanoseconds (trm_clock_now_ns), the same for all processes of a
 * node; ages, not times, travel between nodes. The lease is CLOCK_BOOTTIME, which also counts a
 * suspended machine.
 *
 * One thread of a rank writes; others of it may read, and may write the exit (flight_write.h).
 */
#ifndef TRM_COLLECTIVES_FLIGHT_H
#define TRM_COLLECTIVES_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "collectives/flight_terms.h"

#define TRM_FLIGHT_MAGIC      UINT64_C(0x33746867696c66) /* "flight3" */
#define TRM_FLIGHT_MAX_RANKS  1024                       /* of a node */
#define TRM_FLIGHT_TEXT_BYTES 256
#define TRM_FLIGHT_ALIGNMENT  64 /* of segment and records: no cache line has two writers */

/* Collectives of one communicator, numbered from 1 in the order in which every member starts them.
 * Several may be under way at once. */
struct trm_flight_lane {
    _Atomic int64_t entered;   /* started: the newest number */
    _Atomic int64_t completed; /* so many, as far as the host knows */
    _Atomic int64_t waiting;   /* the number that the rank stands still for; 0: none */
    _Atomic int64_t since_ns;  /* of the newest start, wait or completion */
    _Atomic int64_t waited_ns; /* all waits so far */
    _Atomic int32_t operation; /* of `waiting`, else of `entered` */
    _Atomic int32_t reserved;
};

enum trm_flight_state { TRM_FLIGHT_EMPTY, TRM_FLIGHT_RUNNING, TRM_FLIGHT_EXITED };

struct trm_flight_record {
    /* enum trm_flight_state; the fields of a state are written before it. */
    _Alignas(TRM_FLIGHT_ALIGNMENT) _Atomic int32_t state;
    _Atomic int32_t rank, world_size, data_size, tensor_size; /* sizes: 0 until known */
    _Atomic int32_t phase;
    _Atomic int64_t pid;       /* as the rank's own PID namespace counts */
    _Atomic int64_t pid_space; /* that namespace (trm_flight_pid_space) */
    _Atomic int64_t phase_since_ns;
    _Atomic int64_t step;                   /* optimizer steps done; -1: none yet */
    _Atomic int64_t samples;                /* consumed */
    _Atomic int64_t step_ns;                /* of the newest step, whole; 0: none yet */
    _Atomic int64_t compute_ns;             /* of the newest step, without waiting for others */
    _Atomic int64_t loss_bits;              /* the double's */
    _Atomic int64_t memory_step, disk_step; /* newest snapshot complete in memory, on disk; -1 */
    _Atomic int64_t resumed_step;           /* where this start began; -1: not yet */
    _Atomic int64_t restore_ns;             /* how long getting there took */
    _Atomic int32_t resumed_from;           /* enum trm_resumed */
    _Atomic int32_t blamed_rank;            /* whose node is at fault for the exit; -1: nobody's */
    struct trm_flight_lane lanes[TRM_FLIGHT_GROUPS];
    /* The agent trusts these, not mpirun's status. */
    _Atomic int32_t exit_claimed; /* by the thread that writes the rest, before state EXITED */
    _Atomic int32_t exit_status;  /* enum trm_status */
    _Atomic int32_t exit_code;
    char exit_text[TRM_FLIGHT_TEXT_BYTES];
};

/* What the agent asks of its ranks. */
enum trm_flight_request { TRM_FLIGHT_GO_ON, TRM_FLIGHT_STOP /* save, then exit with 75 */ };

struct trm_flight_segment {
    _Alignas(TRM_FLIGHT_ALIGNMENT) uint64_t magic;
    int32_t capacity; /* records */
    int32_t reserved;
    int64_t attempt;
    _Atomic int64_t lease_until_ns; /* CLOCK_BOOTTIME; INT64_MAX: no lease */
    _Atomic int32_t request;        /* enum trm_flight_request */
    /* Without an agent: a rank has said why the job ends; that it waits for storage. */
    _Atomic int32_t judged, waits_for_storage;
    struct trm_flight_record records[];
};

/* A rank's view. With record = NULL every call of flight_write.h is a no-op, so that tests and
 * tools need no segment. */
struct trm_flight {
    struct trm_flight_segment *segment; /* mapped; NULL: none */
    struct trm_flight_record *record;   /* this rank's, in it */
    size_t bytes;
};

size_t trm_flight_segment_bytes(int capacity);

/* Lays an empty segment without a lease into `bytes` zeroed bytes at `memory`, which is aligned to
 * TRM_FLIGHT_ALIGNMENT (the agent's mapping, or a test's). */
void trm_flight_segment_init(void *memory, int capacity, int64_t attempt);

/* Maps a segment that `fd` holds (not closed here), checks it, and claims record `index` for this
 * process as `rank`, in phase STARTUP. TRM_ERR_MISMATCH: not a segment of this build, or the record
 * has an owner. */
enum trm_status trm_flight_map(int fd, int index, int rank, struct trm_flight *out,
                               struct trm_error *err);
void trm_flight_unmap(struct trm_flight *flight);

/* CLOCK_BOOTTIME now, and whether the lease is over. */
int64_t trm_flight_boot_ns(void);
bool trm_flight_lease_lapsed(const struct trm_flight *flight);

/* The agent asked to stop. */
bool trm_flight_stop_requested(const struct trm_flight *flight);

/* Which PID namespace this process is in; 0: not known. Its pids mean nothing in another. */
int64_t trm_flight_pid_space(void);

#endif
