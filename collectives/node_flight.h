/*
 * Flight records without an agent: the ranks of each node share an unnamed file in /dev/shm, so
 * that the watchdog of each can tell who holds up the others. The file vanishes with them; it has a
 * name for the time of this call alone.
 */
#ifndef TRM_COLLECTIVES_NODE_FLIGHT_H
#define TRM_COLLECTIVES_NODE_FLIGHT_H

#include "collectives/comm.h"
#include "collectives/flight.h"

/* Collective over `node`, the ranks of one node; agreed among them. `rank` is this process's in the
 * world. On failure (no room in /dev/shm) nothing is left behind, and a run can go on without. */
enum trm_status trm_node_flight_open(struct trm_comm *node, int rank, struct trm_flight *out,
                                     struct trm_error *err);

#endif
