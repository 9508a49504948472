/* The operations: each begins, puts its work on the communicator's stream, and ends (request.c). */
#include "base/assert.h"
#include "collectives/nccl/internal.h"
#include "collectives/nccl/sum.h"

static struct nccl_family *family_of(const struct trm_comm *comm)
{
    return ((struct nccl_state *)comm->state)->family;
}

/* What an operation is given to work with. */
struct operation {
    struct trm_comm *comm;
    struct trm_request *request; /* the caller's; may be NULL */
    struct nccl_request *r;
    ncclComm_t handle; /* NULL: one rank */
    cudaStream_t stream;
    const char *what;
};

static enum trm_status begin(struct trm_comm *comm, struct trm_request *request, const char *what,
                             struct operation *op, struct trm_error *err)
{
    const struct nccl_state *state = comm->state;
    *op = (struct operation){.comm = comm,
                             .request = request,
                             .handle = state->handle,
                             .stream = state->stream,
                             .what = what};
    return trm_nccl_begin(comm, request, what, &op->r, err);
}

static enum trm_status end(const struct operation *op, ncclResult_t code, struct trm_error *err)
{
    enum trm_status status = trm_nccl_check(family_of(op->comm), code, op->what, err);
    return status ? status : trm_nccl_end(op->r, op->request, err);
}

/* One rank: its block, at most, goes to its place. */
static enum trm_status end_alone(const struct operation *op, void *to, const void *from,
                                 size_t bytes, struct trm_error *err)
{
    cudaError_t code = cudaSuccess;
    TRM_ASSERT(op->comm->size == 1);
    if (to != from && bytes > 0)
        code = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, op->stream);
    enum trm_status status = trm_nccl_check_cuda(family_of(op->comm), code, op->what, err);
    return status ? status : trm_nccl_end(op->r, op->request, err);
}

static enum trm_status nccl_barrier(struct trm_comm *comm, struct trm_request *request,
                                    struct trm_error *err)
{
    struct nccl_state *state = comm->state;
    struct operation op;
    enum trm_status status = begin(comm, request, "barrier", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, NULL, NULL, 0, err);
    return end(
        &op, ncclAllReduce(state->token, state->token, 1, ncclInt64, ncclMax, op.handle, op.stream),
        err);
}

static enum trm_status nccl_broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                      struct trm_request *request, struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "broadcast", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, NULL, NULL, 0, err);
    ncclResult_t code = ncclSuccess;
    if (bytes > 0)
        code = ncclBroadcast(data, data, bytes, ncclUint8, root, op.handle, op.stream);
    return end(&op, code, err);
}

static enum trm_status nccl_all_gather(struct trm_comm *comm, const void *mine, void *all,
                                       size_t bytes, struct trm_request *request,
                                       struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "all-gather", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, all, mine, bytes, err);
    ncclResult_t code = ncclSuccess;
    if (bytes > 0)
        code = ncclAllGather(mine, all, bytes, ncclUint8, op.handle, op.stream);
    return end(&op, code, err);
}

/* What a call in a group says of the call itself: that the group is in progress is no error. */
static ncclResult_t accepted(ncclResult_t code)
{
    return code == ncclInProgress ? ncclSuccess : code;
}

/* One message in a group; empty ones are known to be so on both sides. */
static ncclResult_t send(const struct operation *op, const void *data, size_t bytes, int peer)
{
    if (bytes == 0)
        return ncclSuccess;
    return accepted(ncclSend(data, bytes, ncclUint8, peer, op->handle, op->stream));
}

static ncclResult_t receive(const struct operation *op, void *data, size_t bytes, int peer)
{
    if (bytes == 0)
        return ncclSuccess;
    return accepted(ncclRecv(data, bytes, ncclUint8, peer, op->handle, op->stream));
}

/* A group is ended also when something in it failed: that error goes before the group's. */
static ncclResult_t end_group(ncclResult_t code)
{
    ncclResult_t ended = ncclGroupEnd();
    return code == ncclSuccess ? ended : code;
}

static enum trm_status nccl_all_to_all(struct trm_comm *comm, const void *send_data,
                                       void *receive_data, size_t bytes,
                                       struct trm_request *request, struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "all-to-all", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, receive_data, send_data, bytes, err);
    ncclResult_t code = ncclGroupStart();
    for (int peer = 0; peer < comm->size && code == ncclSuccess; peer++) {
        size_t place = (size_t)peer * bytes;
        code = send(&op, (const char *)send_data + place, bytes, peer);
        if (code == ncclSuccess)
            code = receive(&op, (char *)receive_data + place, bytes, peer);
    }
    return end(&op, end_group(code), err);
}

static enum trm_status nccl_exchange(struct trm_comm *comm, const struct trm_message *sends,
                                     int send_count, const struct trm_message *receives,
                                     int receive_count, struct trm_request *request,
                                     struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "exchange", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, NULL, NULL, 0, err);
    ncclResult_t code = ncclGroupStart();
    for (int i = 0; i < send_count && code == ncclSuccess; i++)
        code = send(&op, sends[i].data, sends[i].bytes, sends[i].peer);
    for (int i = 0; i < receive_count && code == ncclSuccess; i++)
        code = receive(&op, receives[i].data, receives[i].bytes, receives[i].peer);
    return end(&op, end_group(code), err);
}

