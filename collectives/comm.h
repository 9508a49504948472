/*
 * Communicators: the few operations that training needs, over interchangeable backends.
 *
 * A struct trm_comm is a group of ranks and a table of operations. Every operation starts, and is
 * waited for through a request; a backend may finish it inside start. One thread of a process makes
 * all calls. Operations on one communicator are started in the same order by all its ranks.
 *
 * In fixed order (see lanes.h) backends move bytes and add integers only: floats are added by our
 * own code (ordered.h). The two `fastest_` operations hand float sums to the vendor instead.
 *
 * A communicator over device memory (the NCCL backend) belongs to a stream of its caller's: its
 * buffers are device memory, an operation begins after what is on that stream when it starts, and
 * runs beside it. Which wait is called says who waits: the host, the stream, or what the
 * communicator does next. Over host memory the three are one.
 *
 * Failure: an operation whose peer died may never complete on its own; backends report what they
 * notice as TRM_ERR_COMM, and after any error the communicator may only be destroyed or aborted.
 * Buffers belong to the caller and must stay in place until the wait returns.
 */
#ifndef TRM_COLLECTIVES_COMM_H
#define TRM_COLLECTIVES_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/type.h"
#include "collectives/lanes.h"

struct trm_comm_backend;
struct trm_flight_lane;

enum trm_reduction { TRM_SUM_I64, TRM_MIN_I64, TRM_MAX_I64, TRM_MAX_F32, TRM_MAX_F64 };

/* One message of an exchange: `bytes` at `data` to or from rank `peer` of the communicator.
 * Messages between the same two ranks match in the order in which they are listed. */
struct trm_message {
    int peer;
    void *data;
    size_t bytes;
};

/* An operation under way. Created once for a communicator and reused: a steady step allocates
 * nothing. Holds at most one operation at a time. */
struct trm_request;

struct trm_comm {
    const struct trm_comm_backend *backend; /* backend.h */
    int rank, size;
    void *state;                     /* the backend's */
    struct trm_request *own_request; /* for the blocking forms below */
    struct trm_flight_lane *flight;  /* borrowed: where operations are noted; NULL: nowhere */
};

/* One rank, without MPI. *out is returned owned. */
enum trm_status trm_comm_self(struct trm_comm **out, struct trm_error *err);

/* Collective on backends that tear down together. Takes NULL. Requests of the communicator are
 * destroyed before it. */
void trm_comm_destroy(struct trm_comm *comm);

/* Not collective. `max_messages` bounds the sends plus receives of an exchange; 0 for none. *out is
 * returned owned and borrows `comm`. */
enum trm_status trm_request_create(struct trm_comm *comm, int max_messages,
                                   struct trm_request **out, struct trm_error *err);
/* Takes NULL. An operation under way is abandoned, which only a job about to end may do. */
void trm_request_destroy(struct trm_request *request);

/* Completes the operation started on `request`; TRM_OK at once when there is none (or NULL). */
enum trm_status trm_request_wait(struct trm_request *request, struct trm_error *err);

/* The same without holding up the host, where the buffers are device memory: what is put on the
 * caller's stream from now on comes after the operation. `request` may be used again at once; an
 * operation that fails is told by a later wait of the host or by trm_comm_settle. */
enum trm_status trm_request_wait_stream(struct trm_request *request, struct trm_error *err);

/* The same for what is started on the communicator from now on; the caller's stream goes on. */
enum trm_status trm_request_wait_comm(struct trm_request *request, struct trm_error *err);

/* Lets the operation go on. *done: waiting would return at once, or nobody can tell. */
enum trm_status trm_request_done(struct trm_request *request, bool *done, struct trm_error *err);

/* Operations on `request` begin after earlier ones of the communicator, no longer after the
 * caller's stream: for buffers that nothing else has touched since. */
void trm_request_detach(struct trm_request *request);

/* The host waits until everything started on `comm` is complete, whoever else waits for it: before
 * the host reads a result, with a deadline that a wait for the stream would lack. */
enum trm_status trm_comm_settle(struct trm_comm *comm, struct trm_error *err);

/* Collective over `comm`, as all below. Each starts an operation on `r`; with r = NULL it is
 * started and waited for. A communicator of one rank completes at once. */
enum trm_status trm_comm_barrier(struct trm_comm *comm, struct trm_request *r,
                                 struct trm_error *err);

/* `bytes` at `data` from `root` to all. */
enum trm_status trm_comm_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                   struct trm_request *r, struct trm_error *err);

/* `bytes` of each rank into all[size][bytes], by rank. `mine` may be its own place in `all`. */
enum trm_status trm_comm_all_gather(struct trm_comm *comm, const void *mine, void *all,
                                    size_t bytes, struct trm_request *r, struct trm_error *err);

/* send[size][bytes], block i to rank i; receive[size][bytes], block i from rank i. No overlap. */
enum trm_status trm_comm_all_to_all(struct trm_comm *comm, const void *send, void *receive,
                                    size_t bytes, struct trm_request *r, struct trm_error *err);

/* Any pattern of messages, of any size. Both sides of each message list it; ranks without any make
 * the call too, so that operations have the same numbers everywhere. No message to oneself. The
 * lists are borrowed until the call returns, the data until the wait. */
enum trm_status trm_comm_exchange(struct trm_comm *comm, const struct trm_message *sends,
                                  int send_count, const struct trm_message *receives,
                                  int receive_count, struct trm_request *r, struct trm_error *err);

/* In place; exact, so the same in any order. A maximum is NaN when any is, and +0 lies above -0. */
enum trm_status trm_comm_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                    enum trm_reduction op, struct trm_request *r,
                                    struct trm_error *err);

/* Float sums by the vendor, in an order of its own: only under `reduction: fastest`. Float32 and
 * float64 on every backend, else TRM_ERR_UNSUPPORTED. */
enum trm_status trm_comm_fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                            enum trm_type type, struct trm_request *r,
                                            struct trm_error *err);
/* data[size][count] summed over ranks; block i lands in `mine` of rank i. */
enum trm_status trm_comm_fastest_reduce_scatter(struct trm_comm *comm, const void *data, void *mine,
                                                size_t count, enum trm_type type,
                                                struct trm_request *r, struct trm_error *err);

/* Not collective: additions in the order listed, operands[target] += operands[source], where the
 * buffers of `comm` lie; operand 0 then goes to `into` unless that is NULL. Of operands that were
 * added into others, the contents are undefined afterwards. Operands don't overlap. Float32 and
 * float64; on a device bfloat16 too, added in float32 along at most TRM_SUM_DEPTH levels of a tree
 * and rounded once. The lists are borrowed until the call returns, the data until the wait. */
enum trm_status trm_comm_sum(struct trm_comm *comm, void *const *operands,
                             const struct trm_lane_add *adds, int add_count, void *into,
                             size_t count, enum trm_type type, struct trm_request *r,
                             struct trm_error *err);

/* Collective: ranks with the same color (0 or more) form a communicator, ordered by key. *out is
 * returned owned; destroy it before `comm`. */
enum trm_status trm_comm_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                               struct trm_error *err);

/* Not collective. Does not return on backends that can end the job. */
void trm_comm_abort(struct trm_comm *comm, int exit_code);

#endif
