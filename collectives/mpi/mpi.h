/*
 * The MPI backend. The only folder that includes mpi.h.
 *
 * MPI_THREAD_FUNNELED: the main thread makes every call. Errors are returned as TRM_ERR_COMM with
 * MPI's own text; a dead peer is reported by mpirun, which ends the job.
 */
#ifndef TRM_COLLECTIVES_MPI_H
#define TRM_COLLECTIVES_MPI_H

#include "collectives/comm.h"

/* Collective over all ranks that were started together. Initialises MPI; *world is returned owned.
 * argc and argv are given to MPI_Init_thread. */
enum trm_status trm_mpi_start(int *argc, char ***argv, struct trm_comm **world,
                              struct trm_error *err);

/* Collective: destroys `world` and finalizes MPI. */
void trm_mpi_finish(struct trm_comm *world);

/* Ranks of this node, and this rank's number among them; not collective. */
void trm_mpi_local(const struct trm_comm *world, int *local_rank, int *local_size);

/* Collective over `world`: a communicator of the ranks of this node, by rank. *node is returned
 * owned; destroy it before `world`. */
enum trm_status trm_mpi_node(struct trm_comm *world, struct trm_comm **node, struct trm_error *err);

/* "Open MPI v4.1.4"; static. */
const char *trm_mpi_version(void);

#endif
