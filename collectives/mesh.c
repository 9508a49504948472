#include "collectives/mesh.h"

#include <stdio.h>
#include <string.h>

#include "collectives/flight_write.h"

/* "1, 2, 4, 8": the sizes that would fit, so that the message says what to write instead. */
static void list_divisors(int number, char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 1; i <= number && used + 16 < text_bytes; i++) {
        if (number % i == 0)
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%d", used ? ", " : "", i);
    }
}

enum trm_status trm_mesh_create(struct trm_comm *world, int tensor_size, struct trm_mesh *mesh,
                                struct trm_error *err)
{
    if (tensor_size < 1 || world->size % tensor_size != 0) {
        char divisors[256];
        list_divisors(world->size, divisors, sizeof divisors);
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "tensor-model-parallel-size %d does not divide the number of ranks, "
                             "%d: use one of %s",
                             tensor_size, world->size, divisors);
    }
    struct trm_mesh made = {.world = world,
                            .data_size = world->size / tensor_size,
                            .data_rank = world->rank / tensor_size,
                            .tensor_size = tensor_size,
                            .tensor_rank = world->rank % tensor_size};
    enum trm_status status =
        trm_comm_split(world, made.data_rank, made.tensor_rank, &made.tensor, err);
    if (!status)
        status = trm_comm_split(world, made.tensor_rank, made.data_rank, &made.data, err);
    if (status) {
        trm_error_prefix(err, "forming the groups of a %d x %d mesh", made.data_size,
                         made.tensor_size);
        trm_mesh_destroy(&made);
        return status;
    }
    *mesh = made;
    return TRM_OK;
}

void trm_mesh_follow(struct trm_mesh *mesh, struct trm_flight *flight)
{
    trm_flight_mesh(flight, mesh->world->size, mesh->data_size, mesh->tensor_size);
    mesh->world->flight = trm_flight_lane(flight, TRM_FLIGHT_WORLD);
    mesh->data->flight = trm_flight_lane(flight, TRM_FLIGHT_DATA);
    mesh->tensor->flight = trm_flight_lane(flight, TRM_FLIGHT_TENSOR);
}

void trm_mesh_destroy(struct trm_mesh *mesh)
{
    if (!mesh)
        return;
    trm_comm_destroy(mesh->data);
    trm_comm_destroy(mesh->tensor);
    memset(mesh, 0, sizeof *mesh);
}
