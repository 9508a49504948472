#include "collectives/comm.h"

#include "base/assert.h"
#include "collectives/backend.h"

/* A group of one needs no library: its operations are copies of memory that the host can reach. */
static const struct trm_comm_backend *operations(const struct trm_comm *comm)
{
    TRM_ASSERT(comm->rank >= 0 && comm->rank < comm->size);
    return comm->size == 1 && !comm->backend->on_device ? &trm_self_backend : comm->backend;
}

static const struct trm_comm_backend *start(const struct trm_comm *comm,
                                            const struct trm_request *r)
{
    TRM_ASSERT(!r || (r->comm == comm && !r->active));
    return operations(comm);
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
    return request->comm->backend->wait(request, err);
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
    return comm->backend->settle ? comm->backend->settle(comm, err) : TRM_OK;
}

enum trm_status trm_comm_barrier(struct trm_comm *comm, struct trm_request *r,
                                 struct trm_error *err)
{
    return start(comm, r)->barrier(comm, r, err);
}

enum trm_status trm_comm_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                   struct trm_request *r, struct trm_error *err)
{
    TRM_ASSERT(root >= 0 && root < comm->size);
    return start(comm, r)->broadcast(comm, data, bytes, root, r, err);
}

enum trm_status trm_comm_all_gather(struct trm_comm *comm, const void *mine, void *all,
                                    size_t bytes, struct trm_request *r, struct trm_error *err)
{
    return start(comm, r)->all_gather(comm, mine, all, bytes, r, err);
}

enum trm_status trm_comm_all_to_all(struct trm_comm *comm, const void *send, void *receive,
                                    size_t bytes, struct trm_request *r, struct trm_error *err)
{
    TRM_ASSERT(send != receive || bytes == 0);
    return start(comm, r)->all_to_all(comm, send, receive, bytes, r, err);
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
    return start(comm, r)->exchange(comm, sends, send_count, receives, receive_count, r, err);
}

enum trm_status trm_comm_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                    enum trm_reduction op, struct trm_request *r,
                                    struct trm_error *err)
{
    return start(comm, r)->all_reduce(comm, data, count, op, r, err);
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
    return start(comm, r)->fastest_all_reduce(comm, data, count, type, r, err);
}

enum trm_status trm_comm_fastest_reduce_scatter(struct trm_comm *comm, const void *data, void *mine,
                                                size_t count, enum trm_type type,
                                                struct trm_request *r, struct trm_error *err)
{
    enum trm_status status = check_fastest(type, err);
    if (status)
        return status;
    return start(comm, r)->fastest_reduce_scatter(comm, data, mine, count, type, r, err);
}

enum trm_status trm_comm_sum(struct trm_comm *comm, void *const *operands,
                             const struct trm_lane_add *adds, int add_count, void *into,
                             size_t count, enum trm_type type, struct trm_request *r,
                             struct trm_error *err)
{
    TRM_ASSERT(add_count >= 0);
    return start(comm, r)->sum(comm, operands, adds, add_count, into, count, type, r, err);
}

enum trm_status trm_comm_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                               struct trm_error *err)
{
    TRM_ASSERT(color >= 0);
    return comm->backend->split(comm, color, key, out, err);
}

void trm_comm_abort(struct trm_comm *comm, int exit_code)
{
    comm->backend->abort(comm, exit_code);
}
