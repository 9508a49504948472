/* Operations of the fake NCCL: each is a list of messages, and perhaps a reduction behind them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/nccl/internal.h"

#define MESSAGES 1024 /* of a group, in each direction */

struct message {
    void *data;
    size_t bytes;
    int peer;
};

struct reduction {
    const void *mine; /* this rank's block */
    char *blocks;     /* [size][bytes]; NULL: no reduction */
    void *result;
    size_t count, bytes;
    ncclDataType_t type;
    ncclRedOp_t op;
};

struct fake_work {
    struct fake_task task;
    struct ncclComm *comm;
    cudaStream_t stream;
    int send_count, receive_count, request_count;
    bool posted;
    struct reduction reduction;
    struct message sends[MESSAGES], receives[MESSAGES];
    MPI_Request requests[2 * MESSAGES];
};

static size_t width(ncclDataType_t type)
{
    switch (type) {
    case ncclUint8:
        return 1;
    case ncclInt32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclFloat64:
        return 8;
    default:
        fake_nccl_say("a type that this NCCL doesn't know");
        return 0;
    }
}

#define REDUCE(TYPE)                                           \
    for (size_t i = 0; i < r->count; i++) {                    \
        TYPE *a = (TYPE *)to + i, b = ((const TYPE *)from)[i]; \
        if (r->op == ncclSum)                                  \
            *a += b;                                           \
        else if (r->op == ncclMax ? b > *a : b < *a)           \
            *a = b;                                            \
    }

static void reduce(const struct reduction *r, void *to, const void *from)
{
    if (r->type == ncclInt32) {
        REDUCE(int32_t)
    } else if (r->type == ncclInt64) {
        REDUCE(int64_t)
    } else if (r->type == ncclFloat32) {
        REDUCE(float)
    } else {
        REDUCE(double)
    }
}

static void reduce_blocks(const struct fake_work *work)
{
    const struct reduction *r = &work->reduction;
    int last = work->comm->size - 1;
    char *sum = r->blocks + (size_t)last * r->bytes;

    for (int rank = last - 1; rank >= 0; rank--)
        reduce(r, sum, r->blocks + (size_t)rank * r->bytes);
    memcpy(r->result, sum, r->bytes);
}

/* Messages to oneself: the n-th sent is the n-th received. */
static void copy_own(struct fake_work *work)
{
    int r = 0;
    for (int s = 0; s < work->send_count; s++) {
        if (work->sends[s].peer != work->comm->rank)
            continue;
        while (work->receives[r].peer != work->comm->rank)
            r++;
        memmove(work->receives[r].data, work->sends[s].data, work->sends[s].bytes);
        r++;
    }
}

static void post(struct fake_work *work)
{
    struct ncclComm *comm = work->comm;
    const struct reduction *r = &work->reduction;

    if (r->blocks)
        memcpy(r->blocks + (size_t)comm->rank * r->bytes, r->mine, r->bytes);
    copy_own(work);
    for (int i = 0; i < work->receive_count; i++) {
        const struct message *m = &work->receives[i];
        if (m->peer != comm->rank)
            MPI_Irecv(m->data, (int)m->bytes, MPI_BYTE, comm->world_ranks[m->peer],
                      comm->tag + TAG_DATA, MPI_COMM_WORLD, &work->requests[work->request_count++]);
    }
    for (int i = 0; i < work->send_count; i++) {
        const struct message *m = &work->sends[i];
        if (m->peer != comm->rank)
            MPI_Isend(m->data, (int)m->bytes, MPI_BYTE, comm->world_ranks[m->peer],
                      comm->tag + TAG_DATA, MPI_COMM_WORLD, &work->requests[work->request_count++]);
    }
    work->posted = true;
}

static bool poll_work(struct fake_task *task)
{
    struct fake_work *work = (struct fake_work *)task;
    int done = 0;

    if (!work->comm->alive)
        return true;
    if (!work->posted)
        post(work);
    if (MPI_Testall(work->request_count, work->requests, &done, MPI_STATUSES_IGNORE) !=
            MPI_SUCCESS ||
        !done)
        return false;
    if (work->reduction.blocks)
        reduce_blocks(work);
    return true;
}

static void drop_work(struct fake_task *task)
{
    struct fake_work *work = (struct fake_work *)task;
    for (int i = 0; i < work->request_count; i++) {
        if (work->requests[i] == MPI_REQUEST_NULL)
            continue;
        MPI_Cancel(&work->requests[i]);
        MPI_Request_free(&work->requests[i]);
    }
    work->comm->under_way--;
    free(work->reduction.blocks);
    free(work);
}

static bool at_once(struct ncclComm *comm)
{
    (void)comm;
    return true;
}

