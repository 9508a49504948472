/* Every operation over NCCL gives, bit for bit, what it gives over MPI, in its blocking form and as
 * start and wait, in many orders of the device's streams. */
#include "device_world.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

#define FORMS 2 /* without a request, and with one */

static const size_t sizes[] = {0, 1, 7, 4096, 100001};
#define SIZES (sizeof sizes / sizeof *sizes)

/* A result of an operation over both backends. */
struct pair {
    unsigned char *host, *device;
    size_t bytes;
};

static struct pair make_pair(size_t bytes, int rank, uint64_t key)
{
    struct pair p = {malloc(bytes + 1), malloc(bytes + 1), bytes};
    for (size_t i = 0; i < bytes; i++)
        p.host[i] = (unsigned char)trm_random_bits(key + 1000 * (uint64_t)rank, i);
    p.host[bytes] = 99;
    memcpy(p.device, p.host, bytes + 1);
    return p;
}

static bool end_pair(struct pair *p)
{
    bool same = memcmp(p->host, p->device, p->bytes + 1) == 0;
    free(p->host);
    free(p->device);
    return same;
}

static struct trm_request *make_request(struct trm_comm *comm, int form)
{
    struct trm_request *r = NULL;
    if (form == 1 && trm_request_create(comm, 4 * comm->size, &r, NULL))
        abort();
    return r;
}

/* One operation over one backend, on request r, complete when it returns. */
typedef bool (*try_fn)(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                       size_t bytes);

static bool try_broadcast(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                          size_t bytes)
{
    bool ok = true;
    for (int root = 0; root < comm->size; root++)
        ok = !trm_comm_broadcast(comm, data, bytes, root, r, NULL) && !trm_request_wait(r, NULL) &&
             ok;
    return ok;
}

static bool try_all_gather(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                           size_t bytes)
{
    size_t part = bytes / (size_t)(comm->size + 1);
    unsigned char *mine = data + (size_t)comm->rank * part;
    bool ok = !trm_comm_all_gather(comm, mine, data, part, r, NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    mine = data + (size_t)comm->size * part; /* and not in place */
    ok = !trm_comm_all_gather(comm, mine, data, part, r, NULL) && ok;
    return !trm_request_wait(r, NULL) && ok;
}

static bool try_all_to_all(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                           size_t bytes)
{
    size_t part = bytes / (size_t)(2 * comm->size);
    bool ok = !trm_comm_all_to_all(comm, data, data + (size_t)comm->size * part, part, r, NULL);
    return !trm_request_wait(r, NULL) && ok;
}

/* Two messages to each other rank, of different lengths. */
static bool try_exchange(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                         size_t bytes)
{
    enum { MOST = 16 };
    struct trm_message sends[MOST], receives[MOST];
    size_t part = bytes / (size_t)(4 * comm->size);
    unsigned char *to = data + bytes / 2;
    int count = 0;
    for (int peer = 0; peer < comm->size; peer++) {
        for (int k = 0; k < 2 && peer != comm->rank; k++, count++) {
            size_t place = (size_t)count * part, length = part / (size_t)(1 + k);
            sends[count] = (struct trm_message){peer, data + place, length};
            receives[count] = (struct trm_message){peer, to + place, length};
        }
    }
    bool ok = !trm_comm_exchange(comm, sends, count, receives, count, r, NULL);
    return !trm_request_wait(r, NULL) && ok;
}

static bool try_integers(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                         size_t bytes)
{
    bool ok = true;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        int64_t value;
        memcpy(&value, data + i, sizeof value);
        value /= 8; /* sums fit */
        memcpy(data + i, &value, sizeof value);
    }
    for (int op = TRM_SUM_I64; op <= TRM_MAX_I64; op++) {
        size_t count = bytes / 24;
        ok = !trm_comm_all_reduce(comm, data + (size_t)op * count * 8, count,
                                  (enum trm_reduction)op, r, NULL) &&
             ok;
        ok = !trm_request_wait(r, NULL) && ok;
    }
    return ok;
}

