/* What tests of the NCCL backend share: a world over MPI, one over the fake NCCL, and the stream
 * that stands for the caller's computations. */
#ifndef TRM_TESTS_MPI_NCCL_DEVICE_WORLD_H
#define TRM_TESTS_MPI_NCCL_DEVICE_WORLD_H

#include <stdlib.h>

#include "collectives/nccl/internal.h"
#include "collectives/nccl/nccl.h"
#include "tests/fake/device.h"
#include "tests/fake/nccl/fake.h"
#include "tests/mpi/world.h"

#define SEEDS 8 /* orders in which the device runs its streams */

struct device_world {
    struct trm_comm *host, *device;
    cudaStream_t stream;
};

static inline struct trm_nccl_settings device_settings(const struct device_world *world)
{
    return (struct trm_nccl_settings){.init_timeout_ms = 60000,
                                      .operation_timeout_ms = 60000,
                                      .stream = world->stream,
                                      .alone = true};
}

/* The settings of the family that a communicator belongs to. Deadlines of what is waited for in
 * vain are shortened when all that comes before is done, which may take its time. */
static inline struct trm_nccl_settings *settings_of(const struct trm_comm *device)
{
    return &((struct nccl_state *)device->state)->family->settings;
}

static inline int device_world_start(void **state)
{
    struct device_world *world = calloc(1, sizeof *world);
    struct trm_error err = {0};
    *state = NULL;
    if (!world || world_start((void **)&world->host))
        return -1;
    cudaStreamCreateWithFlags(&world->stream, cudaStreamNonBlocking);
    struct trm_nccl_settings settings = device_settings(world);
    if (trm_nccl_start(world->host, &settings, &world->device, &err)) {
        fprintf(stderr, "cannot start: %s\n", err.text);
        return -1;
    }
    *state = world;
    return 0;
}

static inline int device_world_finish(void **state)
{
    struct device_world *world = *state;
    trm_comm_destroy(world->device);
    cudaStreamDestroy(world->stream);
    int left = fake_nccl_alive();
    world_finish((void **)&world->host);
    free(world);
    return left; /* communicators that nobody ended */
}

#endif
