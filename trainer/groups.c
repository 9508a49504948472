#include "trainer/groups.h"

#include <string.h>

#include "collectives/flight_write.h"
#include "collectives/nccl/nccl.h"

void trm_groups_on_host(struct trm_groups *groups, const struct trm_mesh *mesh)
{
    *groups = (struct trm_groups){.world = mesh->world, .data = mesh->data, .tensor = mesh->tensor};
}

static void note_failure(void *context, enum trm_status status, const char *text)
{
    const struct trm_groups *groups = context;
    trm_flight_exit(groups->flight, status, (int)trm_status_exit_code(status), text);
}

enum trm_status trm_groups_on_device(struct trm_groups *groups, const struct trm_mesh *mesh,
                                     const struct trm_config *config, struct trm_flight *flight,
                                     void *stream, struct trm_error *err)
{
    int64_t limit_ms = config->progress_timeout_ceiling_ms;
    const struct trm_nccl_settings settings = {
        .init_timeout_ms = limit_ms > 0 ? limit_ms : -1,
        .operation_timeout_ms = limit_ms > 0 ? limit_ms : -1,
        .stream = stream,
        .failed_fn = note_failure,
        .failed_context = groups,
    };
    enum trm_status status;

    *groups = (struct trm_groups){.flight = flight};
    status = trm_nccl_start(mesh->world, &settings, &groups->device_world, err);
    if (status == TRM_OK)
        status = trm_mesh_create(groups->device_world, mesh->tensor_size, &groups->device, err);
    if (status != TRM_OK) {
        trm_groups_destroy(groups);
        return status;
    }
    groups->world = groups->device_world;
    groups->data = groups->device.data;
    groups->tensor = groups->device.tensor;
    trm_mesh_follow(&groups->device, flight);
    return TRM_OK;
}

enum trm_status trm_groups_settle(struct trm_groups *groups, struct trm_error *err)
{
    enum trm_status status = trm_comm_settle(groups->tensor, err);
    if (status == TRM_OK)
        status = trm_comm_settle(groups->data, err);
    return status ? status : trm_comm_settle(groups->world, err);
}

void trm_groups_destroy(struct trm_groups *groups)
{
    trm_mesh_destroy(&groups->device);
    trm_comm_destroy(groups->device_world);
    memset(groups, 0, sizeof *groups);
}
