/*
 * The mesh: the world's ranks on named axes, data x tensor.
 *
 * rank = data_rank * tensor_size + tensor_rank: tensor-parallel ranks are neighbours, as they talk
 * most. A *row* is one tensor group (same data rank), a *column* one data group (same tensor rank).
 * The mesh owns its communicators.
 */
#ifndef TRM_COLLECTIVES_MESH_H
#define TRM_COLLECTIVES_MESH_H

#include "collectives/comm.h"
#include "collectives/flight.h"

struct trm_mesh {
    struct trm_comm *world;  /* borrowed */
    struct trm_comm *data;   /* owned: my column, rank = data_rank */
    struct trm_comm *tensor; /* owned: my row, rank = tensor_rank */
    int data_size, data_rank;
    int tensor_size, tensor_rank;
};

/* Collective over `world`. Requires tensor_size to divide the world's size, else TRM_ERR_CONFIG. */
enum trm_status trm_mesh_create(struct trm_comm *world, int tensor_size, struct trm_mesh *mesh,
                                struct trm_error *err);

/* Notes the operations of world, data and tensor group in the record of `flight` (borrowed), from
 * here on: at the same point of all ranks. */
void trm_mesh_follow(struct trm_mesh *mesh, struct trm_flight *flight);
void trm_mesh_destroy(struct trm_mesh *mesh);

#endif
