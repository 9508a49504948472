/* Requests, and blocks of more bytes than an int counts. */
#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "collectives/mpi/internal.h"

#define MIB (1 << 20)

enum trm_status trm_mpi_check(int code, const char *what, struct trm_error *err)
{
    if (code == MPI_SUCCESS)
        return TRM_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return trm_error_set(err, TRM_ERR_COMM, "%s failed: %s", what, text);
}

enum trm_status trm_mpi_request_reserve(struct mpi_request *r, int capacity, struct trm_error *err)
{
    if (capacity <= r->capacity)
        return TRM_OK;
    MPI_Request *items = realloc(r->items, (size_t)capacity * sizeof *items);
    if (!items)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a request of %d messages",
                             capacity);
    r->items = items;
    r->capacity = capacity;
    return TRM_OK;
}

void trm_mpi_request_destroy(struct trm_request *request)
{
    struct mpi_request *r = (struct mpi_request *)request;
    free(r->items);
    free(r);
}

enum trm_status trm_mpi_request_create(struct trm_comm *comm, int max_messages,
                                       struct trm_request **out, struct trm_error *err)
{
    struct mpi_request *r = calloc(1, sizeof *r);
    if (!r)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communication request");
    r->head.comm = comm;
    r->head.max_messages = max_messages;
    int capacity = max_messages > TRM_MPI_ITEMS_MIN ? max_messages : TRM_MPI_ITEMS_MIN;
    enum trm_status status = trm_mpi_request_reserve(r, capacity, err);
    if (status) {
        trm_mpi_request_destroy(&r->head);
        return status;
    }
    *out = &r->head;
    return TRM_OK;
}

/* One after the other: MPI_Waitall of Open MPI 4.1.4 spins for ever when an operation has already
 * failed. After an error the rest is abandoned, as its peers may never answer. */
enum trm_status trm_mpi_wait(struct trm_request *request, struct trm_error *err)
{
    struct mpi_request *r = (struct mpi_request *)request;
    int code = MPI_SUCCESS;
    for (int i = 0; i < r->count && code == MPI_SUCCESS; i++)
        code = MPI_Wait(&r->items[i], MPI_STATUS_IGNORE);
    r->head.active = false;
    r->count = 0;
    return trm_mpi_check(code, "communication", err);
}

/* Completes nothing: that is for the wait that follows. */
enum trm_status trm_mpi_done(struct trm_request *request, bool *done, struct trm_error *err)
{
    struct mpi_request *r = (struct mpi_request *)request;
    int code = MPI_SUCCESS, complete = 1;
    for (int i = 0; i < r->count && complete && code == MPI_SUCCESS; i++)
        code = MPI_Request_get_status(r->items[i], &complete, MPI_STATUS_IGNORE);
    *done = complete != 0;
    return trm_mpi_check(code, "communication", err);
}

MPI_Request *trm_mpi_next_item(struct mpi_request *r)
{
    TRM_ASSERT(r->count < r->capacity);
    r->head.active = true;
    return &r->items[r->count++];
}

enum trm_status trm_mpi_started(struct mpi_request *r, int code, const char *what,
                                struct trm_error *err)
{
    if (code != MPI_SUCCESS)
        r->head.active = --r->count > 0;
    return trm_mpi_check(code, what, err);
}

/* As many MiB as fit, then the bytes that remain: one element of exactly `bytes`. */
static int make_type(size_t bytes, MPI_Datatype *out)
{
    MPI_Datatype mib, made;
    int code = MPI_Type_contiguous(MIB, MPI_BYTE, &mib);
    if (code != MPI_SUCCESS)
        return code;
    int lengths[2] = {(int)(bytes / MIB), (int)(bytes % MIB)};
    MPI_Aint places[2] = {0, (MPI_Aint)(bytes / MIB * MIB)};
    MPI_Datatype types[2] = {mib, MPI_BYTE};
    code = MPI_Type_create_struct(2, lengths, places, types, &made);
    MPI_Type_free(&mib);
    if (code != MPI_SUCCESS)
        return code;
    code = MPI_Type_commit(&made);
    if (code != MPI_SUCCESS)
        MPI_Type_free(&made);
    else
        *out = made;
    return code;
}

enum trm_status trm_mpi_block_begin(size_t bytes, struct mpi_block *block, struct trm_error *err)
{
    *block = (struct mpi_block){(int)bytes, MPI_BYTE};
    if (bytes <= INT_MAX)
        return TRM_OK;
    block->count = 1;
    return trm_mpi_check(make_type(bytes, &block->type), "describing a large message", err);
}

void trm_mpi_block_end(struct mpi_block *block)
{
    if (block->type != MPI_BYTE)
        MPI_Type_free(&block->type);
}
