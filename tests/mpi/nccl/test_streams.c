/* Operations and the caller's stream: the order that is promised holds in every order in which the
 * device may run its streams. */
#include "device_world.h"

#include <string.h>

#define COUNT 1000

/* What a computation on the caller's stream does: to[i] = from[i] + add, without `from` i + add. */
struct computation {
    float *to;
    const float *from;
    float add;
};

static void compute(const void *argument)
{
    const struct computation *c = argument;
    for (int i = 0; i < COUNT; i++)
        c->to[i] = (c->from ? c->from[i] : (float)i) + c->add;
}

static void put(cudaStream_t stream, float *to, const float *from, float add)
{
    const struct computation c = {to, from, add};
    fake_launch(stream, compute, &c, sizeof c);
}

/* A task that holds up its stream until the host lets it go. */
struct gate {
    struct fake_task head;
    bool *open;
};

static bool is_open(struct fake_task *task)
{
    return *((struct gate *)task)->open;
}

static void drop_gate(struct fake_task *task)
{
    free(task);
}

static void put_gate(cudaStream_t stream, bool *open)
{
    struct gate *gate = malloc(sizeof *gate);
    *gate = (struct gate){{.poll = is_open, .drop = drop_gate}, open};
    fake_put(stream, &gate->head);
}

struct buffers {
    float *mine, *all, *result;
    struct trm_request *r;
};

static struct buffers begin(struct trm_comm *comm)
{
    size_t size = (size_t)comm->size;
    struct buffers b = {.mine = calloc(COUNT, sizeof(float)),
                        .all = calloc(size * COUNT, sizeof(float)),
                        .result = calloc(size * COUNT, sizeof(float))};
    if (trm_request_create(comm, 4 * comm->size, &b.r, NULL))
        abort();
    return b;
}

static void end(struct buffers *b)
{
    trm_request_destroy(b->r);
    free(b->mine);
    free(b->all);
    free(b->result);
}

/* Block r of `all` is what rank r computed, plus `add`. */
static bool holds(const struct trm_comm *comm, const float *all, float add)
{
    for (int r = 0; r < comm->size; r++)
        for (int i = 0; i < COUNT; i++)
            if (all[r * COUNT + i] != (float)(i + r) + add)
                return false;
    return true;
}

/* Compute, gather, and compute with what was gathered; the host only looks at the end. */
static void operations_lie_between_the_computations_around_them(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *comm = world->device;
    bool ok = true;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct buffers b = begin(comm);
        fake_seed(seed * 100 + (uint64_t)comm->rank);
        for (int repeat = 0; repeat < 3; repeat++) {
            put(world->stream, b.mine, NULL, (float)(comm->rank + repeat));
            ok = !trm_comm_all_gather(comm, b.mine, b.all, COUNT * sizeof(float), b.r, NULL) && ok;
            ok = !trm_request_wait_stream(b.r, NULL) && ok;
            for (int r = 0; r < comm->size; r++)
                put(world->stream, b.result + r * COUNT, b.all + r * COUNT, 7);
            put(world->stream, b.mine, NULL, -1); /* what is sent may be written again */
        }
        ok = cudaStreamSynchronize(world->stream) == cudaSuccess && ok;
        ok = holds(comm, b.result, 9) && ok;
        end(&b);
    }
    assert_on_all_ranks(world->host, ok);
}

static void starting_returns_before_the_caller_has_computed(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *comm = world->device;
    struct buffers b = begin(comm);
    bool open = false;
    put_gate(world->stream, &open);
    put(world->stream, b.mine, NULL, (float)comm->rank);
    bool ok = !trm_comm_all_gather(comm, b.mine, b.all, COUNT * sizeof(float), b.r, NULL);
    for (int i = 0; i < 1000; i++)
        fake_progress();
    ok = ok && b.all[COUNT - 1] == 0;
    open = true;
    ok = !trm_request_wait(b.r, NULL) && ok && holds(comm, b.all, 0);
    end(&b);
    assert_on_all_ranks(world->host, ok);
}

static void a_detached_request_leaves_the_caller_aside(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *comm = world->device;
    struct buffers b = begin(comm);
    bool open = false;
    put_gate(world->stream, &open);
    for (int i = 0; i < COUNT; i++)
        b.mine[i] = (float)(i + comm->rank);
    trm_request_detach(b.r);
    bool ok = !trm_comm_all_gather(comm, b.mine, b.all, COUNT * sizeof(float), b.r, NULL);
    ok = !trm_request_wait(b.r, NULL) && ok && holds(comm, b.all, 0);
    open = true;
    ok = cudaStreamSynchronize(world->stream) == cudaSuccess && ok;
    end(&b);
    assert_on_all_ranks(world->host, ok);
}

/* Gather, add into the first block, and gather that: one after the other without the host. */
static void the_communicator_waits_for_itself(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *comm = world->device;
    const struct trm_lane_add adds[] = {{0, 1}, {0, 2}, {0, 3}};
    bool ok = true;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct buffers b = begin(comm);
        void *operands[4] = {b.all, b.all + COUNT, b.all + 2 * COUNT, b.all + 3 * COUNT};
        fake_seed(seed);
        put(world->stream, b.mine, NULL, (float)comm->rank);
        ok = !trm_comm_all_gather(comm, b.mine, b.all, COUNT * sizeof(float), b.r, NULL) && ok;
        ok = !trm_request_wait_comm(b.r, NULL) && ok;
        ok = !trm_comm_sum(comm, operands, adds, comm->size - 1, b.mine, COUNT, TRM_F32, b.r,
                           NULL) &&
             ok;
        ok = !trm_request_wait_comm(b.r, NULL) && ok;
        ok = !trm_comm_all_gather(comm, b.mine, b.result, COUNT * sizeof(float), b.r, NULL) && ok;
        ok = !trm_request_wait_comm(b.r, NULL) && ok;
        ok = !trm_comm_settle(comm, NULL) && ok;
        for (int i = 0; i < comm->size * COUNT; i++)
            ok = ok && b.result[i] ==
                           (float)(comm->size * (i % COUNT) + comm->size * (comm->size - 1) / 2);
        end(&b);
    }
    assert_on_all_ranks(world->host, ok);
}

static void settling_waits_for_what_only_the_stream_waits_for(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *comm = world->device;
    struct buffers b = begin(comm);
    put(world->stream, b.mine, NULL, (float)comm->rank);
    bool ok = !trm_comm_all_gather(comm, b.mine, b.all, COUNT * sizeof(float), b.r, NULL);
    ok = !trm_request_wait_stream(b.r, NULL) && ok;
    ok = !trm_comm_settle(comm, NULL) && ok && holds(comm, b.all, 0);
    ok = !trm_comm_settle(comm, NULL) && ok; /* nothing is left: at once */
    end(&b);
    assert_on_all_ranks(world->host, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_lie_between_the_computations_around_them),
        cmocka_unit_test(starting_returns_before_the_caller_has_computed),
        cmocka_unit_test(a_detached_request_leaves_the_caller_aside),
        cmocka_unit_test(the_communicator_waits_for_itself),
        cmocka_unit_test(settling_waits_for_what_only_the_stream_waits_for),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
