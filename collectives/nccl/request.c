/* Requests: an event behind each operation, and who waits for it. */
#include <stdlib.h>

#include "base/clock.h"
#include "collectives/nccl/internal.h"

static struct nccl_state *state_of(const struct nccl_request *r)
{
    return r->head.comm->state;
}

enum trm_status trm_nccl_request_create(struct trm_comm *comm, int max_messages,
                                        struct trm_request **out, struct trm_error *err)
{
    struct nccl_state *state = comm->state;
    struct nccl_request *r = calloc(1, sizeof *r);
    enum trm_status status;

    if (!r)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communication request");
    r->head.comm = comm;
    r->head.max_messages = max_messages;
    status = trm_nccl_check_cuda(state->family,
                                 cudaEventCreateWithFlags(&r->done, cudaEventDisableTiming),
                                 "making an event", err);
    if (status) {
        free(r);
        return status;
    }
    *out = &r->head;
    return TRM_OK;
}

void trm_nccl_request_destroy(struct trm_request *request)
{
    struct nccl_request *r = (struct nccl_request *)request;
    cudaEventDestroy(r->done);
    free(r);
}

void trm_nccl_detach(struct trm_request *request)
{
    ((struct nccl_request *)request)->detached = true;
}

enum trm_status trm_nccl_begin(struct trm_comm *comm, struct trm_request *request, const char *what,
                               struct nccl_request **out, struct trm_error *err)
{
    struct nccl_state *state = comm->state;
    struct nccl_family *family = state->family;
    struct nccl_request *r = (struct nccl_request *)(request ? request : comm->own_request);
    cudaStream_t caller = family->settings.stream;
    enum trm_status status = trm_nccl_sound(family, err);

    if (status)
        return status;
    r->what = state->newest = what;
    r->deadline_ns = trm_clock_deadline_ns(family->settings.operation_timeout_ms);
    state->newest_deadline_ns = r->deadline_ns;
    if (caller && !r->detached) {
        cudaError_t code = cudaEventRecord(state->before, caller);
        if (code == cudaSuccess)
            code = cudaStreamWaitEvent(state->stream, state->before, 0);
        status = trm_nccl_check_cuda(family, code, what, err);
    }
    if (status == TRM_OK)
        *out = r;
    return status;
}

/* A call in progress isn't on the stream yet: an event before that would be complete too early. */
enum trm_status trm_nccl_end(struct nccl_request *r, const struct trm_request *request,
                             struct trm_error *err)
{
    struct nccl_state *state = state_of(r);
    enum trm_status status = trm_nccl_await(state, r->deadline_ns, r->what, err);

    if (status == TRM_OK)
        status = trm_nccl_check_cuda(state->family, cudaEventRecord(r->done, state->stream),
                                     r->what, err);
    if (status)
        return status;
    r->head.active = state->unsettled = true;
    return request ? TRM_OK : trm_nccl_wait(&r->head, err);
}

/* Until `event` is complete; errors of any communicator of the family end it early. */
static enum trm_status wait_for(struct nccl_state *state, cudaEvent_t event, int64_t deadline_ns,
                                const char *what, struct trm_error *err)
{
    for (int turns = 0;; turns++) {
        enum trm_status status = trm_nccl_poll(state->family, err);
        cudaError_t code = status ? cudaSuccess : cudaEventQuery(event);
        if (status)
            return status;
        if (code != cudaErrorNotReady)
            return trm_nccl_check_cuda(state->family, code, what, err);
        status = trm_nccl_pause(state, deadline_ns, what, turns, err);
        if (status)
            return status;
    }
}

enum trm_status trm_nccl_wait(struct trm_request *request, struct trm_error *err)
{
    struct nccl_request *r = (struct nccl_request *)request;
    r->head.active = false;
    return wait_for(state_of(r), r->done, r->deadline_ns, r->what, err);
}

enum trm_status trm_nccl_wait_stream(struct trm_request *request, struct trm_error *err)
{
    struct nccl_request *r = (struct nccl_request *)request;
    struct nccl_family *family = state_of(r)->family;
    enum trm_status status = trm_nccl_sound(family, err);

    if (!family->settings.stream)
        return trm_nccl_wait(request, err);
    r->head.active = false;
    if (status)
        return status;
    return trm_nccl_check_cuda(family, cudaStreamWaitEvent(family->settings.stream, r->done, 0),
                               r->what, err);
}

/* The communicator's stream keeps its operations in order anyway. */
enum trm_status trm_nccl_wait_comm(struct trm_request *request, struct trm_error *err)
{
    struct nccl_request *r = (struct nccl_request *)request;
    r->head.active = false;
    return trm_nccl_sound(state_of(r)->family, err);
}

enum trm_status trm_nccl_settle(struct trm_comm *comm, struct trm_error *err)
{
    struct nccl_state *state = comm->state;
    const struct nccl_request *own = (const struct nccl_request *)comm->own_request;
    enum trm_status status = trm_nccl_poll(state->family, err);

    if (status || !state->unsettled)
        return status;
    status = trm_nccl_check_cuda(state->family, cudaEventRecord(own->done, state->stream),
                                 state->newest, err);
    if (status == TRM_OK)
        status = wait_for(state, own->done, state->newest_deadline_ns, state->newest, err);
    if (status == TRM_OK)
        state->unsettled = false;
    return status;
}
