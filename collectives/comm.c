#include "collectives/comm.h"

#include "base/assert.h"
#include "collectives/backend.h"
#include "collectives/flight_write.h"

/* A group of one needs no library: its operations are copies of memory that the host can reach. */
static const struct trm_comm_backend *operations(const struct trm_comm *comm)
{
    TRM_ASSERT(comm->rank >= 0 && comm->rank < comm->size);
    return comm->size == 1 && !comm->backend->on_device ? &trm_self_backend : comm->backend;
}

static const struct trm_comm_backend *ready(const struct trm_comm *comm,
                                            const struct trm_request *r)
{
    TRM_ASSERT(!r || (r->comm == comm && !r->active));
    return operations(comm);
}

/* Notes that an operation starts, as number so and so of its communicator; without a request the
 * rank stands still for it. */
static const struct trm_comm_backend *start(struct trm_comm *comm, struct trm_request *r,
                                            enum trm_flight_operation operation)
{
    const struct trm_comm_backend *backend = ready(comm, r);
    int64_t number = trm_flight_enter(comm->flight, operation);
    if (r) {
        r->number = number;
        r->operation = operation;
    } else {
        trm_flight_wait_begin(comm->flight, number, operation);
    }
    return backend;
}

/* A backend may have finished inside start. */
static enum trm_status started(const struct trm_comm *comm, const struct trm_request *r,
                               enum trm_status status)
{
    if (!r)
        trm_flight_wait_end(comm->flight);
    if (status == TRM_OK && !(r && r->active))
        trm_flight_complete(comm->flight);
    return status;
}

void trm_comm_destroy(struct trm_comm *comm)
{
    if (comm)
        comm->backend->destroy(comm);
}

enum trm_status trm_request_create(struct trm_comm *comm, int max_messages,
                                   struct trm_request **out, struct trm_error *err)
{
    TRM_ASSERT(max_messages >= 0);
    return comm->backend->request_create(comm, max_messages, out, err);
}

void trm_request_destroy(struct trm_request *request)
{
    if (request)
        request->comm->backend->request_destroy(request);
}

enum trm_status trm_request_wait(struct trm_request *request, struct trm_error *err)
{
    if (!request || !request->active)
        return TRM_OK;
    struct trm_flight_lane *lane = request->comm->flight;
    trm_flight_wait_begin(lane, request->number, (enum trm_flight_operation)request->operation);
    enum trm_status status = request->comm->backend->wait(request, err);
    trm_flight_wait_end(lane);
    if (status == TRM_OK && request->number > 0)
        trm_flight_complete(lane);
    return status;
}

enum trm_status trm_request_done(struct trm_request *request, bool *done, struct trm_error *err)
{
    *done = true;
    if (!request || !request->active || !request->comm->backend->done)
        return TRM_OK;
    return request->comm->backend->done(request, done, err);
}

enum trm_status trm_request_wait_stream(struct trm_request *request, struct trm_error *err)
{
    if (!request || !request->active || !request->comm->backend->wait_stream)
        return trm_request_wait(request, err);
    return request->comm->backend->wait_stream(request, err);
}

enum trm_status trm_request_wait_comm(struct trm_request *request, struct trm_error *err)
{
    if (!request || !request->active || !request->comm->backend->wait_comm)
        return trm_request_wait(request, err);
    return request->comm->backend->wait_comm(request, err);
}

void trm_request_detach(struct trm_request *request)
{
    if (request->comm->backend->detach)
        request->comm->backend->detach(request);
}

enum trm_status trm_comm_settle(struct trm_comm *comm, struct trm_error *err)
{
    if (!comm->backend->settle)
        return TRM_OK;
    trm_flight_wait_newest(comm->flight);
    enum trm_status status = comm->backend->settle(comm, err);
    trm_flight_wait_end(comm->flight);
    if (status == TRM_OK)
        trm_flight_complete_all(comm->flight);
    return status;
}

enum trm_status trm_comm_barrier(struct trm_comm *comm, struct trm_request *r,
                                 struct trm_error *err)
{
    return started(comm, r, start(comm, r, TRM_FLIGHT_BARRIER)->barrier(comm, r, err));
}

