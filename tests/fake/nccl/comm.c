/* The life of communicators of the fake NCCL: joining, splitting, ending, and what is in progress.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/nccl/internal.h"

#define ALIVE          UINT64_C(0x6c6163636e)
#define TAG_FIRST      (1 << 16)
#define TAGS_OF_ID     4096
#define IDS_OF_PROCESS 64
#define POLLS          3 /* that a call stays in progress after its work is done */

struct identity {
    uint64_t magic;
    int creator, tag;
};

static struct ncclComm *communicators; /* also those that are gone: their handles may be used */
static struct fake_aborts aborts;
static int made, aborted_in_group;
static char last_error[256];
static bool deaf;

/* An error that a test wants of a communicator, after so many polls. */
static struct report {
    int number, after;
    ncclResult_t code;
} report = {.number = -1};
int fake_nccl_group_depth;

struct fake_aborts fake_nccl_aborts(void)
{
    return aborts;
}

int fake_nccl_alive(void)
{
    int alive = 0;
    for (struct ncclComm *c = communicators; c; c = c->next)
        alive += c->alive == ALIVE;
    return alive;
}

int fake_nccl_newest(void)
{
    return made - 1;
}

void fake_nccl_report(int number, int after, ncclResult_t code)
{
    report = (struct report){number, after, code};
}

void fake_nccl_be_deaf(bool now)
{
    deaf = now;
}

void fake_nccl_say(const char *words)
{
    snprintf(last_error, sizeof last_error, "%s", words);
}

void fake_nccl_must_live(const struct ncclComm *comm)
{
    if (comm && comm->alive == ALIVE)
        return;
    fprintf(stderr, "fake NCCL: a communicator is used that was destroyed or aborted\n");
    abort();
}

