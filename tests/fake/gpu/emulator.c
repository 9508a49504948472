/* Fibers, and the warps and blocks that wait in them. */
#include "tests/fake/gpu/emulator.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/gpu/fiber.h"

#define MAX_THREADS 1024
#define MAX_COPIES  256
#define MAX_ALLOWED 64
#define BLOCK_BYTES (48 * 1024) /* of shared memory, where nothing was allowed */

enum { INVALID_VALUE = 1 }; /* cudaErrorInvalidValue */

enum wait { READY, AT_BARRIER, IN_EXCHANGE, ENDED };

struct copy {
    void *to;
    const void *from;
    int is_zero, group;
};

struct thread {
    struct fiber *fiber;
    enum wait wait;
    unsigned exchanges;
    struct copy copies[MAX_COPIES];
    int copy_count, group;
};

struct warp {
    struct fake_gpu_deposit deposits[2][FAKE_GPU_WARP]; /* of this exchange and the one before */
    const char *kind;
    int arrived;
};

static struct {
    struct thread threads[MAX_THREADS];
    struct warp warps[MAX_THREADS / FAKE_GPU_WARP];
    int count, alive, at_barrier, current;
    bool reversed, running;
    void *shared;
    void (*body)(void *context);
    void *context;
} gpu;

static struct {
    const void *kernel;
    size_t bytes;
} allowed[MAX_ALLOWED];
static int last_error;

struct fake_gpu_place fake_gpu_place;

static void fail(const char *what)
{
    const struct fake_gpu_dim t = fake_gpu_place.thread, b = fake_gpu_place.block;
    fprintf(stderr, "emulated GPU: %s (thread %u,%u,%u of block %u,%u,%u)\n", what, t.x, t.y, t.z,
            b.x, b.y, b.z);
    abort();
}

void fake_gpu_reverse(int reversed)
{
    gpu.reversed = reversed;
}

int fake_gpu_note(int code)
{
    last_error = code != 0 ? code : last_error;
    return code;
}

int fake_gpu_last_error(void)
{
    const int code = last_error;
    last_error = 0;
    return code;
}

void fake_gpu_allow_shared(const void *kernel, size_t bytes)
{
    int i = 0;
    while (i < MAX_ALLOWED && allowed[i].kernel != NULL && allowed[i].kernel != kernel)
        i++;
    if (i == MAX_ALLOWED)
        fail("more kernels than this emulation knows ask for shared memory");
    allowed[i].kernel = kernel;
    allowed[i].bytes = bytes;
}

int fake_gpu_check_shared(const void *kernel, size_t bytes)
{
    size_t most = BLOCK_BYTES;
    for (int i = 0; i < MAX_ALLOWED; i++)
        if (allowed[i].kernel == kernel && allowed[i].bytes > most)
            most = allowed[i].bytes;
    return bytes <= most ? 0 : fake_gpu_note(INVALID_VALUE);
}

void *fake_gpu_shared(void)
{
    if (gpu.shared == NULL)
        fail("dynamic shared memory is used, and the launch gave none");
    return gpu.shared;
}

static void open_barrier(void)
{
    for (int i = 0; i < gpu.count; i++)
        if (gpu.threads[i].wait == AT_BARRIER)
            gpu.threads[i].wait = READY;
    gpu.at_barrier = 0;
}

void fake_gpu_sync_block(void)
{
    gpu.at_barrier++;
    if (gpu.at_barrier == gpu.alive) {
        open_barrier();
        return;
    }
    gpu.threads[gpu.current].wait = AT_BARRIER;
    fiber_leave(gpu.threads[gpu.current].fiber);
}

int fake_gpu_lane(void)
{
    return gpu.current % FAKE_GPU_WARP;
}

const struct fake_gpu_deposit *fake_gpu_exchange(const char *kind, const void *data, size_t bytes)
{
    return fake_gpu_combine(kind, data, bytes, NULL);
}

const struct fake_gpu_deposit *fake_gpu_combine(const char *kind, const void *data, size_t bytes,
                                                fake_gpu_combine_fn combine)
{
    struct thread *thread = &gpu.threads[gpu.current];
    const int first = gpu.current / FAKE_GPU_WARP * FAKE_GPU_WARP;
    struct warp *warp = &gpu.warps[gpu.current / FAKE_GPU_WARP];
    struct fake_gpu_deposit *deposits = warp->deposits[thread->exchanges++ % 2];

    if (bytes > FAKE_GPU_DEPOSIT_BYTES)
        fail("an exchange is too large");
    if (warp->arrived > 0 && warp->kind != kind && strcmp(warp->kind, kind) != 0)
        fail("the lanes of a warp meet in different operations");
    warp->kind = kind;
    memcpy(&deposits[gpu.current - first], data, bytes);
    if (++warp->arrived < FAKE_GPU_WARP) {
        thread->wait = IN_EXCHANGE;
        fiber_leave(thread->fiber);
        return deposits;
    }
    warp->arrived = 0;
    if (combine != NULL)
        combine(deposits);
    for (int i = first; i < first + FAKE_GPU_WARP; i++)
        if (gpu.threads[i].wait == IN_EXCHANGE)
            gpu.threads[i].wait = READY;
    return deposits;
}