/* Random bits are floats of every kind: NaNs, infinities and zeros of both signs among them. */
static bool try_maxima(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                       size_t bytes)
{
    size_t half = bytes / 16 * 8;
    if (comm->size == 1)
        return true; /* nothing is done, to NaNs either */
    for (size_t i = 0; i + 8 <= half; i += 72)
        memset(data + i, comm->rank % 2 ? 0 : 0xff, 8);
    bool ok = !trm_comm_all_reduce(comm, data, half / 4, TRM_MAX_F32, r, NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_all_reduce(comm, data + half, half / 8, TRM_MAX_F64, r, NULL) && ok;
    return !trm_request_wait(r, NULL) && ok;
}

/* Whole numbers: any order gives the same sum. */
static bool try_fastest(struct trm_comm *comm, struct trm_request *r, unsigned char *data,
                        size_t bytes)
{
    size_t size = (size_t)comm->size, part = bytes / 16 / (size + 1);
    float *floats = malloc((size + 1) * part * sizeof *floats + 1);
    double *doubles = malloc(part * sizeof *doubles + 1);
    for (size_t i = 0; i < (size + 1) * part; i++)
        floats[i] = (float)(data[i] + (unsigned)comm->rank);
    for (size_t i = 0; i < part; i++)
        doubles[i] = data[i];
    bool ok = !trm_comm_fastest_reduce_scatter(comm, floats, floats + size * part, part, TRM_F32, r,
                                               NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    ok = !trm_comm_fastest_all_reduce(comm, doubles, part, TRM_F64, r, NULL) && ok;
    ok = !trm_request_wait(r, NULL) && ok;
    memcpy(data, floats + size * part, part * sizeof *floats);
    memcpy(data + part * sizeof *floats, doubles, part * sizeof *doubles);
    free(floats);
    free(doubles);
    return ok;
}

/* A chain and a copy, over operands of this rank alone. */
static bool try_sum(struct trm_comm *comm, struct trm_request *r, unsigned char *data, size_t bytes)
{
    enum { OPERANDS = 5 };
    static const struct trm_lane_add adds[] = {{3, 4}, {2, 3}, {1, 2}, {0, 1}};
    size_t count = bytes / 4 / (OPERANDS + 1);
    void *operands[OPERANDS];
    float *floats = (float *)calloc(OPERANDS + 1, count * sizeof *floats + 1);
    for (size_t i = 0; i < OPERANDS * count; i++)
        floats[i] = (float)trm_random_normal((uint64_t)comm->rank, i);
    for (size_t i = 0; i < OPERANDS; i++)
        operands[i] = floats + i * count;
    float *into = floats + OPERANDS * count;
    bool ok = !trm_comm_sum(comm, operands, adds, 4, into, count, TRM_F32, r, NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    memcpy(data, into, count * sizeof *into);
    free(floats);
    return ok;
}

static bool same_on_both(struct device_world *world, try_fn try)
{
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *of_host = make_request(world->host, form);
        struct trm_request *of_device = make_request(world->device, form);
        for (size_t s = 0; s < SIZES; s++) {
            struct pair p = make_pair(sizes[s], world->host->rank, s);
            fake_seed(s * FORMS + (uint64_t)form);
            ok = try(world->host, of_host, p.host, p.bytes) && ok;
            ok = try(world->device, of_device, p.device, p.bytes) && ok;
            ok = end_pair(&p) && ok;
        }
        trm_request_destroy(of_host);
        trm_request_destroy(of_device);
    }
    return ok;
}

static void broadcasts_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_broadcast));
}

static void all_gathers_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host,
                        same_on_both(*state, try_all_gather));
}

static void all_to_alls_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host,
                        same_on_both(*state, try_all_to_all));
}

static void exchanges_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_exchange));
}

static void integer_reductions_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_integers));
}

static void float_maxima_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_maxima));
}

static void fastest_sums_of_whole_numbers_are_those_of_mpi(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_fastest));
}

static void ordered_sums_are_those_of_the_host(void **state)
{
    assert_on_all_ranks(((struct device_world *)*state)->host, same_on_both(*state, try_sum));
}

static void barrier_completes_in_both_forms(void **state)
{
    struct device_world *world = *state;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world->device, form);
        ok = !trm_comm_barrier(world->device, r, NULL) && !trm_request_wait(r, NULL) && ok;
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world->host, ok);
}

static void exchange_may_leave_ranks_out(void **state)
{
    struct device_world *world = *state;
    int last = world->host->size - 1;
    unsigned char data[64];
    struct trm_message message = {.data = data, .bytes = sizeof data};
    bool ok = true;
    memset(data, world->host->rank, sizeof data);
    if (last > 0 && world->host->rank == 0) {
        message.peer = last;
        ok = !trm_comm_exchange(world->device, &message, 1, NULL, 0, NULL, NULL);
    } else if (last > 0 && world->host->rank == last) {
        ok = !trm_comm_exchange(world->device, NULL, 0, &message, 1, NULL, NULL) && data[63] == 0;
    }
    assert_on_all_ranks(world->host, ok);
}

