#include "siblings.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collectives/backend.h"

#define SLOT_BYTES ((size_t)256 << 10)

struct siblings {
    int size;
    pthread_barrier_t barrier;
    char slots[SIBLINGS_MAX][SLOT_BYTES];
    int sockets[SIBLINGS_MAX][SIBLINGS_MAX]; /* [a][b]: a's end towards b */
};

struct siblings *siblings_create(int size)
{
    pthread_barrierattr_t attributes;
    struct siblings *made =
        mmap(NULL, sizeof(*made), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    made->size = size;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&made->barrier, &attributes, (unsigned)size);
    for (int a = 0; a < size; a++)
        for (int b = a + 1; b < size; b++) {
            int ends[2];
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
                return NULL;
            made->sockets[a][b] = ends[0];
            made->sockets[b][a] = ends[1];
        }
    return made;
}

static void meet(struct trm_comm *comm)
{
    struct siblings *siblings = comm->state;
    pthread_barrier_wait(&siblings->barrier);
}

static char *slot(struct trm_comm *comm, int rank)
{
    struct siblings *siblings = comm->state;
    return siblings->slots[rank];
}

static size_t part_of(size_t bytes, size_t at)
{
    return bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
}

static void destroy(struct trm_comm *comm)
{
    free(comm);
}

static enum trm_status request_create(struct trm_comm *comm, int max_messages,
                                      struct trm_request **out, struct trm_error *err)
{
    struct trm_request *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communication request");
    made->comm = comm;
    made->max_messages = max_messages;
    *out = made;
    return TRM_OK;
}

static void request_destroy(struct trm_request *request)
{
    free(request);
}

/* Every operation is done when it was started. */
static enum trm_status wait_for(struct trm_request *request, struct trm_error *err)
{
    (void)request;
    (void)err;
    return TRM_OK;
}

static enum trm_status barrier(struct trm_comm *comm, struct trm_request *r, struct trm_error *err)
{
    (void)r;
    (void)err;
    meet(comm);
    return TRM_OK;
}

static enum trm_status broadcast(struct trm_comm *comm, void *data, size_t bytes, int root,
                                 struct trm_request *r, struct trm_error *err)
{
    (void)r;
    (void)err;
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        if (comm->rank == root)
            memcpy(slot(comm, root), (char *)data + at, part_of(bytes, at));
        meet(comm);
        if (comm->rank != root)
            memcpy((char *)data + at, slot(comm, root), part_of(bytes, at));
        meet(comm);
    }
    return TRM_OK;
}

static enum trm_status all_gather(struct trm_comm *comm, const void *mine, void *all, size_t bytes,
                                  struct trm_request *r, struct trm_error *err)
{
    (void)r;
    (void)err;
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t part = part_of(bytes, at);
        memcpy(slot(comm, comm->rank), (const char *)mine + at, part);
        meet(comm);
        for (int rank = 0; rank < comm->size; rank++)
            memcpy((char *)all + (size_t)rank * bytes + at, slot(comm, rank), part);
        meet(comm);
    }
    return TRM_OK;
}

static enum trm_status all_to_all(struct trm_comm *comm, const void *send, void *receive,
                                  size_t bytes, struct trm_request *r, struct trm_error *err)
{
    for (int rank = 0; rank < comm->size; rank++) {
        char *all = malloc(bytes * (size_t)comm->size + 1);
        if (all == NULL)
            return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %zu bytes", bytes);
        (void)all_gather(comm, (const char *)send + (size_t)rank * bytes, all, bytes, r, err);
        if (rank == comm->rank)
            memcpy(receive, all, bytes * (size_t)comm->size);
        free(all);
    }
    return TRM_OK;
}

/* Messages with one peer in one direction, in their order. */
struct stream {
    const struct trm_message *messages;
    int count, next;
    size_t done; /* of the message at hand */
};

/* The message to go on with, or NULL. */
static const struct trm_message *at_hand(struct stream *stream, int peer)
{
    while (stream->next < stream->count && (stream->messages[stream->next].peer != peer ||
                                            stream->done == stream->messages[stream->next].bytes)) {
        stream->next++;
        stream->done = 0;
    }
    return stream->next < stream->count ? &stream->messages[stream->next] : NULL;
}

static bool move_some(int fd, struct stream *stream, const struct trm_message *message,
                      bool send_it)
{
    char *data = (char *)message->data + stream->done;
    size_t left = message->bytes - stream->done;
    ssize_t moved = send_it ? send(fd, data, left, MSG_NOSIGNAL) : recv(fd, data, left, 0);
    if (moved > 0)
        stream->done += (size_t)moved;
    return moved > 0 || (moved < 0 && (errno == EAGAIN || errno == EINTR));
}