static void arrive(const struct copy *copy)
{
    if (copy->is_zero)
        memset(copy->to, 0, 16);
    else
        memcpy(copy->to, copy->from, 16);
}

void fake_gpu_copy_async(void *to, const void *from, int is_zero)
{
    struct thread *thread = &gpu.threads[gpu.current];
    if (thread->copy_count == MAX_COPIES)
        fail("too many asynchronous copies are under way");
    if ((uintptr_t)to % 16 != 0 || (!is_zero && (uintptr_t)from % 16 != 0))
        fail("an asynchronous copy is not aligned to 16 bytes");
    struct copy *copy = &thread->copies[thread->copy_count++];
    *copy = (struct copy){to, from, is_zero, thread->group};
    if (gpu.reversed)
        arrive(copy);
}

void fake_gpu_copy_commit(void)
{
    gpu.threads[gpu.current].group++;
}

void fake_gpu_copy_wait(int groups_left)
{
    struct thread *thread = &gpu.threads[gpu.current];
    int kept = 0;
    for (int i = 0; i < thread->copy_count; i++) {
        const struct copy copy = thread->copies[i];
        if (copy.group >= thread->group - groups_left)
            thread->copies[kept++] = copy;
        else
            arrive(&copy);
    }
    thread->copy_count = kept;
}

static void run_thread(void *context)
{
    (void)context;
    gpu.body(gpu.context);
    struct thread *thread = &gpu.threads[gpu.current];
    if (thread->copy_count > 0)
        fail("a thread ends before its asynchronous copies were waited for");
    thread->wait = ENDED;
    gpu.alive--;
    if (gpu.at_barrier > 0 && gpu.at_barrier == gpu.alive)
        open_barrier();
}

static void place_thread(int number)
{
    const struct fake_gpu_dim size = fake_gpu_place.block_size;
    const unsigned n = (unsigned)number;
    gpu.current = number;
    fake_gpu_place.thread =
        (struct fake_gpu_dim){n % size.x, n / size.x % size.y, n / size.x / size.y};
}

/* Runs a warp as far as it gets alone, so that it is as far ahead of others as barriers let it. */
static bool run_warp(int warp)
{
    bool moved = false, again = true;
    while (again) {
        again = false;
        for (int i = 0; i < FAKE_GPU_WARP; i++) {
            const int lane = gpu.reversed ? FAKE_GPU_WARP - 1 - i : i;
            const int number = warp * FAKE_GPU_WARP + lane;
            if (gpu.threads[number].wait != READY)
                continue;
            moved = again = true;
            place_thread(number);
            fiber_enter(gpu.threads[number].fiber);
        }
    }
    return moved;
}

static void run_block(size_t shared_bytes)
{
    /* An allocation of its own for each block, so that a sanitizer sees what is behind it. */
    gpu.shared = shared_bytes > 0 ? malloc(shared_bytes) : NULL;
    if (gpu.shared != NULL)
        memset(gpu.shared, 0xFF, shared_bytes);
    gpu.alive = gpu.count;
    gpu.at_barrier = 0;
    for (int i = 0; i < gpu.count; i++) {
        struct thread *thread = &gpu.threads[i];
        if (thread->fiber == NULL)
            thread->fiber = fiber_create();
        fiber_begin(thread->fiber, run_thread, NULL);
        thread->wait = READY;
        thread->exchanges = 0;
        thread->copy_count = thread->group = 0;
    }
    memset(gpu.warps, 0, sizeof(gpu.warps));
    const int warps = gpu.count / FAKE_GPU_WARP;
    while (gpu.alive > 0) {
        bool moved = false;
        for (int w = 0; w < warps; w++)
            moved |= run_warp(gpu.reversed ? warps - 1 - w : w);
        if (!moved)
            fail("some threads wait for others that wait elsewhere or have ended");
    }
    free(gpu.shared);
    gpu.shared = NULL;
}

void fake_gpu_launch(struct fake_gpu_dim grid, struct fake_gpu_dim block, size_t shared_bytes,
                     void (*body)(void *context), void *context)
{
    const size_t threads = (size_t)block.x * block.y * block.z;
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    fake_gpu_place = (struct fake_gpu_place){.block_size = block, .grid = grid};
    if (gpu.running)
        fail("a kernel is launched by a kernel");
    if (threads == 0 || threads > MAX_THREADS || threads % FAKE_GPU_WARP != 0)
        fail("a block has no whole number of warps, or over 1024 threads");
    if (blocks == 0 || grid.y > 65535 || grid.z > 65535)
        fail("the grid is empty, or y or z over 65535");
    gpu.running = true;
    gpu.count = (int)threads;
    gpu.body = body;
    gpu.context = context;
    for (size_t i = 0; i < blocks; i++) {
        const size_t n = gpu.reversed ? blocks - 1 - i : i;
        fake_gpu_place.block =
            (struct fake_gpu_dim){(unsigned)(n % grid.x), (unsigned)(n / grid.x % grid.y),
                                  (unsigned)(n / grid.x / grid.y)};
        run_block(shared_bytes);
    }
    gpu.running = false;
}
