/* Rows and columns of the mesh talk to the right ranks. */
#include "world.h"

#include "collectives/mesh.h"

static void rows_and_columns_hold_their_ranks_in_order(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int tensor_size = 1; tensor_size <= world->size; tensor_size++) {
        struct trm_mesh mesh;
        int64_t ranks[64];
        const int64_t me = world->rank;
        if (world->size % tensor_size != 0)
            continue;
        ok = !trm_mesh_create(world, tensor_size, &mesh, NULL) && ok;
        ok = ok && mesh.data->size == mesh.data_size && mesh.data->rank == mesh.data_rank;
        ok = ok && mesh.tensor->size == tensor_size && mesh.tensor->rank == mesh.tensor_rank;
        ok = !trm_comm_all_gather(mesh.tensor, &me, ranks, sizeof me, NULL, NULL) && ok;
        for (int i = 0; i < mesh.tensor_size; i++)
            ok = ok && ranks[i] == mesh.data_rank * tensor_size + i;
        ok = !trm_comm_all_gather(mesh.data, &me, ranks, sizeof me, NULL, NULL) && ok;
        for (int i = 0; i < mesh.data_size; i++)
            ok = ok && ranks[i] == i * tensor_size + mesh.tensor_rank;
        trm_mesh_destroy(&mesh);
    }
    assert_on_all_ranks(world, ok);
}

static void a_size_that_does_not_divide_is_refused_on_all_ranks(void **state)
{
    struct trm_comm *world = *state;
    struct trm_mesh mesh;
    bool ok = trm_mesh_create(world, world->size + 1, &mesh, NULL) == TRM_ERR_CONFIG;
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_columns_hold_their_ranks_in_order),
        cmocka_unit_test(a_size_that_does_not_divide_is_refused_on_all_ranks),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
