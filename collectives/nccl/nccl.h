/*
 * The NCCL backend: communicators over the memory of NVIDIA GPUs. With trainer/ops/cuda the only
 * folders that include CUDA's headers, and the only one that includes NCCL's.
 *
 * A world over NCCL stands beside one over host memory (the MPI backend), over the same ranks: the
 * host's shares NCCL's id and agrees on statuses, NCCL moves what lies on the devices. A mesh over
 * this world splits it into communicators for data and tensor parallelism (mesh.h). All that stem
 * from one world are a family, which fails as one: NCCL's communicators do not block
 * (config.blocking = 0); every call is followed by polling, with a deadline for forming a
 * communicator and one for every operation; at the first error reported or deadline passed,
 * all communicators of the family are aborted in one NCCL group, so that no kernel of theirs holds
 * the device, and every later call returns that first failure's status and words. Peers notice by
 * their own deadlines, or are ended by trm_comm_abort.
 *
 * Ordering: each communicator has a stream of its own, of the highest priority. An operation begins
 * after what is on the caller's stream at that time (unless its request is detached) and after the
 * communicator's earlier ones; see the three waits in comm.h. Starting one waits on the host only
 * until NCCL has put it on the stream: the first operation between two ranks connects them, and may
 * meet its deadline there. A deadline includes the work on the caller's stream that the operation
 * waits for.
 *
 * Sums: integers and maxima by NCCL, exact; floats in fixed order by a kernel of our own
 * (trm_comm_sum); the two `fastest_` operations by NCCL.
 *
 * A build without CUDA has this header too: its trm_nccl_start refuses.
 *
 * One thread makes all calls, with the device current that was current at the start. Memory: NCCL's
 * own buffers, on the device and pinned; this backend adds 8 bytes of device memory per
 * communicator and allocates nothing in a steady step.
 */
#ifndef TRM_COLLECTIVES_NCCL_NCCL_H
#define TRM_COLLECTIVES_NCCL_NCCL_H

#include "collectives/comm.h"

/* Told once, by the thread that makes the calls, as soon as a family fails and before it is aborted
 * (which may take long on a device that is stuck): so that a watchdog knows the reason. */
typedef void (*trm_nccl_failed_fn)(void *context, enum trm_status status, const char *text);

struct trm_nccl_settings {
    int64_t init_timeout_ms;      /* to form, split or end a communicator; negative: no limit */
    int64_t operation_timeout_ms; /* from the start of an operation to its end; negative: none */
    void *stream; /* cudaStream_t, the caller's; NULL: nothing is ordered after it, and
                     only the host can wait */
    bool alone;   /* NCCL also for a communicator of one rank, which without it needs
                     copies only: to try the library on a single device */
    trm_nccl_failed_fn failed_fn; /* may be NULL */
    void *failed_context;
};

/* Collective over `host`, whose buffers are host memory (borrowed; destroyed after *world). The
 * calling thread's current device must be this rank's own. On failure no rank has a communicator,
 * and all return the same status: TRM_ERR_TIMEOUT when ranks didn't form it in time, TRM_ERR_COMM
 * with NCCL's text otherwise. *world is returned owned. */
enum trm_status trm_nccl_start(struct trm_comm *host, const struct trm_nccl_settings *settings,
                               struct trm_comm **world, struct trm_error *err);

/* "NCCL 2.28.9", as loaded; of a library too broken to ask, "NCCL". */
void trm_nccl_version(char *text, size_t text_bytes);

#endif