static int world_rank(void)
{
    int rank = -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static void advance(struct ncclComm *comm)
{
    struct fake_job *job = &comm->job;
    if (comm->alive != ALIVE || !job->step)
        return;
    if (!job->stepped)
        job->stepped = job->step(comm);
    else if (--job->polls <= 0) {
        job->step = NULL;
        if (job->end)
            job->end(comm);
    }
}

static void advance_all(void)
{
    for (struct ncclComm *c = communicators; c; c = c->next)
        advance(c);
}

ncclResult_t fake_nccl_begin_job(struct ncclComm *comm, bool (*step)(struct ncclComm *comm),
                                 void (*end)(struct ncclComm *comm))
{
    fake_nccl_must_live(comm);
    if (comm->job.step) {
        fake_nccl_say("a call on a communicator whose last call is in progress");
        return ncclInvalidUsage;
    }
    comm->job = (struct fake_job){.step = step, .end = end, .polls = POLLS};
    comm->phase = 0;
    return ncclInProgress;
}

struct ncclComm *fake_nccl_make(int rank, int size, int tag)
{
    struct ncclComm *comm = calloc(1, sizeof *comm);
    *comm = (struct ncclComm){.alive = ALIVE,
                              .next = communicators,
                              .rank = rank,
                              .size = size,
                              .tag = tag,
                              .number = made++,
                              .world_ranks = calloc((size_t)size, sizeof(int)),
                              .requests = calloc(2 * (size_t)size, sizeof(MPI_Request)),
                              .facts = calloc(2 * (size_t)size, sizeof(int))};
    communicators = comm;
    fake_beside(advance_all);
    return comm;
}

static bool messages_done(struct ncclComm *comm)
{
    int done = 0;
    int code = MPI_Testall(comm->request_count, comm->requests, &done, MPI_STATUSES_IGNORE);
    return code == MPI_SUCCESS && done;
}

static void post_send(struct ncclComm *comm, const int *data, int count, int to, int tag)
{
    MPI_Isend(data, count, MPI_INT, to, comm->tag + tag, MPI_COMM_WORLD,
              &comm->requests[comm->request_count++]);
}

static void post_receive(struct ncclComm *comm, int *data, int count, int from, int tag)
{
    MPI_Irecv(data, count, MPI_INT, from, comm->tag + tag, MPI_COMM_WORLD,
              &comm->requests[comm->request_count++]);
}

/* Ranks tell the creator of the id where they are; it tells everybody where all are. */
static bool join_as_creator(struct ncclComm *comm)
{
    if (comm->phase == 0) {
        comm->request_count = 0;
        for (int i = 0; i < comm->size - 1; i++)
            post_receive(comm, &comm->facts[(size_t)i * 2], 2, MPI_ANY_SOURCE, TAG_JOIN);
        comm->phase = 1;
    }
    if (!messages_done(comm))
        return false;
    if (comm->phase == 2)
        return true;
    for (int i = 0; i < comm->size - 1; i++)
        comm->world_ranks[comm->facts[(size_t)i * 2]] = comm->facts[(size_t)i * 2 + 1];
    comm->world_ranks[comm->rank] = comm->creator;
    comm->request_count = 0;
    for (int i = 0; i < comm->size; i++)
        if (i != comm->rank)
            post_send(comm, comm->world_ranks, comm->size, comm->world_ranks[i], TAG_TABLE);
    comm->phase = 2;
    return false;
}

static bool join(struct ncclComm *comm)
{
    if (deaf)
        return false;
    if (comm->creator == world_rank())
        return join_as_creator(comm);
    if (comm->phase == 0) {
        comm->request_count = 0;
        comm->mine[0] = comm->rank;
        comm->mine[1] = world_rank();
        post_send(comm, comm->mine, 2, comm->creator, TAG_JOIN);
        post_receive(comm, comm->world_ranks, comm->size, comm->creator, TAG_TABLE);
        comm->phase = 1;
    }
    return messages_done(comm);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int ids;
    struct identity identity = {.magic = ALIVE, .creator = world_rank()};
    identity.tag = TAG_FIRST + (identity.creator * IDS_OF_PROCESS + ids++) * TAGS_OF_ID;
    memset(id, 0, sizeof *id);
    memcpy(id, &identity, sizeof identity);
    return ncclSuccess;
}

static bool blocks(const ncclConfig_t *config)
{
    fake_nccl_say("this NCCL has non-blocking communicators only");
    return !config || config->magic != 0xcafebeef || config->blocking != 0;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    struct identity identity;
    memcpy(&identity, &id, sizeof identity);
    if (identity.magic != ALIVE || rank < 0 || rank >= size || blocks(config))
        return ncclInvalidArgument;
    *comm = fake_nccl_make(rank, size, identity.tag);
    (*comm)->creator = identity.creator;
    return fake_nccl_begin_job(*comm, join, NULL);
}

/* The child's first job: its handle appears some time after the parent's split is over. */
static bool appear(struct ncclComm *child)
{
    if (++child->phase < POLLS)
        return false;
    *child->child_place = child;
    return true;
}

/* Members of my color in the order of (key, rank); their number, and my place among them. */
static int my_group(const struct ncclComm *parent, int *members, int *place)
{
    const int *mine = &parent->facts[(size_t)parent->rank * 2];
    int count = 0;
    for (int r = 0; r < parent->size; r++) {
        const int *other = &parent->facts[(size_t)r * 2];
        int at = count;
        if (other[0] != mine[0])
            continue;
        while (at > 0 && parent->facts[(size_t)members[at - 1] * 2 + 1] > other[1]) {
            members[at] = members[at - 1];
            at--;
        }
        members[at] = r;
        count++;
    }
    for (int i = 0; i < count; i++)
        if (members[i] == parent->rank)
            *place = i;
    return count;
}

static void make_child(struct ncclComm *parent)
{
    int *members = malloc((size_t)parent->size * sizeof *members);
    int place = 0, first = parent->size, size = my_group(parent, members, &place);
    struct ncclComm *child;

    for (int i = 0; i < size; i++)
        first = members[i] < first ? members[i] : first;
    child = fake_nccl_make(place, size,
                           parent->tag + TAGS * (1 + parent->splits * parent->size + first));
    for (int i = 0; i < size; i++)
        child->world_ranks[i] = parent->world_ranks[members[i]];
    child->child_place = parent->child_place;
    fake_nccl_begin_job(child, appear, NULL);
    free(members);
}

static bool split(struct ncclComm *comm)
{
    if (deaf)
        return false;
    if (comm->phase == 0) {
        comm->request_count = 0;
        memcpy(&comm->facts[(size_t)comm->rank * 2], comm->mine, sizeof comm->mine);
        for (int p = 0; p < comm->size; p++) {
            if (p == comm->rank)
                continue;
            post_send(comm, comm->mine, 2, comm->world_ranks[p], TAG_SPLIT);
            post_receive(comm, &comm->facts[(size_t)p * 2], 2, comm->world_ranks[p], TAG_SPLIT);
        }
        comm->phase = 1;
    }
    return messages_done(comm);
}

/* What an abort leaves of a split that is under way: a child that is good for nothing but to be
 * aborted, too, and its handle in its place. */
static void end_split(struct ncclComm *parent)
{
    if (parent->job.step != split)
        return;
    if (parent->mine[0] == NCCL_SPLIT_NOCOLOR) {
        fprintf(stderr, "fake NCCL: a failed split writes to the child that this rank has not\n");
        abort();
    }
    *parent->child_place = fake_nccl_make(0, 1, 0);
}

static void split_end(struct ncclComm *comm)
{
    if (comm->mine[0] != NCCL_SPLIT_NOCOLOR)
        make_child(comm);
    comm->splits++;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *child,
                           ncclConfig_t *config)
{
    if (blocks(config))
        return ncclInvalidArgument;
    ncclResult_t code = fake_nccl_begin_job(comm, split, split_end);
    if (code != ncclInProgress)
        return code;
    comm->mine[0] = color;
    comm->mine[1] = key;
    comm->child_place = child;
    *child = NULL;
    return code;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    fake_nccl_must_live(comm);
    fake_progress();
    *state = comm->job.step ? ncclInProgress : ncclSuccess;
    if (comm->number == report.number && report.after-- <= 0)
        *state = report.code;
    return ncclSuccess;
}

static bool nothing_under_way(struct ncclComm *comm)
{
    return comm->under_way == 0;
}

static void finalize_end(struct ncclComm *comm)
{
    comm->finalized = true;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    return fake_nccl_begin_job(comm, nothing_under_way, finalize_end);
}

static void bury(struct ncclComm *comm)
{
    comm->alive = 0;
    fake_nccl_drop_pending(comm);
    for (int i = 0; i < comm->request_count; i++) {
        if (comm->requests[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&comm->requests[i]);
            MPI_Request_free(&comm->requests[i]);
        }
    }
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    fake_nccl_must_live(comm);
    if (!comm->finalized || comm->job.step) {
        fake_nccl_say("a communicator is destroyed that isn't finalized");
        return ncclInvalidUsage;
    }
    bury(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    fake_nccl_must_live(comm);
    end_split(comm);
    bury(comm);
    aborts.communicators++;
    if (fake_nccl_group_depth > 0)
        aborted_in_group = 1;
    else
        aborts.outside++;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    fake_nccl_group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t code = ncclSuccess;
    if (--fake_nccl_group_depth > 0)
        return ncclSuccess;
    for (struct ncclComm *c = communicators; c; c = c->next) {
        if (c->alive == ALIVE && c->pending && !c->job.step)
            code = fake_nccl_launch_pending(c);
    }
    aborts.groups += aborted_in_group;
    aborted_in_group = 0;
    return code;
}

const char *ncclGetErrorString(ncclResult_t code)
{
    return code == ncclRemoteError ? "remote process exited or there was a network error"
                                   : "another error of the fake NCCL";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
