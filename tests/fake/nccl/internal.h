/* What the sources of the fake NCCL share. */
#ifndef TRM_TESTS_FAKE_NCCL_INTERNAL_H
#define TRM_TESTS_FAKE_NCCL_INTERNAL_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/fake/device.h"
#include "tests/fake/nccl/fake.h"

/* Tags of a communicator, from its own base on. */
enum { TAG_JOIN, TAG_TABLE, TAG_SPLIT, TAG_DATA, TAGS = 8 };

/* A call that is in progress: step() until it says true, then some polls more. */
struct fake_job {
    bool (*step)(struct ncclComm *comm);
    void (*end)(struct ncclComm *comm); /* what becomes visible when it is over */
    int polls;                          /* left after the last step */
    bool stepped;
};

struct ncclComm {
    uint64_t alive; /* ALIVE, until it is destroyed or aborted */
    struct ncclComm *next;
    int rank, size, tag, number;
    int *world_ranks; /* [size] */
    struct fake_job job;
    int under_way; /* works on streams */
    int splits;
    bool finalized;

    /* Of forming and splitting. */
    MPI_Request *requests;
    int request_count;
    int phase, creator;
    int *facts; /* [size][2]: joins as (rank, world rank), or splits as (color, key) */
    int mine[2];
    struct ncclComm *child; /* of a split */
    ncclComm_t *child_place;
    struct fake_work *pending; /* calls of the open group, or of the launch in progress */
};

/* nccl.h declares these two as functions of any arguments. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

/* Ends the process where `comm` isn't alive. */
void fake_nccl_must_live(const struct ncclComm *comm);
void fake_nccl_say(const char *words); /* for ncclGetLastError */

/* Starts a job; ncclInvalidUsage when one is in progress. */
ncclResult_t fake_nccl_begin_job(struct ncclComm *comm, bool (*step)(struct ncclComm *comm),
                                 void (*end)(struct ncclComm *comm));
struct ncclComm *fake_nccl_make(int rank, int size, int tag);
extern int fake_nccl_group_depth;

/* ops.c: the works of the calls so far go to their stream when the job that this starts ends.
 */
ncclResult_t fake_nccl_launch_pending(struct ncclComm *comm);
void fake_nccl_drop_pending(struct ncclComm *comm);

#endif
