/*
 * A rank's place on its node: the cores that it computes on, and its GPU.
 *
 * Cores are planned and bound by trainer/bind. A GPU is taken by the rank's number on the node,
 * where all GPUs are visible to all ranks, which NCCL needs for its fastest paths; a rank that sees
 * one alone (Slurm's --gpus-per-task) takes that. Two ranks never drive one GPU.
 */
#ifndef TRM_TRAINER_PLACE_H
#define TRM_TRAINER_PLACE_H

#include <stdbool.h>

#include "base/status.h"
#include "collectives/comm.h"
#include "trainer/config/config.h"

struct trm_place {
    int threads;    /* for computing, where the configuration leaves them open */
    int gpu;        /* number of its GPU among those that this process sees; -1: none */
    char text[512]; /* what was bound, or why not, in words; "": nothing to tell */
    bool warns;     /* `text` is a warning */
};

/* Collective over `node`: the ranks of this node (NULL: this one is alone there), in the order of
 * their local numbers. To be called before threads that compute are started, which inherit what the
 * calling thread is bound to. That cores can't be bound is no error. Where a rank of the node has
 * no GPU, none has; TRM_ERR_CONFIG, the same on all of them, where two would drive one and the
 * configuration asks for GPUs. */
enum trm_status trm_place_choose(const struct trm_config *config, struct trm_comm *node,
                                 struct trm_place *out, struct trm_error *err);

#endif