static void put_pending(struct ncclComm *comm)
{
    struct fake_work *work = comm->pending;
    comm->pending = NULL;
    fake_put(work->stream, &work->task);
}

void fake_nccl_drop_pending(struct ncclComm *comm)
{
    struct fake_work *work = comm->pending;
    comm->pending = NULL;
    if (work) {
        free(work->reduction.blocks);
        free(work);
    }
}

ncclResult_t fake_nccl_launch_pending(struct ncclComm *comm)
{
    comm->under_way++;
    return fake_nccl_begin_job(comm, at_once, put_pending);
}

/* The work that a call adds to: the open group's, or a new one. NULL while a call is in progress.
 */
static struct fake_work *work_for(struct ncclComm *comm, cudaStream_t stream)
{
    fake_nccl_must_live(comm);
    if (comm->job.step) {
        fake_nccl_say("an operation on a communicator whose last call is in progress");
        return NULL;
    }
    if (!comm->pending) {
        comm->pending = calloc(1, sizeof *comm->pending);
        comm->pending->task = (struct fake_task){.poll = poll_work, .drop = drop_work};
        comm->pending->comm = comm;
        comm->pending->stream = stream;
    }
    return comm->pending;
}

static ncclResult_t launch(struct ncclComm *comm)
{
    return fake_nccl_group_depth > 0 ? ncclSuccess : fake_nccl_launch_pending(comm);
}

static ncclResult_t add(struct message *list, int *count, const void *data, size_t bytes, int peer)
{
    if (*count == MESSAGES || bytes > INT_MAX) {
        fake_nccl_say("more or longer messages than this NCCL takes");
        return ncclInvalidArgument;
    }
    list[(*count)++] = (struct message){(void *)data, bytes, peer};
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    struct fake_work *work = work_for(comm, stream);
    ncclResult_t code = work ? add(work->sends, &work->send_count, data, count * width(type), peer)
                             : ncclInvalidUsage;
    return code == ncclSuccess ? launch(comm) : code;
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    struct fake_work *work = work_for(comm, stream);
    ncclResult_t code =
        work ? add(work->receives, &work->receive_count, data, count * width(type), peer)
             : ncclInvalidUsage;
    return code == ncclSuccess ? launch(comm) : code;
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream)
{
    struct fake_work *work = work_for(comm, stream);
    ncclResult_t code = work ? ncclSuccess : ncclInvalidUsage;
    size_t bytes = count * width(type);

    for (int p = 0; p < comm->size && code == ncclSuccess && comm->rank == root; p++)
        code = add(work->sends, &work->send_count, send, bytes, p);
    if (code == ncclSuccess)
        code = add(work->receives, &work->receive_count, receive, bytes, root);
    return code == ncclSuccess ? launch(comm) : code;
}

/* Block p of `send`, which is `stride` bytes behind the one before it, to p; block p of `receive`
 * from p. */
static ncclResult_t exchange_blocks(struct fake_work *work, const void *send, size_t stride,
                                    void *receive, size_t bytes)
{
    ncclResult_t code = work ? ncclSuccess : ncclInvalidUsage;
    for (int p = 0; work && p < work->comm->size && code == ncclSuccess; p++) {
        code =
            add(work->sends, &work->send_count, (const char *)send + (size_t)p * stride, bytes, p);
        if (code == ncclSuccess)
            code = add(work->receives, &work->receive_count, (char *)receive + (size_t)p * bytes,
                       bytes, p);
    }
    return code;
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    ncclResult_t code =
        exchange_blocks(work_for(comm, stream), send, 0, receive, count * width(type));
    return code == ncclSuccess ? launch(comm) : code;
}

/* Every block that this rank reduces comes into a place of its own first. */
static ncclResult_t reduce_exchanged(const void *send, size_t stride, const void *mine,
                                     struct reduction r, ncclComm_t comm, cudaStream_t stream)
{
    struct fake_work *work = work_for(comm, stream);
    ncclResult_t code;

    r.bytes = r.count * width(r.type);
    r.mine = mine;
    r.blocks = work ? calloc((size_t)comm->size, r.bytes) : NULL;
    if (!r.blocks)
        return ncclInvalidUsage;
    work->reduction = r;
    code = exchange_blocks(work, send, stride, r.blocks, r.bytes);
    return code == ncclSuccess ? launch(comm) : code;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    const struct reduction r = {.result = receive, .count = count, .type = type, .op = op};
    return reduce_exchanged(send, 0, send, r, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    const struct reduction r = {.result = receive, .count = count, .type = type, .op = op};
    size_t bytes = count * width(type);
    return reduce_exchanged(send, bytes, (const char *)send + (size_t)comm->rank * bytes, r, comm,
                            stream);
}
