/* Collectives in the flight record: the same numbers on all ranks, whatever the backend. */
#include "world.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collectives/backend.h"
#include "collectives/flight_write.h"
#include "collectives/mesh.h"
#include "collectives/node_flight.h"

static bool lane_is(const struct trm_flight_lane *lane, int64_t entered, int64_t completed)
{
    return lane->entered == entered && lane->completed == completed && lane->waiting == 0;
}

/* This process maps such a file, and its name is gone. The folder itself tells nothing: files of
 * other jobs come and go there. */
static bool maps_file_without_name(const char *prefix)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    bool found = false, named = false;

    while (maps && fgets(line, sizeof line, maps)) {
        bool is_one = strstr(line, prefix) != NULL;
        found = found || is_one;
        named = named || (is_one && !strstr(line, " (deleted)\n"));
    }
    if (maps)
        fclose(maps);
    return found && !named;
}

static void ranks_of_a_node_see_each_other_in_a_file_without_a_name(void **state)
{
    struct trm_comm *world = *state, *node = NULL;
    struct trm_flight flight = {0};
    bool ok = !trm_mpi_node(world, &node, NULL) && node->size == world->size;

    ok = ok && !trm_node_flight_open(node, world->rank, &flight, NULL);
    ok = ok && !trm_comm_barrier(world, NULL, NULL);
    for (int i = 0; ok && i < world->size; i++) {
        const struct trm_flight_record *record = &flight.segment->records[i];
        ok = record->state == TRM_FLIGHT_RUNNING && record->rank == i;
        ok = ok && (record->pid == getpid()) == (i == world->rank);
    }
    ok = ok && !trm_flight_lease_lapsed(&flight);
    ok = ok && maps_file_without_name("/dev/shm/trireme-flight-");
    trm_flight_unmap(&flight);
    trm_comm_destroy(node);
    assert_on_all_ranks(world, ok);
}

/* One of each operation: waited for inside the call, and through a request. */
static bool all_operations(struct trm_comm *comm, struct trm_request *r)
{
    char one[8] = "", all[8 * 8];
    float values[8] = {0}, sum[8] = {0};
    int64_t number = 1;
    bool ok = !trm_comm_barrier(comm, r, NULL) && !trm_request_wait(r, NULL);

    ok = !trm_comm_broadcast(comm, one, 8, 0, r, NULL) && !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_all_gather(comm, one, all, 8, r, NULL) && !trm_request_wait(r, NULL) && ok;
    memset(all, 0, sizeof all);
    char back[sizeof all];
    ok = !trm_comm_all_to_all(comm, all, back, 8, r, NULL) && !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_exchange(comm, NULL, 0, NULL, 0, r, NULL) && !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_all_reduce(comm, &number, 1, TRM_SUM_I64, r, NULL) &&
         !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_fastest_all_reduce(comm, values, 8, TRM_F32, r, NULL) &&
         !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_fastest_reduce_scatter(comm, values, sum, 1, TRM_F32, r, NULL) &&
         !trm_request_wait(r, NULL) && ok;
    return ok;
}

static void every_operation_is_entered_and_completed_once(void **state)
{
    struct trm_comm *world = *state;
    struct trm_flight_lane lane = {0};
    struct trm_request *r = NULL;
    struct trm_comm *half = NULL;
    bool ok = !trm_request_create(world, 0, &r, NULL);

    world->flight = &lane;
    ok = all_operations(world, NULL) && lane_is(&lane, 8, 8) && ok;
    ok = lane.operation == TRM_FLIGHT_REDUCE_SCATTER && ok;
    ok = all_operations(world, r) && lane_is(&lane, 16, 16) && ok;
    ok = !trm_comm_split(world, world->rank % 2, 0, &half, NULL) && ok;
    ok = lane_is(&lane, 17, 17) && lane.operation == TRM_FLIGHT_SPLIT && !half->flight && ok;
    trm_comm_destroy(half);
    trm_request_destroy(r);
    world->flight = NULL;
    assert_on_all_ranks(world, ok);
}

/* Whoever waits says for which one, not for the newest. */
static void requests_keep_their_numbers(void **state)
{
    struct trm_comm *world = *state;
    struct trm_flight_lane lane = {0};
    struct trm_request *first = NULL, *second = NULL;
    int64_t one = 1, two = 2;
    bool ok = !trm_request_create(world, 0, &first, NULL);

    ok = !trm_request_create(world, 0, &second, NULL) && ok;
    world->flight = &lane;
    ok = !trm_comm_all_reduce(world, &one, 1, TRM_SUM_I64, first, NULL) && ok;
    ok = !trm_comm_broadcast(world, &two, 8, 0, second, NULL) && ok;
    ok = lane.entered == 2 && lane.completed == (world->size == 1 ? 2 : 0) && ok;
    ok = first->number == 1 && second->number == 2 && ok;
    ok = !trm_request_wait(first, NULL) && ok;
    ok = lane.operation == (world->size == 1 ? TRM_FLIGHT_BROADCAST : TRM_FLIGHT_ALL_REDUCE) && ok;
    ok = !trm_request_wait(second, NULL) && ok;
    ok = lane_is(&lane, 2, 2) && one == world->size && ok;
    world->flight = NULL;
    trm_request_destroy(first);
    trm_request_destroy(second);
    assert_on_all_ranks(world, ok);
}

static void a_mesh_is_followed_in_three_lanes(void **state)
{
    struct trm_comm *world = *state;
    static _Alignas(TRM_FLIGHT_ALIGNMENT) struct trm_flight_record record;
    struct trm_flight flight = {.record = &record};
    int tensor = world->size % 2 ? 1 : 2;
    struct trm_mesh mesh;
    bool ok = !trm_mesh_create(world, tensor, &mesh, NULL);

    trm_mesh_follow(&mesh, &flight);
    ok = !trm_comm_barrier(mesh.data, NULL, NULL) && !trm_comm_barrier(mesh.tensor, NULL, NULL) &&
         !trm_comm_barrier(mesh.data, NULL, NULL) && ok;
    ok = lane_is(&record.lanes[TRM_FLIGHT_WORLD], 0, 0) && ok;
    ok = lane_is(&record.lanes[TRM_FLIGHT_DATA], 2, 2) && ok;
    ok = lane_is(&record.lanes[TRM_FLIGHT_TENSOR], 1, 1) && ok;
    ok = record.world_size == world->size && record.tensor_size == tensor && ok;
    world->flight = NULL;
    trm_mesh_destroy(&mesh);
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_a_node_see_each_other_in_a_file_without_a_name),
        cmocka_unit_test(every_operation_is_entered_and_completed_once),
        cmocka_unit_test(requests_keep_their_numbers),
        cmocka_unit_test(a_mesh_is_followed_in_three_lanes),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
