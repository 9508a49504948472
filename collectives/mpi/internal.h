/* What the sources of the MPI backend share. */
#ifndef TRM_COLLECTIVES_MPI_INTERNAL_H
#define TRM_COLLECTIVES_MPI_INTERNAL_H

#include <mpi.h>

#include "collectives/backend.h"

/* Behind struct trm_comm.state. The operators belong to the world and are borrowed by its splits.
 */
struct mpi_state {
    MPI_Comm comm;              /* owned */
    MPI_Op max_f32, max_f64;    /* a NaN wins, +0 above -0: the same bits in any order */
    int local_rank, local_size; /* among the ranks of this node; set in the world alone */
};

extern const struct trm_comm_backend trm_mpi_backend;

/* TRM_OK, or TRM_ERR_COMM with MPI's text behind "<what> failed: ". */
enum trm_status trm_mpi_check(int code, const char *what, struct trm_error *err);

/* request.c */

#define TRM_MPI_ITEMS_MIN 8 /* every request holds as many MPI operations */

struct mpi_request {
    struct trm_request head;
    int count, capacity;
    MPI_Request *items; /* [capacity] */
};

enum trm_status trm_mpi_request_create(struct trm_comm *comm, int max_messages,
                                       struct trm_request **out, struct trm_error *err);
void trm_mpi_request_destroy(struct trm_request *request);
enum trm_status trm_mpi_wait(struct trm_request *request, struct trm_error *err);
enum trm_status trm_mpi_done(struct trm_request *request, bool *done, struct trm_error *err);

/* Room for `capacity` operations. */
enum trm_status trm_mpi_request_reserve(struct mpi_request *r, int capacity, struct trm_error *err);

/* The free slot in which the next MPI operation is started; trm_mpi_started follows with the result
 * of starting it, and gives the slot back when that failed. */
MPI_Request *trm_mpi_next_item(struct mpi_request *r);
enum trm_status trm_mpi_started(struct mpi_request *r, int code, const char *what,
                                struct trm_error *err);

/* `bytes` as one block whose extent is its size. The end may come while operations with it are
 * under way. */
struct mpi_block {
    int count;
    MPI_Datatype type;
};

enum trm_status trm_mpi_block_begin(size_t bytes, struct mpi_block *block, struct trm_error *err);
void trm_mpi_block_end(struct mpi_block *block);

/* comm.c */

/* Takes `comm`, also on failure. `operators` lends max_f32 and max_f64. *out is returned owned. */
enum trm_status trm_mpi_wrap(MPI_Comm comm, const struct mpi_state *operators,
                             struct trm_comm **out, struct trm_error *err);

#endif
