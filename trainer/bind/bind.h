/*
 * Binds this process to its part of the node: the machine's topology (hwloc), the plan of plan.h,
 * and the system call. Results never depend on it: no sum is cut by threads.
 *
 * Binding is that of the calling thread, before it starts others, which inherit it: those that
 * exist already (a watchdog's, MPI's) stay free. Memory follows, since it is touched first by the
 * thread that works on it.
 *
 * GPUs are taken by local number, and their adapters are only named here: NCCL looks at the same
 * topology and takes the adapter nearest to each GPU by itself, rails and GPUDirect included, and
 * UCX does so by the cores that a process had when MPI started. Settings of ours could only take
 * choices from them (NCCL_IB_HCA, UCX_NET_DEVICES), so none are made.
 */
#ifndef TRM_TRAINER_BIND_BIND_H
#define TRM_TRAINER_BIND_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_BIND_MASK_WORDS   64 /* of 64 hardware threads each */
#define TRM_BIND_BUS_ID_BYTES 32

/* What a rank tells the others of its node. Plain bytes. */
struct trm_bind_place {
    uint64_t mask[TRM_BIND_MASK_WORDS]; /* where it may run */
    char gpu[TRM_BIND_BUS_ID_BYTES];    /* "0000:1b:00.0" of the GPU that it drives; "": none */
};

struct trm_bound {
    int threads;    /* one for each core of its own */
    bool bound;     /* it was, now */
    char text[256]; /* "cores 0-15, GPU 0000:1b:00.0, nearest adapter mlx5_0" */
};

/* This process's mask; the GPU is for the caller to fill in. TRM_ERR_UNSUPPORTED: the machine has
 * more than 4,096 hardware threads. */
enum trm_status trm_bind_look(struct trm_bind_place *place, struct trm_error *err);

/* `places`: of all ranks of this node, this one's at `mine`. Plans for all, and with `apply` binds
 * this one; takes milliseconds, more where there are GPUs. *out is written on success. After an
 * error nothing has changed. */
enum trm_status trm_bind(const struct trm_bind_place *places, int count, int mine, bool apply,
                         struct trm_bound *out, struct trm_error *err);

#endif
