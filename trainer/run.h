/*
 * ★ trm_run: one process's part of a training run, from set-up to the last step.
 *
 * Owns configuration, mesh, device, layout, model, gradient exchange, optimizer, data and the
 * persistent state (struct trm_ckpt_state: everything that is not a tensor). The functions of
 * step.c, evaluate.c and state.c work on it; nothing else keeps state.
 */
#ifndef TRM_TRAINER_RUN_H
#define TRM_TRAINER_RUN_H

#include "base/log.h"
#include "checkpoint/catalog.h"
#include "checkpoint/parallel/saver.h"
#include "collectives/attach.h"
#include "collectives/mesh.h"
#include "trainer/data/reader.h"
#include "trainer/groups.h"
#include "trainer/guard.h"
#include "trainer/metrics.h"
#include "trainer/model/model.h"
#include "trainer/optimizer/grad_sync.h"
#include "trainer/optimizer/optimizer.h"
#include "trainer/optimizer/param_gather.h"

/* What mirror.c keeps: page-locked memory of the host, where tensors lie on a device. */
struct trm_step_sums;
struct trm_mirror {
    void *memory;                             /* owned; NULL: tensors lie in the host's memory */
    float *parameters, *exp_avg, *exp_avg_sq; /* [owned_elements]: this rank's share of the state */
    struct trm_step_sums *sums;               /* of the newest step */
    int32_t *tokens;                          /* of a step's inputs and targets */
    bool is_current;                          /* the share is what the device holds, */
    bool is_coming;                           /* or will be once trm_mirror_wait returns */
};

/* What saving.c keeps. */
struct trm_saving {
    struct trm_saver *saver;
    void *snapshots[TRM_SAVER_SNAPSHOTS]; /* in the arena; NULL where a save waits for the disk */
    struct trm_error failure;             /* of the newest save that failed, TRM_OK: none */
    int waits;                            /* saves that had to wait for the disk */
    bool last;                            /* the save that ends the run */
    bool fetching;                        /* a save begins once the mirror is there */
};

/* The step that was tried last, and what its numbers were worth; numbers.c. */
struct trm_tried_step {
    int64_t step;
    int64_t first, next; /* its samples [first, next) */
    uint64_t data_hash;  /* after them */
    enum trm_guard_verdict verdict;
};

struct trm_memory_tier;

struct trm_run {
    struct trm_config *config; /* borrowed; checked against the world's size */
    struct trm_comm *world;    /* borrowed */
    struct trm_attach *attach; /* borrowed: the node's agent, if any */
    struct trm_flight *flight; /* attach->flight: what this rank does, for others to see */
    struct trm_log log;
    int local_size, local_rank; /* ranks of this node */
    int threads, gpu;           /* OpenMP, and its device, of this rank */
    struct trm_mesh mesh;       /* over host memory */
    struct trm_groups groups;   /* what moves tensors */
    struct trm_device device;
    struct trm_layout *layout;
    struct trm_lanes *lanes;
    struct trm_model *model;
    struct trm_grad_sync *grad_sync;
    struct trm_param_gather *param_gather;
    struct trm_optimizer *optimizer;
    struct trm_arena arena;        /* of the host's memory */
    struct trm_arena device_arena; /* of the device's, where that is not the host */
    void *device_memory;           /* owned: device_arena's */
    struct trm_arena *tensors;     /* whichever of the two tensors lie in: all up to `tokens` */
    enum trm_type type;            /* of parameters and activations */
    void *parameters;              /* flat vector of that type */
    struct trm_step_sums *sums;    /* sums.h */
    int32_t *tokens;               /* of a step, on a device; NULL: they are where the reader is */
    struct trm_request *sums_request;
    struct trm_mirror mirror;

    struct trm_dataset *train, *valid;
    struct trm_reader *reader;
    int64_t *offsets; /* where each of this rank's micro-batches starts in a global batch */
    int lane_count, micro_batch_count;
    int32_t *valid_inputs, *valid_targets; /* one micro-batch, in the host's arena */
    int32_t *sample;                       /* [seq_length + 1] */

    struct trm_metrics metrics;
    struct trm_ckpt_state state;
    int64_t saved_step;   /* newest step on disk, -1: none */
    int64_t saved_sample; /* its next_sample */
    struct trm_saving saving;
    struct trm_memory_tier *memory_tier; /* owned, memory_tier.c; NULL: none */
    struct trm_tried_step tried;
};

/* Not collective. What this rank does now, in its flight record and for profilers of its device. */
void trm_run_phase(struct trm_run *run, enum trm_phase phase);

/* Not collective. The reader, from the state's position on; the one before is stopped. */
enum trm_status trm_run_start_reader(struct trm_run *run, struct trm_error *err);

/* Where a run takes place. All borrowed. */
struct trm_run_place {
    struct trm_comm *world;
    struct trm_attach *attach;
    int local_rank, local_size; /* on this node */
    int threads, gpu;           /* of its own there; no GPU: -1 (place.h) */
};

/* Collective over the world. Sets everything up, starts afresh or from a checkpoint, trains to the
 * end or to a stop request, and leaves a checkpoint. TRM_ERR_STOPPED after a stop that is durable.
 * After TRM_ERR_COMM or TRM_ERR_TIMEOUT what is under way is left as it is, memory and threads
 * included: the group is broken, and all that the process may do is to end. */
enum trm_status trm_run_train(struct trm_config *config, const struct trm_run_place *place,
                              struct trm_error *err);

/* Did that status break the group? */
bool trm_run_is_broken(enum trm_status status);

#endif
