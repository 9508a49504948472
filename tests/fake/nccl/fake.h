/*
 * An NCCL that isn't one, for tests on machines without a GPU: the functions that collectives/nccl
 * calls, over MPI and the fake device (device.h). It moves bytes between processes by MPI messages
 * and says nothing of NCCL's speed, topology or bugs. What it keeps of NCCL's behaviour is what the
 * orchestration has to be right about:
 *
 * - communicators don't block: a call leaves the communicator in progress, and its work gets on the
 *   stream (a split's new handle into its place) only some polls of ncclCommGetAsyncError later;
 *   another call before that is an error;
 * - forming a communicator waits for every rank, operations wait for every peer, for ever: a rank
 *   that is gone is never reported;
 * - work on a stream runs in its turn, messages of one pair of ranks match in their order;
 * - an abort ends what the device still does for the communicator, and its handle is gone; using it
 *   afterwards ends the process; of a split that it ends, the child's handle comes nevertheless,
 * and is to be aborted, too;
 * - float sums are added from the last rank down, which is not the order of our tree.
 *
 * MPI must be started (collectives/mpi) and may have 2^31 - 1 as its largest tag, as Open MPI's
 * has. One thread.
 */
#ifndef TRM_TESTS_FAKE_NCCL_FAKE_H
#define TRM_TESTS_FAKE_NCCL_FAKE_H

#include <nccl.h>
#include <stdbool.h>

/* What was aborted so far in this process. */
struct fake_aborts {
    int communicators; /* aborted at all */
    int groups;        /* groups that held aborts */
    int outside;       /* communicators aborted outside of a group */
};
struct fake_aborts fake_nccl_aborts(void);

/* Communicators that are neither destroyed nor aborted. */
int fake_nccl_alive(void);

/* From now on this process doesn't join a communicator that is being formed or split: its peers and
 * itself wait for ever. */
void fake_nccl_be_deaf(bool now);

/* The number of the newest communicator of this process, from 0. */
int fake_nccl_newest(void);

/* From its `after`-th call of ncclCommGetAsyncError on, communicator `number` reports `code`; it
 * may be one that is still to be made. */
void fake_nccl_report(int number, int after, ncclResult_t code);

#endif
