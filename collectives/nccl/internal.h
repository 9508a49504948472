/* What the sources of the NCCL backend share. */
#ifndef TRM_COLLECTIVES_NCCL_INTERNAL_H
#define TRM_COLLECTIVES_NCCL_INTERNAL_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "collectives/backend.h"
#include "collectives/nccl/nccl.h"

/* All communicators that stem from one trm_nccl_start. */
struct nccl_family {
    struct trm_nccl_settings settings;
    struct nccl_state *members; /* list of those that live */
    struct trm_error failure;   /* the first; its status is TRM_OK while the family is sound */
};

/* Behind struct trm_comm.state. */
struct nccl_state {
    struct nccl_family *family; /* owned by the world, which is destroyed last */
    struct nccl_state *next;    /* in family->members */
    struct trm_comm *host;      /* the same ranks over host memory */
    bool is_world;              /* owns family and not host; the others own host */
    ncclComm_t handle;          /* NULL: one rank without NCCL, or aborted */
    cudaStream_t stream;        /* of the operations, in the order in which they start */
    cudaEvent_t before;         /* what was on the caller's stream when the newest one started */
    int64_t *token;             /* device memory that barriers reduce */
    bool unsettled;             /* operations were started that the host hasn't seen complete */
    const char *newest;         /* name and deadline of the newest operation */
    int64_t newest_deadline_ns;
};

struct nccl_request {
    struct trm_request head;
    cudaEvent_t done; /* behind the operation */
    bool detached;
    const char *what; /* "all-gather"; static */
    int64_t deadline_ns;
};

extern const struct trm_comm_backend trm_nccl_backend;

/* failure.c */

/* Keeps the first failure of the family, tells it, and aborts all communicators in one group.
 * Returns the status of that first failure, and its words. */
enum trm_status trm_nccl_fail(struct nccl_family *family, struct trm_error *err,
                              enum trm_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* TRM_OK while the family is sound, else its failure. */
enum trm_status trm_nccl_sound(const struct nccl_family *family, struct trm_error *err);

/* TRM_OK, or a failure of the family: "<what> failed: <the library's words>". An NCCL call that is
 * in progress is no failure. */
enum trm_status trm_nccl_check(struct nccl_family *family, ncclResult_t code, const char *what,
                               struct trm_error *err);
enum trm_status trm_nccl_check_cuda(struct nccl_family *family, cudaError_t code, const char *what,
                                    struct trm_error *err);

/* Has any communicator of the family met an error since? */
enum trm_status trm_nccl_poll(struct nccl_family *family, struct trm_error *err);

/* Fails the family when the deadline has passed, else lets other threads have the processor for a
 * moment that grows with `turns`, the number of calls in this wait. */
enum trm_status trm_nccl_pause(struct nccl_state *state, int64_t deadline_ns, const char *what,
                               int turns, struct trm_error *err);

/* Until NCCL's last call on this communicator is no longer in progress. */
enum trm_status trm_nccl_await(struct nccl_state *state, int64_t deadline_ns, const char *what,
                               struct trm_error *err);

/* Not collective: what the device still does for the family ends. */
void trm_nccl_abort_all(struct nccl_family *family);

/* request.c */

enum trm_status trm_nccl_request_create(struct trm_comm *comm, int max_messages,
                                        struct trm_request **out, struct trm_error *err);
void trm_nccl_request_destroy(struct trm_request *request);
void trm_nccl_detach(struct trm_request *request);
enum trm_status trm_nccl_wait(struct trm_request *request, struct trm_error *err);
enum trm_status trm_nccl_wait_stream(struct trm_request *request, struct trm_error *err);
enum trm_status trm_nccl_wait_comm(struct trm_request *request, struct trm_error *err);
enum trm_status trm_nccl_settle(struct trm_comm *comm, struct trm_error *err);

/* Around what an operation puts on the communicator's stream: begin orders it after the caller's
 * stream; end marks where it is complete, and waits for that when `request` is NULL. */
enum trm_status trm_nccl_begin(struct trm_comm *comm, struct trm_request *request, const char *what,
                               struct nccl_request **out, struct trm_error *err);
enum trm_status trm_nccl_end(struct nccl_request *r, const struct trm_request *request,
                             struct trm_error *err);

/* start.c */

enum trm_status trm_nccl_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                               struct trm_error *err);
void trm_nccl_destroy(struct trm_comm *comm);

#endif