enum trm_status trm_comm_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                   struct trm_request *r, struct trm_error *err)
{
    TRM_ASSERT(root >= 0 && root < comm->size);
    return started(
        comm, r, start(comm, r, TRM_FLIGHT_BROADCAST)->broadcast(comm, data, bytes, root, r, err));
}

enum trm_status trm_comm_all_gather(struct trm_comm *comm, const void *mine, void *all,
                                    size_t bytes, struct trm_request *r, struct trm_error *err)
{
    return started(
        comm, r, start(comm, r, TRM_FLIGHT_ALL_GATHER)->all_gather(comm, mine, all, bytes, r, err));
}

enum trm_status trm_comm_all_to_all(struct trm_comm *comm, const void *send, void *receive,
                                    size_t bytes, struct trm_request *r, struct trm_error *err)
{
    TRM_ASSERT(send != receive || bytes == 0);
    return started(
        comm, r,
        start(comm, r, TRM_FLIGHT_ALL_TO_ALL)->all_to_all(comm, send, receive, bytes, r, err));
}

static void check_messages(const struct trm_comm *comm, const struct trm_message *messages,
                           int count)
{
    TRM_ASSERT(count >= 0);
    for (int i = 0; i < count; i++) {
        TRM_ASSERT(messages[i].peer >= 0 && messages[i].peer < comm->size);
        TRM_ASSERT(messages[i].peer != comm->rank);
    }
}

enum trm_status trm_comm_exchange(struct trm_comm *comm, const struct trm_message *sends,
                                  int send_count, const struct trm_message *receives,
                                  int receive_count, struct trm_request *r, struct trm_error *err)
{
    check_messages(comm, sends, send_count);
    check_messages(comm, receives, receive_count);
    TRM_ASSERT(!r || send_count + receive_count <= r->max_messages);
    return started(comm, r,
                   start(comm, r, TRM_FLIGHT_EXCHANGE)
                       ->exchange(comm, sends, send_count, receives, receive_count, r, err));
}

enum trm_status trm_comm_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                    enum trm_reduction op, struct trm_request *r,
                                    struct trm_error *err)
{
    return started(
        comm, r, start(comm, r, TRM_FLIGHT_ALL_REDUCE)->all_reduce(comm, data, count, op, r, err));
}

static enum trm_status check_fastest(enum trm_type type, struct trm_error *err)
{
    if (type == TRM_F32 || type == TRM_F64)
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                         "the library cannot sum %s: use float32, or a fixed order",
                         trm_type_name(type));
}

enum trm_status trm_comm_fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                            enum trm_type type, struct trm_request *r,
                                            struct trm_error *err)
{
    enum trm_status status = check_fastest(type, err);
    if (status)
        return status;
    return started(
        comm, r,
        start(comm, r, TRM_FLIGHT_ALL_REDUCE)->fastest_all_reduce(comm, data, count, type, r, err));
}

enum trm_status trm_comm_fastest_reduce_scatter(struct trm_comm *comm, const void *data, void *mine,
                                                size_t count, enum trm_type type,
                                                struct trm_request *r, struct trm_error *err)
{
    enum trm_status status = check_fastest(type, err);
    if (status)
        return status;
    return started(comm, r,
                   start(comm, r, TRM_FLIGHT_REDUCE_SCATTER)
                       ->fastest_reduce_scatter(comm, data, mine, count, type, r, err));
}

enum trm_status trm_comm_sum(struct trm_comm *comm, void *const *operands,
                             const struct trm_lane_add *adds, int add_count, void *into,
                             size_t count, enum trm_type type, struct trm_request *r,
                             struct trm_error *err)
{
    TRM_ASSERT(add_count >= 0);
    if (r)
        r->number = 0; /* no other rank waits for it */
    return ready(comm, r)->sum(comm, operands, adds, add_count, into, count, type, r, err);
}

enum trm_status trm_comm_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                               struct trm_error *err)
{
    TRM_ASSERT(color >= 0);
    trm_flight_wait_begin(comm->flight, trm_flight_enter(comm->flight, TRM_FLIGHT_SPLIT),
                          TRM_FLIGHT_SPLIT);
    return started(comm, NULL, comm->backend->split(comm, color, key, out, err));
}

void trm_comm_abort(struct trm_comm *comm, int exit_code)
{
    comm->backend->abort(comm, exit_code);
}