static enum trm_status exchange(struct trm_comm *comm, const struct trm_message *sends,
                                int send_count, const struct trm_message *receives,
                                int receive_count, struct trm_request *r, struct trm_error *err)
{
    struct siblings *siblings = comm->state;
    struct stream out[SIBLINGS_MAX], in[SIBLINGS_MAX];
    (void)r;
    for (int peer = 0; peer < comm->size; peer++) {
        out[peer] = (struct stream){sends, send_count, 0, 0};
        in[peer] = (struct stream){receives, receive_count, 0, 0};
    }
    for (;;) {
        struct pollfd polls[SIBLINGS_MAX];
        int waiting = 0;
        for (int peer = 0; peer < comm->size; peer++) {
            const struct trm_message *send_it = at_hand(&out[peer], peer);
            const struct trm_message *take_it = at_hand(&in[peer], peer);
            int fd = siblings->sockets[comm->rank][peer];
            if ((send_it != NULL && !move_some(fd, &out[peer], send_it, true)) ||
                (take_it != NULL && !move_some(fd, &in[peer], take_it, false)))
                return trm_error_set_errno(err, errno, "talking to sibling %d", peer);
            short events = (short)((at_hand(&out[peer], peer) != NULL ? POLLOUT : 0) |
                                   (at_hand(&in[peer], peer) != NULL ? POLLIN : 0));
            if (events != 0)
                polls[waiting++] = (struct pollfd){fd, events, 0};
        }
        if (waiting == 0)
            return TRM_OK;
        poll(polls, (nfds_t)waiting, -1);
    }
}

static int64_t combine(int64_t a, int64_t b, enum trm_reduction op)
{
    if (op == TRM_SUM_I64)
        return (int64_t)((uint64_t)a + (uint64_t)b);
    if (op == TRM_MIN_I64)
        return a < b ? a : b;
    return a > b ? a : b;
}

static enum trm_status all_reduce(struct trm_comm *comm, void *data, size_t count,
                                  enum trm_reduction op, struct trm_request *r,
                                  struct trm_error *err)
{
    (void)r;
    if (op != TRM_SUM_I64 && op != TRM_MIN_I64 && op != TRM_MAX_I64)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "siblings reduce no floats");
    size_t bytes = count * sizeof(int64_t);
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t part = part_of(bytes, at);
        int64_t *mine = (int64_t *)((char *)data + at);
        memcpy(slot(comm, comm->rank), mine, part);
        meet(comm);
        for (int rank = 0; rank < comm->size; rank++)
            for (size_t i = 0; rank != comm->rank && i < part / sizeof(int64_t); i++)
                mine[i] = combine(mine[i], ((int64_t *)(void *)slot(comm, rank))[i], op);
        meet(comm);
    }
    return TRM_OK;
}

static enum trm_status fastest_all_reduce(struct trm_comm *comm, void *data, size_t count,
                                          enum trm_type type, struct trm_request *r,
                                          struct trm_error *err)
{
    (void)comm;
    (void)data;
    (void)count;
    (void)type;
    (void)r;
    return trm_error_set(err, TRM_ERR_UNSUPPORTED, "siblings reduce no floats");
}

static enum trm_status fastest_reduce_scatter(struct trm_comm *comm, const void *data, void *mine,
                                              size_t count, enum trm_type type,
                                              struct trm_request *r, struct trm_error *err)
{
    (void)mine;
    return fastest_all_reduce(comm, (void *)(uintptr_t)data, count, type, r, err);
}

static const struct trm_comm_backend siblings_backend;

static enum trm_status make(struct siblings *siblings, int rank, struct trm_comm **out,
                            struct trm_error *err)
{
    struct trm_comm *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communicator");
    made->backend = &siblings_backend;
    made->rank = rank;
    made->size = siblings->size;
    made->state = siblings;
    *out = made;
    return TRM_OK;
}

/* All in one group, in the order they have: a second communicator over the same memory, which one
 * thread uses in turn with the first. */
static enum trm_status split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                             struct trm_error *err)
{
    (void)color;
    (void)key;
    return make(comm->state, comm->rank, out, err);
}

static void abort_all(struct trm_comm *comm, int exit_code)
{
    (void)comm;
    _exit(exit_code);
}

static const struct trm_comm_backend siblings_backend = {
    .name = "siblings",
    .destroy = destroy,
    .request_create = request_create,
    .request_destroy = request_destroy,
    .wait = wait_for,
    .barrier = barrier,
    .broadcast = broadcast,
    .all_gather = all_gather,
    .all_to_all = all_to_all,
    .exchange = exchange,
    .all_reduce = all_reduce,
    .fastest_all_reduce = fastest_all_reduce,
    .fastest_reduce_scatter = fastest_reduce_scatter,
    .split = split,
    .abort = abort_all,
};

enum trm_status siblings_join(struct siblings *siblings, int rank, struct trm_comm **out,
                              struct trm_error *err)
{
    return make(siblings, rank, out, err);
}
