/* What can go wrong between devices, each with ranks that live on to tell: a rank that doesn't
 * join, one that doesn't start an operation, an error that NCCL reports, a fault of the device. */
#include "device_world.h"

#include <string.h>

#include "base/clock.h"
#include "collectives/mesh.h"

#define SHORT_MS 300 /* for what is waited for in vain */

/* What the caller was told, and what had been aborted by then. */
struct told {
    int times;
    enum trm_status status;
    char text[TRM_ERROR_TEXT_BYTES];
    int aborted;
};

static void tell(void *context, enum trm_status status, const char *text)
{
    struct told *told = context;
    told->times++;
    told->status = status;
    snprintf(told->text, sizeof told->text, "%s", text);
    told->aborted = fake_nccl_aborts().communicators;
}

/* A world of its own for each test, with a mesh: three communicators. */
struct family {
    struct device_world *base;
    struct trm_comm *host, *device;
    struct trm_mesh mesh;
    struct told told;
    struct fake_aborts before;
    int alive;
};

static struct trm_nccl_settings telling_settings(struct family *f)
{
    struct trm_nccl_settings settings = device_settings(f->base);
    settings.failed_fn = tell;
    settings.failed_context = &f->told;
    return settings;
}

static struct family *begin(void **state)
{
    struct family *f = calloc(1, sizeof *f);
    f->base = *state;
    f->host = f->base->host;
    f->before = fake_nccl_aborts();
    f->alive = fake_nccl_alive();
    struct trm_nccl_settings settings = telling_settings(f);
    int tensor_size = f->host->size % 2 == 0 ? 2 : 1;
    if (trm_nccl_start(f->host, &settings, &f->device, NULL) ||
        trm_mesh_create(f->device, tensor_size, &f->mesh, NULL))
        abort();
    return f;
}

/* Communicators of the family may all be destroyed, whatever became of them. */
static bool end(struct family *f)
{
    trm_mesh_destroy(&f->mesh);
    trm_comm_destroy(f->device);
    bool ok = fake_nccl_alive() == f->alive;
    free(f);
    return ok;
}

/* All three were aborted, in one group, after the reason was told once. */
static bool aborted_together(const struct family *f, enum trm_status status, const char *words)
{
    struct fake_aborts now = fake_nccl_aborts();
    return now.communicators - f->before.communicators == 3 && now.groups == f->before.groups + 1 &&
           now.outside == 0 && f->told.times == 1 && f->told.status == status &&
           f->told.aborted == f->before.communicators && strstr(f->told.text, words);
}

/* Every later call, on whichever communicator, says the same. */
static bool stays_broken(struct family *f, enum trm_status status, const char *words)
{
    struct trm_error err = {0};
    int64_t data = 1, all[16];
    bool ok = trm_comm_all_reduce(f->mesh.tensor, &data, 1, TRM_SUM_I64, NULL, &err) == status &&
              strstr(err.text, words);
    err.text[0] = '\0';
    ok = trm_comm_all_gather(f->mesh.data, &data, all, 8, NULL, &err) == status && ok &&
         strstr(err.text, words);
    ok = trm_comm_settle(f->device, NULL) == status && ok;
    return ok && f->told.times == 1;
}

static void a_rank_that_does_not_join_is_noticed_by_the_deadline(void **state)
{
    struct device_world *world = *state;
    struct family f = {.base = world, .host = world->host, .before = fake_nccl_aborts()};
    struct trm_nccl_settings settings = telling_settings(&f);
    struct trm_error err = {0};
    int alive = fake_nccl_alive();
    settings.init_timeout_ms = SHORT_MS;
    fake_nccl_be_deaf(world->host->rank == world->host->size - 1);
    bool ok =
        trm_nccl_start(world->host, &settings, &f.device, &err) == TRM_ERR_TIMEOUT && !f.device;
    fake_nccl_be_deaf(false);
    ok = ok && strstr(err.text, "starting NCCL: ") && strstr(err.text, "forming a communicator");
    ok = ok && f.told.times == 1 && f.told.status == TRM_ERR_TIMEOUT;
    ok = ok && fake_nccl_aborts().communicators == f.before.communicators + 1;
    assert_on_all_ranks(world->host, ok && fake_nccl_alive() == alive);
}

static void a_rank_that_does_not_take_part_in_a_split_is_noticed_by_the_deadline(void **state)
{
    struct device_world *world = *state;
    struct family f = {.base = world, .host = world->host};
    struct trm_nccl_settings settings = telling_settings(&f);
    struct trm_comm *part = NULL;
    struct trm_error err = {0};
    int alive = fake_nccl_alive();
    bool ok = trm_nccl_start(world->host, &settings, &f.device, NULL) == TRM_OK;
    if (ok)
        settings_of(f.device)->init_timeout_ms = SHORT_MS;
    fake_nccl_be_deaf(world->host->rank == world->host->size - 1);
    ok = ok && trm_comm_split(f.device, 0, 0, &part, &err) == TRM_ERR_TIMEOUT && !part;
    fake_nccl_be_deaf(false);
    ok = ok && strstr(err.text, "splitting a communicator") && f.told.times == 1;
    ok = ok && trm_comm_barrier(f.device, NULL, NULL) == TRM_ERR_TIMEOUT;
    trm_comm_destroy(f.device);
    assert_on_all_ranks(world->host, ok && fake_nccl_alive() == alive);
}

