#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/mpi/internal.h"
#include "collectives/mpi/mpi.h"

/* Maxima whose bits depend on no order. Non-NaN floats order as their bits do, once those of
 * negative numbers are reversed; any NaN gives the same NaN. */
static int64_t order_key_f32(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? bits ^ INT32_MAX : bits;
}

static int64_t order_key_f64(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? bits ^ INT64_MAX : bits;
}

static void max_f32(void *in, void *in_out, int *count, MPI_Datatype *type)
{
    (void)type;
    const float *a = in;
    float *b = in_out;
    for (int i = 0; i < *count; i++) {
        if (a[i] != a[i] || b[i] != b[i])
            b[i] = __builtin_nanf("");
        else if (order_key_f32(a[i]) > order_key_f32(b[i]))
            b[i] = a[i];
    }
}

static void max_f64(void *in, void *in_out, int *count, MPI_Datatype *type)
{
    (void)type;
    const double *a = in;
    double *b = in_out;
    for (int i = 0; i < *count; i++) {
        if (a[i] != a[i] || b[i] != b[i])
            b[i] = __builtin_nan("");
        else if (order_key_f64(a[i]) > order_key_f64(b[i]))
            b[i] = a[i];
    }
}

static void free_operators(struct mpi_state *operators)
{
    if (operators->max_f32 != MPI_OP_NULL)
        MPI_Op_free(&operators->max_f32);
    if (operators->max_f64 != MPI_OP_NULL)
        MPI_Op_free(&operators->max_f64);
}

static enum trm_status make_operators(struct mpi_state *operators, struct trm_error *err)
{
    int code = MPI_Op_create(max_f32, 1, &operators->max_f32);
    if (code == MPI_SUCCESS)
        code = MPI_Op_create(max_f64, 1, &operators->max_f64);
    return trm_mpi_check(code, "making reduction operators", err);
}

static enum trm_status find_local(struct trm_comm *world, struct trm_error *err)
{
    struct mpi_state *state = world->state;
    MPI_Comm node;
    int code =
        MPI_Comm_split_type(state->comm, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &node);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_rank(node, &state->local_rank);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(node, &state->local_size);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_free(&node);
    return trm_mpi_check(code, "finding the ranks of this node", err);
}

static enum trm_status make_world(struct trm_comm **world, struct trm_error *err)
{
    struct mpi_state operators = {.max_f32 = MPI_OP_NULL, .max_f64 = MPI_OP_NULL};
    struct trm_comm *made = NULL;
    MPI_Comm copy;
    enum trm_status status = make_operators(&operators, err);
    if (!status)
        status = trm_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "forming the world", err);
    if (!status)
        status = trm_mpi_wrap(copy, &operators, &made, err);
    if (!status)
        status = find_local(made, err);
    if (status) {
        trm_comm_destroy(made);
        free_operators(&operators);
        return status;
    }
    *world = made;
    return TRM_OK;
}

enum trm_status trm_mpi_start(int *argc, char ***argv, struct trm_comm **world,
                              struct trm_error *err)
{
    int provided = 0;
    enum trm_status status = trm_mpi_check(
        MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "starting MPI", err);
    if (status)
        return status;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_FUNNELED)
        status = trm_error_set(err, TRM_ERR_UNSUPPORTED,
                               "this MPI library cannot run beside other threads: it offers thread "
                               "level %d, and MPI_THREAD_FUNNELED is needed",
                               provided);
    else
        status = make_world(world, err);
    if (status)
        MPI_Finalize();
    return status;
}

void trm_mpi_finish(struct trm_comm *world)
{
    if (!world)
        return;
    struct mpi_state operators = *(struct mpi_state *)world->state;
    trm_comm_destroy(world);
    free_operators(&operators);
    MPI_Finalize();
}

void trm_mpi_local(const struct trm_comm *world, int *local_rank, int *local_size)
{
    const struct mpi_state *state = world->state;
    *local_rank = state->local_rank;
    *local_size = state->local_size;
}

enum trm_status trm_mpi_node(struct trm_comm *world, struct trm_comm **node, struct trm_error *err)
{
    const struct mpi_state *state = world->state;
    MPI_Comm made;
    enum trm_status status = trm_mpi_check(
        MPI_Comm_split_type(state->comm, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &made),
        "finding the ranks of this node", err);

    return status ? status : trm_mpi_wrap(made, state, node, err);
}

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

const char *trm_mpi_version(void)
{
#ifdef OMPI_MAJOR_VERSION
    return "Open MPI v" TEXT(OMPI_MAJOR_VERSION) "." TEXT(OMPI_MINOR_VERSION) "." TEXT(
        OMPI_RELEASE_VERSION);
#else
    return "MPI " TEXT(MPI_VERSION) "." TEXT(MPI_SUBVERSION);
#endif
}
