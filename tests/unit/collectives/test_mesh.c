/* Places on the mesh and refused sizes, on a communicator whose split is a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/backend.h"
#include "collectives/mesh.h"

struct fake_split {
    int calls, fail_at, alive; /* fail_at: the call that fails, from 1; 0 for none */
    int colors[2], keys[2];
};

static void fake_destroy(struct trm_comm *comm)
{
    struct fake_split *fake = comm->state;
    fake->alive--;
    test_free(comm);
}

static enum trm_status fake_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                                  struct trm_error *err)
{
    struct fake_split *fake = comm->state;
    fake->colors[fake->calls] = color;
    fake->keys[fake->calls] = key;
    if (++fake->calls == fake->fail_at)
        return trm_error_set(err, TRM_ERR_COMM, "no more communicators");
    *out = test_malloc(sizeof **out);
    **out = *comm;
    fake->alive++;
    return TRM_OK;
}

static const struct trm_comm_backend fake_backend = {
    .name = "fake", .destroy = fake_destroy, .split = fake_split};

static void mesh_gives_each_rank_its_place(void **state)
{
    static const struct {
        int size, tensor_size, rank, data_rank, tensor_rank;
    } cases[] = {
        {8, 2, 0, 0, 0}, {8, 2, 5, 2, 1}, {6, 3, 5, 1, 2}, {4, 4, 3, 0, 3}, {4, 1, 3, 3, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_split fake = {0};
        struct trm_comm world = {
            .backend = &fake_backend, .rank = cases[i].rank, .size = cases[i].size, .state = &fake};
        struct trm_mesh mesh;
        assert_int_equal(trm_mesh_create(&world, cases[i].tensor_size, &mesh, NULL), TRM_OK);
        assert_int_equal(mesh.data_size, cases[i].size / cases[i].tensor_size);
        assert_int_equal(mesh.data_rank, cases[i].data_rank);
        assert_int_equal(mesh.tensor_rank, cases[i].tensor_rank);
        /* first the row: my data rank is the color; then the column */
        assert_int_equal(fake.colors[0], cases[i].data_rank);
        assert_int_equal(fake.keys[0], cases[i].tensor_rank);
        assert_int_equal(fake.colors[1], cases[i].tensor_rank);
        assert_int_equal(fake.keys[1], cases[i].data_rank);
        trm_mesh_destroy(&mesh);
        assert_int_equal(fake.alive, 0);
    }
}

static void mesh_refuses_a_tensor_size_that_does_not_divide(void **state)
{
    (void)state;
    struct fake_split fake = {0};
    struct trm_comm world = {.backend = &fake_backend, .rank = 0, .size = 8, .state = &fake};
    struct trm_mesh mesh;
    struct trm_error err;
    assert_int_equal(trm_mesh_create(&world, 3, &mesh, &err), TRM_ERR_CONFIG);
    assert_string_equal(err.text, "tensor-model-parallel-size 3 does not divide the number of "
                                  "ranks, 8: use one of 1, 2, 4, 8");
    assert_int_equal(trm_mesh_create(&world, 16, &mesh, &err), TRM_ERR_CONFIG);
    assert_int_equal(trm_mesh_create(&world, 0, &mesh, &err), TRM_ERR_CONFIG);
    assert_int_equal(fake.calls, 0);
}

static void mesh_create_leaves_nothing_when_a_split_fails(void **state)
{
    (void)state;
    for (int fail_at = 1; fail_at <= 2; fail_at++) {
        struct fake_split fake = {.fail_at = fail_at};
        struct trm_comm world = {.backend = &fake_backend, .rank = 1, .size = 4, .state = &fake};
        struct trm_mesh mesh = {.data_size = 99};
        struct trm_error err;
        assert_int_equal(trm_mesh_create(&world, 2, &mesh, &err), TRM_ERR_COMM);
        assert_string_equal(err.text, "forming the groups of a 2 x 2 mesh: no more communicators");
        assert_int_equal(fake.alive, 0);
        assert_int_equal(mesh.data_size, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mesh_gives_each_rank_its_place),
        cmocka_unit_test(mesh_refuses_a_tensor_size_that_does_not_divide),
        cmocka_unit_test(mesh_create_leaves_nothing_when_a_split_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