static void a_rank_that_does_not_start_an_operation_is_noticed_by_the_deadline(void **state)
{
    struct family *f = begin(state);
    struct trm_comm *host = f->host;
    struct trm_error err = {0};
    int64_t data = 1;
    bool ok = true;
    settings_of(f->device)->operation_timeout_ms = SHORT_MS;
    if (host->size > 1 && host->rank != host->size - 1) {
        ok = trm_comm_all_reduce(f->device, &data, 1, TRM_SUM_I64, NULL, &err) == TRM_ERR_TIMEOUT;
        ok = ok && strstr(err.text, "all-reduce over") && strstr(err.text, "did not complete");
        ok = ok && aborted_together(f, TRM_ERR_TIMEOUT, "all-reduce");
        ok = ok && stays_broken(f, TRM_ERR_TIMEOUT, "all-reduce");
    }
    ok = end(f) && ok;
    assert_on_all_ranks(host, ok);
}

/* The host waits for nothing but settles later: there the deadline holds too. */
static void settling_has_the_deadline_of_the_newest_operation(void **state)
{
    struct family *f = begin(state);
    struct trm_comm *host = f->host;
    struct trm_request *r = NULL;
    struct trm_error err = {0};
    int64_t data = 1;
    bool ok = !trm_request_create(f->device, 0, &r, NULL);
    if (host->size > 1 && host->rank != 0) {
        ok = ok && !trm_comm_all_reduce(f->device, &data, 1, TRM_SUM_I64, r, NULL);
        ok = ok && !trm_request_wait_stream(r, NULL);
        ((struct nccl_state *)f->device->state)->newest_deadline_ns = trm_clock_now_ns();
        ok = ok && trm_comm_settle(f->device, &err) == TRM_ERR_TIMEOUT;
        ok = ok && aborted_together(f, TRM_ERR_TIMEOUT, "all-reduce");
    }
    trm_request_destroy(r);
    ok = end(f) && ok;
    assert_on_all_ranks(host, ok);
}

static void an_error_that_nccl_reports_ends_the_whole_family(void **state)
{
    struct family *f = begin(state);
    struct trm_comm *host = f->host;
    struct trm_error err = {0};
    int64_t data = 1, all[16];
    bool ok = true;
    if (host->rank == 0) { /* the newest communicator is the one of data */
        fake_nccl_report(fake_nccl_newest(), 1, ncclRemoteError);
        enum trm_status status = trm_comm_all_gather(f->mesh.tensor, &data, all, 8, NULL, &err);
        if (status == TRM_OK) /* told by the next, at the latest */
            status = trm_comm_all_reduce(f->mesh.data, &data, 1, TRM_SUM_I64, NULL, &err);
        ok = status == TRM_ERR_COMM && strstr(err.text, "remote process exited");
        ok = ok && aborted_together(f, TRM_ERR_COMM, "remote process exited");
        ok = ok && stays_broken(f, TRM_ERR_COMM, "remote process exited");
    } else if (host->size > 1) { /* the peers meet their deadlines */
        settings_of(f->device)->operation_timeout_ms = SHORT_MS;
        ok = trm_comm_barrier(f->device, NULL, &err) == TRM_ERR_TIMEOUT;
        ok = ok && aborted_together(f, TRM_ERR_TIMEOUT, "barrier");
    }
    ok = end(f) && ok;
    assert_on_all_ranks(host, ok);
}

static void a_fault_of_the_device_is_told_in_its_words(void **state)
{
    struct family *f = begin(state);
    struct trm_comm *host = f->host;
    struct trm_request *r = NULL;
    struct trm_error err = {0};
    int64_t data = 1;
    bool ok = !trm_request_create(f->device, 0, &r, NULL) &&
              !trm_comm_all_reduce(f->device, &data, 1, TRM_SUM_I64, r, NULL);
    fake_fault(cudaErrorIllegalAddress);
    ok = ok && trm_request_wait(r, &err) == TRM_ERR_COMM;
    fake_fault(cudaSuccess);
    ok = ok && strstr(err.text, "all-reduce failed: CUDA says: an illegal memory access");
    ok = ok && aborted_together(f, TRM_ERR_COMM, "illegal memory access");
    trm_request_destroy(r);
    ok = end(f) && ok;
    assert_on_all_ranks(host, ok);
}

/* One rank fails while the others form theirs: none is left with a communicator. */
static void ranks_agree_on_a_communicator_that_one_could_not_form(void **state)
{
    struct device_world *world = *state;
    struct family f = {.base = world, .host = world->host, .before = fake_nccl_aborts()};
    struct trm_nccl_settings settings = telling_settings(&f);
    struct trm_error err = {0};
    int alive = fake_nccl_alive();
    settings.init_timeout_ms = SHORT_MS; /* of the others, whom nobody tells */
    fake_nccl_report(world->host->rank == 0 ? fake_nccl_newest() + 1 : -1, 0, ncclSystemError);
    bool ok = trm_nccl_start(world->host, &settings, &f.device, &err) == TRM_ERR_COMM && !f.device;
    ok = ok && strstr(err.text, world->host->size > 1 ? "rank 0: " : "NCCL says");
    assert_on_all_ranks(world->host, ok && fake_nccl_alive() == alive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_that_does_not_join_is_noticed_by_the_deadline),
        cmocka_unit_test(a_rank_that_does_not_take_part_in_a_split_is_noticed_by_the_deadline),
        cmocka_unit_test(a_rank_that_does_not_start_an_operation_is_noticed_by_the_deadline),
        cmocka_unit_test(settling_has_the_deadline_of_the_newest_operation),
        cmocka_unit_test(an_error_that_nccl_reports_ends_the_whole_family),
        cmocka_unit_test(a_fault_of_the_device_is_told_in_its_words),
        cmocka_unit_test(ranks_agree_on_a_communicator_that_one_could_not_form),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
