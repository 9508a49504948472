/*
 * The operations, as MPI calls. All are started nonblocking, on the communicator's own request when
 * the caller brings none; over shared memory that is as fast as the blocking calls. Reductions are
 * not, so they have both forms.
 *
 * MPI counts are ints: a block of 2 GiB or more becomes one element of a derived type (request.c),
 * and reductions are cut into pieces of 2^30 elements.
 */
#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "collectives/mpi/internal.h"

#define EXCHANGE_TAG   17
#define PIECE_ELEMENTS ((size_t)1 << 30)

static MPI_Comm comm_of(const struct trm_comm *comm)
{
    return ((const struct mpi_state *)comm->state)->comm;
}

/* The request of an operation about to start. */
static struct mpi_request *begin(struct trm_comm *comm, struct trm_request *request)
{
    struct trm_request *r = request ? request : comm->own_request;
    TRM_ASSERT(!r->active);
    return (struct mpi_request *)r;
}

/* Behind a start with result `code`: waits when the caller brought no request. */
static enum trm_status finish(struct mpi_request *r, struct trm_request *request, int code,
                              const char *what, struct trm_error *err)
{
    enum trm_status status = trm_mpi_started(r, code, what, err);
    return status || request ? status : trm_mpi_wait(&r->head, err);
}

static enum trm_status mpi_barrier(struct trm_comm *comm, struct trm_request *request,
                                   struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    int code = MPI_Ibarrier(comm_of(comm), trm_mpi_next_item(r));
    return finish(r, request, code, "barrier", err);
}

static enum trm_status mpi_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                     struct trm_request *request, struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    struct mpi_block b;
    enum trm_status status = trm_mpi_block_begin(bytes, &b, err);
    if (status)
        return status;
    int code = MPI_Ibcast(data, b.count, b.type, root, comm_of(comm), trm_mpi_next_item(r));
    trm_mpi_block_end(&b);
    return finish(r, request, code, "broadcast", err);
}

static enum trm_status mpi_all_gather(struct trm_comm *comm, const void *mine, void *all,
                                      size_t bytes, struct trm_request *request,
                                      struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    struct mpi_block b;
    enum trm_status status = trm_mpi_block_begin(bytes, &b, err);
    if (status)
        return status;
    const void *from = mine == (char *)all + (size_t)comm->rank * bytes ? MPI_IN_PLACE : mine;
    int code = MPI_Iallgather(from, b.count, b.type, all, b.count, b.type, comm_of(comm),
                              trm_mpi_next_item(r));
    trm_mpi_block_end(&b);
    return finish(r, request, code, "all-gather", err);
}

static enum trm_status mpi_all_to_all(struct trm_comm *comm, const void *send, void *receive,
                                      size_t bytes, struct trm_request *request,
                                      struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    struct mpi_block b;
    enum trm_status status = trm_mpi_block_begin(bytes, &b, err);
    if (status)
        return status;
    int code = MPI_Ialltoall(send, b.count, b.type, receive, b.count, b.type, comm_of(comm),
                             trm_mpi_next_item(r));
    trm_mpi_block_end(&b);
    return finish(r, request, code, "all-to-all", err);
}

/* All messages have one tag: MPI matches those between two ranks in order. */
static enum trm_status start_message(struct trm_comm *comm, const struct trm_message *message,
                                     bool is_send, struct mpi_request *r, struct trm_error *err)
{
    struct mpi_block b;
    enum trm_status status = trm_mpi_block_begin(message->bytes, &b, err);
    if (status)
        return status;
    int code;
    if (is_send)
        code = MPI_Isend(message->data, b.count, b.type, message->peer, EXCHANGE_TAG, comm_of(comm),
                         trm_mpi_next_item(r));
    else
        code = MPI_Irecv(message->data, b.count, b.type, message->peer, EXCHANGE_TAG, comm_of(comm),
                         trm_mpi_next_item(r));
    trm_mpi_block_end(&b);
    return trm_mpi_started(r, code, is_send ? "sending" : "receiving", err);
}

static enum trm_status mpi_exchange(struct trm_comm *comm, const struct trm_message *sends,
                                    int send_count, const struct trm_message *receives,
                                    int receive_count, struct trm_request *request,
                                    struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    enum trm_status status = TRM_OK;
    if (!request) /* the communicator's own request grows to the largest exchange it has seen */
        status = trm_mpi_request_reserve(r, send_count + receive_count, err);
    /* Receives first, so that what arrives finds its place. */
    for (int i = 0; i < receive_count && !status; i++)
        status = start_message(comm, &receives[i], false, r, err);
    for (int i = 0; i < send_count && !status; i++)
        status = start_message(comm, &sends[i], true, r, err);
    return status || request ? status : trm_mpi_wait(&r->head, err);
}

/* `count` elements in place, in pieces that MPI can count. */
static enum trm_status reduce_pieces(struct trm_comm *comm, void *data, size_t count,
                                     MPI_Datatype type, size_t width, MPI_Op op,
                                     struct trm_request *request, struct trm_error *err)
{
    const size_t most = TRM_MPI_ITEMS_MIN * PIECE_ELEMENTS;
    if (count > most)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "a reduction of %zu elements at once; the limit is %zu", count, most);
    struct mpi_request *r = begin(comm, request);
    enum trm_status status = TRM_OK;
    for (size_t done = 0; done < count && !status; done += PIECE_ELEMENTS) {
        int n = (int)(count - done < PIECE_ELEMENTS ? count - done : PIECE_ELEMENTS);
        void *piece = (char *)data + done * width;
        if (request) {
            int code = MPI_Iallreduce(MPI_IN_PLACE, piece, n, type, op, comm_of(comm),
                                      trm_mpi_next_item(r));
            status = trm_mpi_started(r, code, "all-reduce", err);
        } else {
            int code = MPI_Allreduce(MPI_IN_PLACE, piece, n, type, op, comm_of(comm));
            status = trm_mpi_check(code, "all-reduce", err);
        }
    }
    return status;
}

