/* Every operation over MPI, in its blocking form and as start and wait. */
#include "world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The forms of an operation: without a request, and with one. */
#define FORMS 2

static struct trm_request *make_request(struct trm_comm *comm, int form)
{
    struct trm_request *r = NULL;
    if (form == 1 && trm_request_create(comm, 4 * comm->size, &r, NULL))
        abort();
    return r;
}

/* A byte that says who sent what to whom. */
static unsigned char mark(int from, int to, size_t i)
{
    return (unsigned char)(31 * from + 7 * to + (int)(i % 251) + 1);
}

static bool is_marked(const unsigned char *data, size_t bytes, int from, int to)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != mark(from, to, i))
            return false;
    }
    return true;
}

static void fill_marks(unsigned char *data, size_t bytes, int from, int to)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = mark(from, to, i);
}

static const size_t sizes[] = {0, 1, 7, 4096, 100001, 3 << 20};
#define SIZES (sizeof sizes / sizeof *sizes)

static void world_knows_its_ranks_and_those_of_the_node(void **state)
{
    struct trm_comm *world = *state;
    int local_rank = -1, local_size = -1;
    trm_mpi_local(world, &local_rank, &local_size);
    bool ok = world->rank >= 0 && world->rank < world->size;
    ok = ok && local_rank == world->rank && local_size == world->size; /* one node */
    ok = ok && strncmp(trm_mpi_version(), "Open MPI v", 10) == 0;
    assert_on_all_ranks(world, ok);
}