/* Odd and even ranks, in descending order; then each alone, with NCCL and without. */
static void splits_are_those_of_mpi(void **state)
{
    struct device_world *world = *state;
    int rank = world->host->rank;
    struct trm_comm *host = NULL, *device = NULL, *alone = NULL;
    bool ok = !trm_comm_split(world->host, rank % 2, -rank, &host, NULL) &&
              !trm_comm_split(world->device, rank % 2, -rank, &device, NULL) &&
              host->rank == device->rank && host->size == device->size;
    int64_t all[8] = {0}, mine = 100 + rank;
    ok = ok && !trm_comm_all_gather(device, &mine, all, sizeof mine, NULL, NULL);
    for (int i = 0; i < device->size; i++)
        ok = ok && all[i] == 100 + rank % 2 + 2 * (device->size - 1 - i);
    ok = !trm_comm_split(world->device, rank, 0, &alone, NULL) && ok && alone->size == 1;
    ok = ok && same_on_both(&(struct device_world){.host = alone, .device = alone}, try_all_gather);
    trm_comm_destroy(alone);
    trm_comm_destroy(device);
    trm_comm_destroy(host);
    assert_on_all_ranks(world->host, ok);
}

/* What a run on one device gets: copies on the stream, and no NCCL. */
static void one_rank_needs_no_nccl(void **state)
{
    struct device_world *world = *state;
    struct trm_nccl_settings settings = device_settings(world);
    struct trm_comm *self = NULL, *device = NULL, *half = NULL;
    int alive = fake_nccl_alive();
    settings.alone = false;
    bool ok = !trm_comm_self(&self, NULL) && !trm_nccl_start(self, &settings, &device, NULL);
    struct device_world alone = {.host = self, .device = device, .stream = world->stream};
    ok = ok && same_on_both(&alone, try_all_gather) && same_on_both(&alone, try_all_to_all) &&
         same_on_both(&alone, try_sum) && same_on_both(&alone, try_integers) &&
         same_on_both(&alone, try_fastest) && same_on_both(&alone, try_broadcast);
    ok = ok && !trm_comm_barrier(device, NULL, NULL);
    ok = ok && !trm_comm_split(device, 3, 0, &half, NULL) && half->size == 1;
    ok = ok && fake_nccl_alive() == alive;
    trm_comm_destroy(half);
    trm_comm_destroy(device);
    trm_comm_destroy(self);
    assert_on_all_ranks(world->host, ok);
}

/* Where every part has one rank, NCCL isn't asked, and a rank that it would wait for is of no
 * matter; where some have more, the others get one of it, too. */
static void splits_into_single_ranks_need_no_nccl(void **state)
{
    struct device_world *world = *state;
    const int rank = world->host->rank, size = world->host->size;
    struct trm_nccl_settings settings = device_settings(world);
    struct trm_comm *device = NULL, *single = NULL, *uneven = NULL;
    settings.alone = false;
    bool ok = !trm_nccl_start(world->host, &settings, &device, NULL);
    const int alive = fake_nccl_alive();
    fake_nccl_be_deaf(rank == size - 1);
    ok = ok && !trm_comm_split(device, rank, 0, &single, NULL) && single->size == 1;
    fake_nccl_be_deaf(false);
    ok = ok && fake_nccl_alive() == alive;
    ok = ok && !trm_comm_split(device, rank < 2 ? 0 : rank, 0, &uneven, NULL);
    ok = ok && fake_nccl_alive() == alive + (size > 1);
    ok = ok && !trm_comm_barrier(single, NULL, NULL) && !trm_comm_barrier(uneven, NULL, NULL);
    trm_comm_destroy(uneven);
    trm_comm_destroy(single);
    trm_comm_destroy(device);
    assert_on_all_ranks(world->host, ok);
}

static void the_version_is_the_librarys(void **state)
{
    struct device_world *world = *state;
    char text[32];
    trm_nccl_version(text, sizeof text);
    assert_on_all_ranks(world->host, strncmp(text, "NCCL 2.", 7) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasts_are_those_of_mpi),
        cmocka_unit_test(all_gathers_are_those_of_mpi),
        cmocka_unit_test(all_to_alls_are_those_of_mpi),
        cmocka_unit_test(exchanges_are_those_of_mpi),
        cmocka_unit_test(integer_reductions_are_those_of_mpi),
        cmocka_unit_test(float_maxima_are_those_of_mpi),
        cmocka_unit_test(fastest_sums_of_whole_numbers_are_those_of_mpi),
        cmocka_unit_test(ordered_sums_are_those_of_the_host),
        cmocka_unit_test(barrier_completes_in_both_forms),
        cmocka_unit_test(exchange_may_leave_ranks_out),
        cmocka_unit_test(splits_are_those_of_mpi),
        cmocka_unit_test(one_rank_needs_no_nccl),
        cmocka_unit_test(splits_into_single_ranks_need_no_nccl),
        cmocka_unit_test(the_version_is_the_librarys),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