static enum trm_status mpi_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                      enum trm_reduction op, struct trm_request *request,
                                      struct trm_error *err)
{
    const struct mpi_state *state = comm->state;
    switch (op) {
    case TRM_SUM_I64:
        return reduce_pieces(comm, data, count, MPI_INT64_T, 8, MPI_SUM, request, err);
    case TRM_MIN_I64:
        return reduce_pieces(comm, data, count, MPI_INT64_T, 8, MPI_MIN, request, err);
    case TRM_MAX_I64:
        return reduce_pieces(comm, data, count, MPI_INT64_T, 8, MPI_MAX, request, err);
    case TRM_MAX_F32:
        return reduce_pieces(comm, data, count, MPI_FLOAT, 4, state->max_f32, request, err);
    case TRM_MAX_F64:
        return reduce_pieces(comm, data, count, MPI_DOUBLE, 8, state->max_f64, request, err);
    }
    return trm_error_set(err, TRM_ERR_INTERNAL, "unknown reduction %d", (int)op);
}

static MPI_Datatype float_type(enum trm_type type)
{
    TRM_ASSERT(type == TRM_F32 || type == TRM_F64);
    return type == TRM_F32 ? MPI_FLOAT : MPI_DOUBLE;
}

static enum trm_status mpi_fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                              enum trm_type type, struct trm_request *request,
                                              struct trm_error *err)
{
    return reduce_pieces(comm, data, count, float_type(type), trm_type_bytes(type), MPI_SUM,
                         request, err);
}

static enum trm_status mpi_fastest_reduce_scatter(struct trm_comm *comm, const void *data,
                                                  void *mine, size_t count, enum trm_type type,
                                                  struct trm_request *request,
                                                  struct trm_error *err)
{
    struct mpi_request *r = begin(comm, request);
    const char *what = "reduce-scatter";
    if (count > INT_MAX)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "a reduce-scatter of %zu elements per rank; the limit is %d", count,
                             INT_MAX);
    if (!request)
        return trm_mpi_check(MPI_Reduce_scatter_block(data, mine, (int)count, float_type(type),
                                                      MPI_SUM, comm_of(comm)),
                             what, err);
    int code = MPI_Ireduce_scatter_block(data, mine, (int)count, float_type(type), MPI_SUM,
                                         comm_of(comm), trm_mpi_next_item(r));
    return trm_mpi_started(r, code, what, err);
}

static void mpi_destroy(struct trm_comm *comm)
{
    struct mpi_state *state = comm->state;
    trm_request_destroy(comm->own_request);
    if (state)
        MPI_Comm_free(&state->comm);
    free(state);
    free(comm);
}

static enum trm_status mpi_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                                 struct trm_error *err)
{
    MPI_Comm made;
    enum trm_status status = trm_mpi_check(MPI_Comm_split(comm_of(comm), color, key, &made),
                                           "splitting a communicator", err);
    return status ? status : trm_mpi_wrap(made, comm->state, out, err);
}

static void mpi_abort(struct trm_comm *comm, int exit_code)
{
    MPI_Abort(comm_of(comm), exit_code);
}

const struct trm_comm_backend trm_mpi_backend = {
    .name = "mpi",
    .destroy = mpi_destroy,
    .request_create = trm_mpi_request_create,
    .request_destroy = trm_mpi_request_destroy,
    .wait = trm_mpi_wait,
    .done = trm_mpi_done,
    .barrier = mpi_barrier,
    .broadcast = mpi_broadcast,
    .all_gather = mpi_all_gather,
    .all_to_all = mpi_all_to_all,
    .exchange = mpi_exchange,
    .all_reduce = mpi_all_reduce,
    .fastest_all_reduce = mpi_fastest_all_reduce,
    .fastest_reduce_scatter = mpi_fastest_reduce_scatter,
    .sum = trm_host_sum,
    .split = mpi_split,
    .abort = mpi_abort,
};

enum trm_status trm_mpi_wrap(MPI_Comm made, const struct mpi_state *operators,
                             struct trm_comm **out, struct trm_error *err)
{
    enum trm_status status;
    struct trm_comm *comm = calloc(1, sizeof *comm);
    struct mpi_state *state = calloc(1, sizeof *state);
    if (!comm || !state) {
        free(comm);
        free(state);
        MPI_Comm_free(&made);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communicator");
    }
    comm->backend = &trm_mpi_backend;
    comm->state = state;
    state->comm = made;
    state->max_f32 = operators->max_f32;
    state->max_f64 = operators->max_f64;
    status = trm_mpi_check(MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN),
                           "setting an error handler", err);
    if (!status)
        status = trm_mpi_check(MPI_Comm_rank(made, &comm->rank), "asking for the rank", err);
    if (!status)
        status = trm_mpi_check(MPI_Comm_size(made, &comm->size), "asking for the size", err);
    if (!status)
        status = trm_request_create(comm, 0, &comm->own_request, err);
    if (status) {
        mpi_destroy(comm);
        return status;
    }
    *out = comm;
    return TRM_OK;
}
