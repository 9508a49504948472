/*
 * dying MODE: ranks that gather without end over NCCL (of tests/fake) until rank 1 does what MODE
 * says in the tenth round: `kill` or `stop` itself by a signal, or `abort` the job. The others say
 * how they noticed, in one line each, and leave. Started by test_dying.sh.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/mesh.h"
#include "collectives/mpi/mpi.h"
#include "collectives/nccl/nccl.h"
#include "tests/fake/nccl/fake.h"

#define DEADLINE_MS 15000 /* for the others, who shall meet it */
#define NEVER_MS    60000 /* where they shall not */

static void act(const char *mode, struct trm_comm *device)
{
    printf("pid %d\n", (int)getpid());
    fflush(stdout);
    if (strcmp(mode, "abort") == 0)
        trm_comm_abort(device, 69);
    raise(strcmp(mode, "kill") == 0 ? SIGKILL : SIGSTOP);
}

static enum trm_status gather(const char *mode, struct trm_comm *device, struct trm_mesh *mesh,
                              struct trm_error *err)
{
    int64_t mine = device->rank, all[64];
    for (int round = 0;; round++) {
        enum trm_status status;
        if (round == 10 && device->rank == 1)
            act(mode, device);
        status = trm_comm_all_gather(mesh->tensor, &mine, all, sizeof mine, NULL, err);
        if (status == TRM_OK)
            status = trm_comm_all_gather(mesh->data, &mine, all, sizeof mine, NULL, err);
        if (status == TRM_OK)
            status = trm_comm_all_reduce(device, &mine, 1, TRM_MAX_I64, NULL, err);
        if (status != TRM_OK)
            return status;
    }
}

int main(int argc, char **argv)
{
    bool aborts = argc == 2 && strcmp(argv[1], "abort") == 0;
    struct trm_nccl_settings settings = {.init_timeout_ms = 60000,
                                         .operation_timeout_ms = aborts ? NEVER_MS : DEADLINE_MS};
    struct trm_comm *host = NULL, *device = NULL;
    struct trm_error err = {0};
    struct trm_mesh mesh;

    if (argc != 2)
        return 64;
    if (trm_mpi_start(NULL, NULL, &host, &err) || trm_nccl_start(host, &settings, &device, &err) ||
        trm_mesh_create(device, host->size > 2 ? 2 : 1, &mesh, &err)) {
        fprintf(stderr, "cannot start: %s\n", err.text);
        return 70;
    }
    enum trm_status status = gather(argv[1], device, &mesh, &err);
    struct fake_aborts aborted = fake_nccl_aborts();
    printf("rank %d: %s: %s; aborted %d in %d group\n", device->rank, trm_status_name(status),
           err.text, aborted.communicators, aborted.groups);
    fflush(stdout);
    _exit(0); /* MPI can't be finalized: a peer is gone */
}
