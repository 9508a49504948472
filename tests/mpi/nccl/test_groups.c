/* The groups that move a run's tensors, over host memory and over devices. */
#include "device_world.h"

#include <string.h>

#include "collectives/backend.h"
#include "collectives/flight.h"
#include "collectives/flight_view.h"
#include "collectives/flight_write.h"
#include "trainer/groups.h"

/* A segment of one record, as an agent would lend it. */
struct record {
    void *memory;
    struct trm_flight flight;
};

static struct record claim_record(void)
{
    size_t bytes = trm_flight_segment_bytes(1);
    bytes = (bytes + TRM_FLIGHT_ALIGNMENT - 1) / TRM_FLIGHT_ALIGNMENT * TRM_FLIGHT_ALIGNMENT;
    struct record r = {.memory = aligned_alloc(TRM_FLIGHT_ALIGNMENT, bytes)};
    memset(r.memory, 0, bytes);
    trm_flight_segment_init(r.memory, 1, 0);
    r.flight.segment = r.memory;
    r.flight.record = &r.flight.segment->records[0];
    atomic_store(&r.flight.record->state, TRM_FLIGHT_RUNNING);
    return r;
}

struct trial {
    struct device_world *base;
    struct trm_config *config;
    struct trm_mesh mesh;
    struct trm_groups groups;
    struct record record;
};

static struct trial *begin(void **state, int64_t ceiling_ms)
{
    struct trial *t = calloc(1, sizeof *t);
    t->base = *state;
    t->record = claim_record();
    if (trm_config_create(&t->config, NULL) ||
        trm_mesh_create(t->base->host, t->base->host->size % 2 == 0 ? 2 : 1, &t->mesh, NULL))
        abort();
    t->config->progress_timeout_ceiling_ms = ceiling_ms;
    return t;
}

static void end(struct trial *t)
{
    trm_groups_destroy(&t->groups);
    trm_mesh_destroy(&t->mesh);
    trm_config_destroy(t->config);
    free(t->record.memory);
    free(t);
}

static void over_host_memory_they_are_the_mesh(void **state)
{
    struct trial *t = begin(state, 0);
    struct trm_comm *host = t->base->host;
    trm_groups_on_host(&t->groups, &t->mesh);
    bool ok = t->groups.world == host && t->groups.data == t->mesh.data &&
              t->groups.tensor == t->mesh.tensor;
    ok = ok && !trm_groups_settle(&t->groups, NULL);
    end(t);
    assert_on_all_ranks(host, ok);
}

static void over_devices_they_have_the_places_of_the_mesh(void **state)
{
    struct trial *t = begin(state, 0); /* no deadline */
    struct trm_comm *host = t->base->host;
    bool ok = !trm_groups_on_device(&t->groups, &t->mesh, t->config, &t->record.flight,
                                    t->base->stream, NULL);
    ok = ok && t->groups.data->rank == t->mesh.data_rank &&
         t->groups.data->size == t->mesh.data_size &&
         t->groups.tensor->rank == t->mesh.tensor_rank &&
         t->groups.tensor->size == t->mesh.tensor_size && t->groups.world->rank == host->rank;
    ok = ok && strcmp(t->groups.data->backend->name, "nccl") == 0;
    end(t);
    assert_on_all_ranks(host, ok);
}

/* A record counts what only the stream waits for as complete when the host has settled. */
static void their_operations_are_in_the_flight_record(void **state)
{
    struct trial *t = begin(state, 60000);
    struct trm_comm *host = t->base->host;
    struct trm_flight_lane *lane = &t->record.flight.record->lanes[TRM_FLIGHT_DATA];
    struct trm_request *r = NULL;
    int64_t mine = host->rank, all[16];
    bool ok = !trm_groups_on_device(&t->groups, &t->mesh, t->config, &t->record.flight,
                                    t->base->stream, NULL);
    ok = ok && !trm_request_create(t->groups.data, 0, &r, NULL);
    for (int i = 0; i < 3 && ok; i++)
        ok = !trm_comm_all_gather(t->groups.data, &mine, all, sizeof mine, r, NULL) &&
             !trm_request_wait_stream(r, NULL);
    ok = ok && atomic_load(&lane->entered) == 3 && atomic_load(&lane->completed) == 0;
    ok = ok && !trm_groups_settle(&t->groups, NULL);
    ok = ok && atomic_load(&lane->entered) == 3 && atomic_load(&lane->completed) == 3;
    trm_request_destroy(r);
    end(t);
    assert_on_all_ranks(host, ok);
}

/* The reason is in the record, for the agent and the watchdog, whatever the process does next. */
static void their_failure_is_in_the_flight_record(void **state)
{
    struct trial *t = begin(state, 60000);
    struct trm_comm *host = t->base->host;
    struct trm_flight_view view;
    int64_t data = 1;
    bool ok = !trm_groups_on_device(&t->groups, &t->mesh, t->config, &t->record.flight,
                                    t->base->stream, NULL);
    if (ok && host->size > 1 && host->rank > 0) { /* rank 0 doesn't come */
        settings_of(t->groups.world)->operation_timeout_ms = 300;
        ok = trm_comm_all_reduce(t->groups.world, &data, 1, TRM_SUM_I64, NULL, NULL) ==
             TRM_ERR_TIMEOUT;
        trm_flight_view(t->record.flight.record, 0, &view);
        ok = ok && view.state == TRM_FLIGHT_EXITED && view.exit_code == TRM_EXIT_UNAVAILABLE &&
             strstr(view.exit_text, "all-reduce over");
    }
    end(t);
    assert_on_all_ranks(host, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_host_memory_they_are_the_mesh),
        cmocka_unit_test(over_devices_they_have_the_places_of_the_mesh),
        cmocka_unit_test(their_operations_are_in_the_flight_record),
        cmocka_unit_test(their_failure_is_in_the_flight_record),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