/* NCCL's maximum of floats says nothing of NaN and of zeros' signs: integers stand in for them. */
static enum trm_status reduce_keys(const struct operation *op, void *data, size_t count,
                                   enum trm_type type, struct trm_error *err)
{
    ncclDataType_t key = type == TRM_F32 ? ncclInt32 : ncclInt64;
    struct nccl_family *family = family_of(op->comm);
    enum trm_status status = trm_nccl_check_cuda(
        family, trm_nccl_launch_keys(data, count, type, true, op->stream), op->what, err);
    if (status == TRM_OK)
        status = trm_nccl_check(
            family, ncclAllReduce(data, data, count, key, ncclMax, op->handle, op->stream),
            op->what, err);
    if (status == TRM_OK) /* not before NCCL's part is on the stream */
        status = trm_nccl_await(op->comm->state, op->r->deadline_ns, op->what, err);
    if (status == TRM_OK)
        status = trm_nccl_check_cuda(
            family, trm_nccl_launch_keys(data, count, type, false, op->stream), op->what, err);
    return status ? status : trm_nccl_end(op->r, op->request, err);
}

static enum trm_status nccl_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                       enum trm_reduction reduction, struct trm_request *request,
                                       struct trm_error *err)
{
    static const ncclRedOp_t operators[] = {
        [TRM_SUM_I64] = ncclSum, [TRM_MIN_I64] = ncclMin, [TRM_MAX_I64] = ncclMax};
    struct operation op;
    enum trm_status status = begin(comm, request, "all-reduce", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, NULL, NULL, 0, err);
    if (count > 0 && (reduction == TRM_MAX_F32 || reduction == TRM_MAX_F64))
        return reduce_keys(&op, data, count, reduction == TRM_MAX_F32 ? TRM_F32 : TRM_F64, err);
    ncclResult_t code = ncclSuccess;
    if (count > 0)
        code =
            ncclAllReduce(data, data, count, ncclInt64, operators[reduction], op.handle, op.stream);
    return end(&op, code, err);
}

static ncclDataType_t float_type(enum trm_type type)
{
    TRM_ASSERT(type == TRM_F32 || type == TRM_F64);
    return type == TRM_F32 ? ncclFloat32 : ncclFloat64;
}

static enum trm_status nccl_fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                               enum trm_type type, struct trm_request *request,
                                               struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "all-reduce", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, NULL, NULL, 0, err);
    ncclResult_t code = ncclSuccess;
    if (count > 0)
        code = ncclAllReduce(data, data, count, float_type(type), ncclSum, op.handle, op.stream);
    return end(&op, code, err);
}

static enum trm_status nccl_fastest_reduce_scatter(struct trm_comm *comm, const void *data,
                                                   void *mine, size_t count, enum trm_type type,
                                                   struct trm_request *request,
                                                   struct trm_error *err)
{
    struct operation op;
    enum trm_status status = begin(comm, request, "reduce-scatter", &op, err);
    if (status)
        return status;
    if (!op.handle)
        return end_alone(&op, mine, data, count * trm_type_bytes(type), err);
    ncclResult_t code = ncclSuccess;
    if (count > 0)
        code =
            ncclReduceScatter(data, mine, count, float_type(type), ncclSum, op.handle, op.stream);
    return end(&op, code, err);
}

static enum trm_status check_sum(enum trm_type type, const struct trm_sum *sum,
                                 struct trm_error *err)
{
    if (type != TRM_F32 && type != TRM_F64 && type != TRM_BF16)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "a device cannot sum %s in a fixed order",
                             trm_type_name(type));
    if (type == TRM_BF16 && sum->spilled)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                             "a sum of %d bfloat16 operands would be rounded on the way: sum in "
                             "float32, or over fewer ranks",
                             sum->add_count + 1);
    return TRM_OK;
}

static enum trm_status nccl_sum(struct trm_comm *comm, void *const *operands,
                                const struct trm_lane_add *adds, int add_count, void *into,
                                size_t count, enum trm_type type, struct trm_request *request,
                                struct trm_error *err)
{
    struct trm_sum sum = {.operands = operands, .adds = adds, .add_count = add_count, .into = into};
    struct trm_sum_program program;
    struct operation op;
    enum trm_status status = begin(comm, request, "ordered sum", &op, err);

    while (status == TRM_OK && !sum.done) {
        trm_sum_translate(&sum, &program);
        status = check_sum(type, &sum, err);
        if (status == TRM_OK && count > 0 && program.step_count > 0)
            status = trm_nccl_check_cuda(family_of(comm),
                                         trm_nccl_launch_sum(&program, count, type, op.stream),
                                         op.what, err);
    }
    return status ? status : trm_nccl_end(op.r, request, err);
}

/* First the devices, whose kernels would hold up the end of their processes; then all ranks. */
static void nccl_abort(struct trm_comm *comm, int exit_code)
{
    struct nccl_state *state = comm->state;
    trm_nccl_fail(state->family, NULL, TRM_ERR_COMM, "aborted, exit code %d", exit_code);
    trm_comm_abort(state->host, exit_code);
}

const struct trm_comm_backend trm_nccl_backend = {
    .name = "nccl",
    .on_device = true,
    .destroy = trm_nccl_destroy,
    .request_create = trm_nccl_request_create,
    .request_destroy = trm_nccl_request_destroy,
    .wait = trm_nccl_wait,
    .wait_stream = trm_nccl_wait_stream,
    .wait_comm = trm_nccl_wait_comm,
    .detach = trm_nccl_detach,
    .settle = trm_nccl_settle,
    .barrier = nccl_barrier,
    .broadcast = nccl_broadcast,
    .all_gather = nccl_all_gather,
    .all_to_all = nccl_all_to_all,
    .exchange = nccl_exchange,
    .all_reduce = nccl_all_reduce,
    .fastest_all_reduce = nccl_fastest_all_reduce,
    .fastest_reduce_scatter = nccl_fastest_reduce_scatter,
    .sum = nccl_sum,
    .split = trm_nccl_split,
    .abort = nccl_abort,
};