static void barrier_holds_everyone(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        ok = ok && !trm_comm_barrier(world, r, NULL) && !trm_request_wait(r, NULL);
        ok = ok && !trm_request_wait(r, NULL); /* nothing under way: done at once */
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

static void broadcast_brings_the_roots_bytes_to_all(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        for (size_t s = 0; s < SIZES; s++) {
            for (int root = 0; root < world->size; root++) {
                unsigned char *data = malloc(sizes[s] + 1);
                fill_marks(data, sizes[s], world->rank, 0);
                data[sizes[s]] = 99;
                ok = !trm_comm_broadcast(world, data, sizes[s], root, r, NULL) && ok;
                ok = !trm_request_wait(r, NULL) && ok;
                ok = ok && is_marked(data, sizes[s], root, 0) && data[sizes[s]] == 99;
                free(data);
            }
        }
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

static bool try_all_gather(struct trm_comm *world, struct trm_request *r, size_t bytes,
                           bool in_place)
{
    const size_t size = (size_t)world->size, rank = (size_t)world->rank;
    unsigned char *all = calloc(size * bytes + 1, 1), *mine = malloc(bytes + 1);
    unsigned char *from = in_place ? all + rank * bytes : mine;
    fill_marks(from, bytes, world->rank, 1);
    bool ok = !trm_comm_all_gather(world, from, all, bytes, r, NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    for (size_t i = 0; i < size; i++)
        ok = ok && is_marked(all + i * bytes, bytes, (int)i, 1);
    free(all);
    free(mine);
    return ok;
}

static void all_gather_orders_blocks_by_rank_in_place_too(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        for (size_t s = 0; s < SIZES; s++) {
            ok = try_all_gather(world, r, sizes[s], false) && ok;
            ok = try_all_gather(world, r, sizes[s], true) && ok;
        }
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

static void all_to_all_sends_block_i_to_rank_i(void **state)
{
    struct trm_comm *world = *state;
    const size_t size = (size_t)world->size;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        for (size_t s = 0; s < SIZES; s++) {
            const size_t bytes = sizes[s];
            unsigned char *send = malloc(size * bytes + 1), *receive = malloc(size * bytes + 1);
            for (size_t i = 0; i < size; i++)
                fill_marks(send + i * bytes, bytes, world->rank, (int)i);
            ok = !trm_comm_all_to_all(world, send, receive, bytes, r, NULL) && ok;
            ok = !trm_request_wait(r, NULL) && ok;
            for (size_t i = 0; i < size; i++)
                ok = ok && is_marked(receive + i * bytes, bytes, (int)i, world->rank);
            free(send);
            free(receive);
        }
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

/* Two messages to each other rank, of different lengths, one of them perhaps empty. */
static bool try_exchange(struct trm_comm *world, struct trm_request *r, const size_t bytes[2])
{
    enum { MOST = 16 };
    struct trm_message sends[MOST] = {{0}}, receives[MOST] = {{0}};
    int count = 0;
    bool ok = true;
    for (int peer = 0; peer < world->size; peer++) {
        for (int k = 0; k < 2 && peer != world->rank; k++, count++) {
            sends[count] = (struct trm_message){peer, malloc(bytes[k] + 1), bytes[k]};
            receives[count] = (struct trm_message){peer, malloc(bytes[k] + 1), bytes[k]};
            fill_marks(sends[count].data, bytes[k], world->rank, peer + k);
        }
    }
    ok = !trm_comm_exchange(world, sends, count, receives, count, r, NULL);
    ok = !trm_request_wait(r, NULL) && ok;
    for (int i = 0; i < count; i++) {
        ok = ok &&
             is_marked(receives[i].data, receives[i].bytes, receives[i].peer, world->rank + i % 2);
        free(sends[i].data);
        free(receives[i].data);
    }
    return ok;
}

static void exchange_matches_messages_in_the_order_listed(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        for (size_t s = 0; s < SIZES; s++)
            ok = try_exchange(world, r, (size_t[2]){sizes[s], sizes[(s + 1) % SIZES]}) && ok;
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

static void exchange_may_have_no_message_for_some_ranks(void **state)
{
    struct trm_comm *world = *state;
    unsigned char data[64];
    struct trm_message message = {.data = data, .bytes = sizeof data};
    bool ok = true;
    if (world->size > 1 && world->rank == 0) {
        message.peer = world->size - 1;
        fill_marks(data, sizeof data, 0, message.peer);
        ok = !trm_comm_exchange(world, &message, 1, NULL, 0, NULL, NULL);
    } else if (world->size > 1 && world->rank == world->size - 1) {
        ok = !trm_comm_exchange(world, NULL, 0, &message, 1, NULL, NULL);
        ok = ok && is_marked(data, sizeof data, 0, world->rank);
    } else {
        ok = !trm_comm_exchange(world, NULL, 0, NULL, 0, NULL, NULL);
    }
    assert_on_all_ranks(world, ok);
}

/* Several operations under way at once, started in the same order and waited for in another. */
static void operations_on_several_requests_overlap(void **state)
{
    enum { COUNT = 3, NUMBERS = 50000 };
    struct trm_comm *world = *state;
    struct trm_request *r[COUNT];
    int64_t *data[COUNT];
    bool ok = true;
    for (int i = 0; i < COUNT; i++) {
        r[i] = make_request(world, 1);
        data[i] = malloc(NUMBERS * sizeof *data[i]);
        for (int j = 0; j < NUMBERS; j++)
            data[i][j] = (int64_t)i * j + world->rank;
        ok = !trm_comm_all_reduce(world, data[i], NUMBERS, TRM_SUM_I64, r[i], NULL) && ok;
    }
    for (int i = COUNT - 1; i >= 0; i--)
        ok = !trm_request_wait(r[i], NULL) && ok;
    const int64_t size = world->size;
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < NUMBERS; j++)
            ok = ok && data[i][j] == size * i * j + size * (size - 1) / 2;
        free(data[i]);
        trm_request_destroy(r[i]);
    }
    assert_on_all_ranks(world, ok);
}

static void integer_reductions_are_exact(void **state)
{
    struct trm_comm *world = *state;
    const int64_t size = world->size, big = INT64_C(1) << 60;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        int64_t sum[2] = {big + world->rank, -world->rank};
        int64_t least[2] = {big + world->rank, -world->rank};
        int64_t most[2] = {big + world->rank, -world->rank};
        ok = !trm_comm_all_reduce(world, sum, 2, TRM_SUM_I64, r, NULL) && ok;
        ok = !trm_request_wait(r, NULL) && ok;
        ok = !trm_comm_all_reduce(world, least, 2, TRM_MIN_I64, r, NULL) && ok;
        ok = !trm_request_wait(r, NULL) && ok;
        ok = !trm_comm_all_reduce(world, most, 2, TRM_MAX_I64, r, NULL) && ok;
        ok = !trm_request_wait(r, NULL) && ok;
        const int64_t ranks_sum = size * (size - 1) / 2;
        ok = ok && sum[0] == size * big + ranks_sum && sum[1] == -ranks_sum;
        ok = ok && least[0] == big && least[1] == 1 - size;
        ok = ok && most[0] == big + size - 1 && most[1] == 0;
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

/* What MPI_MAX leaves to the order: NaN on one rank, and zeros of two signs. */
static void float_maxima_do_not_depend_on_the_order(void **state)
{
    struct trm_comm *world = *state;
    const int rank = world->rank, last = world->size - 1;
    bool ok = true;
    for (int form = 0; form < FORMS && world->size > 1; form++) {
        for (int odd = 0; odd < world->size; odd++) {
            struct trm_request *r = make_request(world, form);
            float f[5] = {-1.0f - (float)rank, rank == odd ? copysignf(NAN, -1.0f) : 1e30f,
                          rank == odd ? 0.0f : -0.0f, rank == odd ? INFINITY : 3.0f, (float)rank};
            double d[5];
            for (int i = 0; i < 5; i++)
                d[i] = f[i];
            ok = !trm_comm_all_reduce(world, f, 5, TRM_MAX_F32, r, NULL) && ok;
            ok = !trm_request_wait(r, NULL) && ok;
            ok = !trm_comm_all_reduce(world, d, 5, TRM_MAX_F64, r, NULL) && ok;
            ok = !trm_request_wait(r, NULL) && ok;
            ok = ok && f[0] == -1.0f && isnan(f[1]) && f[2] == 0.0f && !signbit(f[2]);
            ok = ok && isinf(f[3]) && f[4] == (float)last;
            ok = ok && d[0] == -1.0 && isnan(d[1]) && d[2] == 0.0 && !signbit(d[2]);
            ok = ok && isinf(d[3]) && d[4] == last;
            trm_request_destroy(r);
        }
    }
    assert_on_all_ranks(world, ok);
}

static void fastest_sums_add(void **state)
{
    enum { COUNT = 1000 };
    struct trm_comm *world = *state;
    const int size = world->size;
    bool ok = true;
    for (int form = 0; form < FORMS; form++) {
        struct trm_request *r = make_request(world, form);
        float *all = malloc((size_t)size * COUNT * sizeof *all), mine[COUNT];
        double sum[COUNT];
        for (int i = 0; i < size * COUNT; i++)
            all[i] = (float)(i + world->rank);
        for (int i = 0; i < COUNT; i++)
            sum[i] = i + world->rank;
        ok = !trm_comm_fastest_reduce_scatter(world, all, mine, COUNT, TRM_F32, r, NULL) && ok;
        ok = !trm_request_wait(r, NULL) && ok;
        ok = !trm_comm_fastest_all_reduce(world, sum, COUNT, TRM_F64, r, NULL) && ok;
        ok = !trm_request_wait(r, NULL) && ok;
        const int ranks_sum = size * (size - 1) / 2;
        for (int i = 0; i < COUNT; i++) {
            ok = ok && mine[i] == (float)(size * (world->rank * COUNT + i) + ranks_sum);
            ok = ok && sum[i] == size * i + ranks_sum;
        }
        free(all);
        trm_request_destroy(r);
    }
    assert_on_all_ranks(world, ok);
}

/* Odd and even ranks, in descending order; then a group of each rank alone. */
static void split_groups_by_color_and_orders_by_key(void **state)
{
    struct trm_comm *world = *state;
    struct trm_comm *half = NULL, *alone = NULL;
    bool ok = !trm_comm_split(world, world->rank % 2, -world->rank, &half, NULL);
    const int alike = (world->size + 1 - world->rank % 2) / 2;
    ok = ok && half->size == alike && half->rank == alike - 1 - world->rank / 2;
    int64_t sum = world->rank, expected = 0;
    for (int r = world->rank % 2; r < world->size; r += 2)
        expected += r;
    ok = ok && !trm_comm_all_reduce(half, &sum, 1, TRM_SUM_I64, NULL, NULL) && sum == expected;

    ok = !trm_comm_split(world, world->rank, 0, &alone, NULL) && ok;
    float lonely = -0.0f;
    ok = ok && alone->size == 1 && !trm_comm_all_reduce(alone, &lonely, 1, TRM_MAX_F32, NULL, NULL);
    ok = ok && try_all_gather(alone, NULL, 100, true);
    trm_comm_destroy(alone);
    trm_comm_destroy(half);
    assert_on_all_ranks(world, ok);
}

/* A message too long for its place is an error in words: no abort, and no hang, whether it arrives
 * before the receive is posted or after. */
static void a_truncated_message_is_an_error(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int early = 0; early < 2; early++) {
        struct trm_comm *pair = NULL;
        struct trm_error err = {0};
        char data[64] = {0};
        ok = !trm_comm_split(world, world->rank < 2 ? 0 : 1, 0, &pair, NULL) && ok;
        if (world->size > 1 && world->rank == early) {
            struct trm_message send = {1 - early, data, 64};
            usleep(early ? 0 : 50000);
            ok = ok && !trm_comm_exchange(pair, &send, 1, NULL, 0, NULL, &err);
        } else if (world->size > 1 && world->rank == 1 - early) {
            struct trm_message receive = {early, data, 16};
            usleep(early ? 50000 : 0);
            enum trm_status status = trm_comm_exchange(pair, NULL, 0, &receive, 1, NULL, &err);
            ok = ok && status == TRM_ERR_COMM && strstr(err.text, "truncate");
        }
        trm_comm_destroy(pair);
    }
    assert_on_all_ranks(world, ok);
}

/* Address space of `bytes` that repeats the same `period` bytes of memory, so that a test of more
 * than 2 GiB needs little. Both are multiples of the page size. */
static unsigned char *map_repeated(size_t bytes, size_t period)
{
    int fd = memfd_create("trireme-test", 0);
    if (fd < 0 || ftruncate(fd, (off_t)period))
        abort();
    unsigned char *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; base != MAP_FAILED && at < bytes; at += period) {
        size_t part = bytes - at < period ? bytes - at : period;
        if (mmap(base + at, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED)
            abort();
    }
    close(fd);
    return base;
}

/* 2 GiB and a bit, by exchange and by broadcast. Were the length cut to 31 or 32 bits, most of the
 * period would not arrive. */
static void messages_over_2_gib_arrive_whole(void **state)
{
    struct trm_comm *world = *state;
    const size_t period = 16 << 20, mapped = ((size_t)2 << 30) + ((size_t)5 << 20);
    const size_t bytes = mapped - 4093;
    bool ok = true;
    if (world->size == 2) {
        unsigned char *data = map_repeated(mapped, period);
        for (int form = 0; form < FORMS; form++) {
            if (world->rank == 0)
                fill_marks(data, period, form, 5);
            else
                memset(data, 0, period);
            struct trm_message message = {1 - world->rank, data, bytes};
            if (form == 1)
                ok = !trm_comm_broadcast(world, data, bytes, 0, NULL, NULL) && ok;
            else
                ok = !trm_comm_exchange(world, &message, world->rank == 0, &message,
                                        world->rank == 1, NULL, NULL) &&
                     ok;
            ok = ok && is_marked(data, period, form, 5);
        }
        munmap(data, mapped);
    }
    assert_on_all_ranks(world, ok);
}

static void an_operation_is_done_once_its_peer_did_its_part(void **state)
{
    struct trm_comm *world = *state;
    struct trm_request *r = NULL;
    int last = world->size - 1, value = 0;
    bool ok = !trm_request_create(world, 1, &r, NULL), done = false;
    struct trm_message receive = {last, &value, sizeof value};
    ok = ok && !trm_request_done(r, &done, NULL) && done; /* nothing is under way */
    if (world->rank == 0 && last > 0)
        ok = ok && !trm_comm_exchange(world, NULL, 0, &receive, 1, r, NULL) &&
             !trm_request_done(r, &done, NULL) && !done;
    trm_comm_barrier(world, NULL, NULL);
    if (world->rank != 0) {
        value = 4711;
        struct trm_message send = {0, &value, sizeof value};
        ok = ok && !trm_comm_exchange(world, &send, world->rank == last, NULL, 0, NULL, NULL);
    }
    if (world->rank == 0 && last > 0) {
        do
            ok = ok && !trm_request_done(r, &done, NULL);
        while (ok && !done);
        ok = ok && !trm_request_wait(r, NULL) && value == 4711;
    }
    trm_request_destroy(r);
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(world_knows_its_ranks_and_those_of_the_node),
        cmocka_unit_test(barrier_holds_everyone),
        cmocka_unit_test(broadcast_brings_the_roots_bytes_to_all),
        cmocka_unit_test(all_gather_orders_blocks_by_rank_in_place_too),
        cmocka_unit_test(all_to_all_sends_block_i_to_rank_i),
        cmocka_unit_test(exchange_matches_messages_in_the_order_listed),
        cmocka_unit_test(exchange_may_have_no_message_for_some_ranks),
        cmocka_unit_test(an_operation_is_done_once_its_peer_did_its_part),
        cmocka_unit_test(operations_on_several_requests_overlap),
        cmocka_unit_test(integer_reductions_are_exact),
        cmocka_unit_test(float_maxima_do_not_depend_on_the_order),
        cmocka_unit_test(fastest_sums_add),
        cmocka_unit_test(split_groups_by_color_and_orders_by_key),
        cmocka_unit_test(a_truncated_message_is_an_error),
        cmocka_unit_test(messages_over_2_gib_arrive_whole),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
