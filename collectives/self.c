/* The backend of one rank: every operation is a copy or nothing, and is done when it returns. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "collectives/backend.h"

static void copy(void *to, const void *from, size_t bytes)
{
    if (to != from && bytes > 0)
        memcpy(to, from, bytes);
}

static void self_destroy(struct trm_comm *comm)
{
    free(comm);
}

static enum trm_status self_request_create(struct trm_comm *comm, int max_messages,
                                           struct trm_request **out, struct trm_error *err)
{
    struct trm_request *r = calloc(1, sizeof *r);
    if (!r)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communication request");
    r->comm = comm;
    r->max_messages = max_messages;
    *out = r;
    return TRM_OK;
}

static void self_request_destroy(struct trm_request *request)
{
    free(request);
}

static enum trm_status self_wait(struct trm_request *request, struct trm_error *err)
{
    (void)request;
    (void)err;
    return TRM_OK;
}

static enum trm_status self_barrier(struct trm_comm *comm, struct trm_request *r,
                                    struct trm_error *err)
{
    (void)comm;
    (void)r;
    (void)err;
    return TRM_OK;
}

static enum trm_status self_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                      struct trm_request *r, struct trm_error *err)
{
    (void)comm;
    (void)data;
    (void)bytes;
    (void)root;
    (void)r;
    (void)err;
    return TRM_OK;
}

/* All-gather and all-to-all: the one block goes to its one place. */
static enum trm_status self_copy_block(struct trm_comm *comm, const void *from, void *to,
                                       size_t bytes, struct trm_request *r, struct trm_error *err)
{
    (void)comm;
    (void)r;
    (void)err;
    copy(to, from, bytes);
    return TRM_OK;
}

static enum trm_status self_exchange(struct trm_comm *comm, const struct trm_message *sends,
                                     int send_count, const struct trm_message *receives,
                                     int receive_count, struct trm_request *r,
                                     struct trm_error *err)
{
    (void)comm;
    (void)sends;
    (void)receives;
    (void)r;
    (void)err;
    TRM_ASSERT(send_count == 0 && receive_count == 0);
    return TRM_OK;
}

static enum trm_status self_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                       enum trm_reduction op, struct trm_request *r,
                                       struct trm_error *err)
{
    (void)comm;
    (void)data;
    (void)count;
    (void)op;
    (void)r;
    (void)err;
    return TRM_OK;
}

static enum trm_status self_fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                               enum trm_type type, struct trm_request *r,
                                               struct trm_error *err)
{
    (void)comm;
    (void)data;
    (void)count;
    (void)type;
    (void)r;
    (void)err;
    return TRM_OK;
}

static enum trm_status self_fastest_reduce_scatter(struct trm_comm *comm, const void *data,
                                                   void *mine, size_t count, enum trm_type type,
                                                   struct trm_request *r, struct trm_error *err)
{
    (void)comm;
    (void)r;
    (void)err;
    copy(mine, data, count * trm_type_bytes(type));
    return TRM_OK;
}

static enum trm_status self_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                                  struct trm_error *err)
{
    (void)comm;
    (void)color;
    (void)key;
    return trm_comm_self(out, err);
}

/* There are no peers to end: the caller goes on to leave by itself. */
static void self_abort(struct trm_comm *comm, int exit_code)
{
    (void)comm;
    (void)exit_code;
}

const struct trm_comm_backend trm_self_backend = {
    .name = "self",
    .destroy = self_destroy,
    .request_create = self_request_create,
    .request_destroy = self_request_destroy,
    .wait = self_wait,
    .barrier = self_barrier,
    .broadcast = self_broadcast,
    .all_gather = self_copy_block,
    .all_to_all = self_copy_block,
    .exchange = self_exchange,
    .all_reduce = self_all_reduce,
    .fastest_all_reduce = self_fastest_all_reduce,
    .fastest_reduce_scatter = self_fastest_reduce_scatter,
    .sum = trm_host_sum,
    .split = self_split,
    .abort = self_abort,
};

enum trm_status trm_comm_self(struct trm_comm **out, struct trm_error *err)
{
    struct trm_comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communicator");
    comm->backend = &trm_self_backend;
    comm->size = 1;
    *out = comm;
    return TRM_OK;
}
