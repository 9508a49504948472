#include "tests/fake/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CUstream_st {
    struct fake_task *head, **tail;
    struct CUstream_st *next;
};

/* An event is complete when its newest record is. */
struct CUevent_st {
    long recorded, completed;
    double at_ms; /* when it completed */
    int holders;  /* its owner, and tasks */
};

static struct CUstream_st *streams;
static uint64_t random_state = 88172645463325252u;
static void (*beside)(void);
static cudaError_t fault = cudaSuccess;
static double clock_ms;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

void fake_spend(double ms)
{
    clock_ms += ms;
}

void fake_seed(uint64_t seed)
{
    random_state = (seed + 1) * 0x9e3779b97f4a7c15u;
}

void fake_beside(void (*hook)(void))
{
    beside = hook;
}

void fake_fault(cudaError_t code)
{
    fault = code;
}

/* What a device would do with it can't be told: the test is wrong, or what it tests. */
static void refuse(const char *what)
{
    fprintf(stderr, "fake device: %s\n", what);
    abort();
}

void fake_put(cudaStream_t stream, struct fake_task *task)
{
    if (!stream)
        refuse("work on the legacy default stream");
    task->next = NULL;
    *stream->tail = task;
    stream->tail = &task->next;
}

static void run_next(struct CUstream_st *stream)
{
    struct fake_task *task = stream->head;
    if (!task || !task->poll(task))
        return;
    stream->head = task->next;
    if (!stream->head)
        stream->tail = &stream->head;
    task->drop(task);
}

void fake_progress(void)
{
    int count = 0;
    if (beside)
        beside();
    for (struct CUstream_st *s = streams; s; s = s->next)
        count++;
    for (int turn = 0; turn < count; turn++) {
        struct CUstream_st *s = streams;
        for (uint64_t skip = random_bits() % (uint64_t)count; skip > 0; skip--)
            s = s->next;
        run_next(s);
    }
}

static bool is_idle(void)
{
    for (const struct CUstream_st *s = streams; s; s = s->next)
        if (s->head)
            return false;
    return true;
}

void fake_drain(void)
{
    while (!is_idle())
        fake_progress();
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    struct CUstream_st *made = calloc(1, sizeof *made);
    (void)priority;
    if (!made || flags != cudaStreamNonBlocking)
        refuse("a stream that blocks with the legacy default stream");
    made->tail = &made->head;
    made->next = streams;
    streams = made;
    *stream = made;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    struct CUstream_st **link = &streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    while (stream->head) {
        struct fake_task *task = stream->head;
        stream->head = task->next;
        task->drop(task);
    }
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    fake_progress();
    if (fault != cudaSuccess)
        return fault;
    return stream->head ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t code;
    while ((code = cudaStreamQuery(stream)) == cudaErrorNotReady)
        continue;
    return code;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    struct CUevent_st *made = calloc(1, sizeof *made);
    if (!made)
        refuse("no memory for an event");
    made->holders = 1;
    *event = made;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    if (flags != cudaEventDisableTiming)
        refuse("an event that takes the time");
    return cudaEventCreate(event);
}

static void release(struct CUevent_st *event)
{
    if (--event->holders == 0)
        free(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    release(event);
    return cudaSuccess;
}

struct event_task {
    struct fake_task head;
    struct CUevent_st *event;
    long number; /* of the record */
};

static bool complete_record(struct fake_task *task)
{
    struct event_task *t = (struct event_task *)task;
    t->event->completed = t->number;
    t->event->at_ms = clock_ms;
    return true;
}

static bool is_recorded(struct fake_task *task)
{
    struct event_task *t = (struct event_task *)task;
    return t->event->completed >= t->number;
}

static void drop_event_task(struct fake_task *task)
{
    release(((struct event_task *)task)->event);
    free(task);
}

static void put_event_task(cudaStream_t stream, cudaEvent_t event, bool (*poll)(struct fake_task *))
{
    struct event_task *task = malloc(sizeof *task);
    *task = (struct event_task){{.poll = poll, .drop = drop_event_task}, event, event->recorded};
    event->holders++;
    fake_put(stream, &task->head);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->recorded++;
    put_event_task(stream, event, complete_record);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    if (flags != 0)
        refuse("a wait with flags");
    put_event_task(stream, event, is_recorded);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    fake_progress();
    if (fault != cudaSuccess)
        return fault;
    return event->completed >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t code;
    while ((code = cudaEventQuery(event)) == cudaErrorNotReady)
        continue;
    return code;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    if (begin->completed < begin->recorded || end->completed < end->recorded)
        return cudaErrorNotReady;
    *ms = (float)(end->at_ms - begin->at_ms);
    return cudaSuccess;
}

struct launch_task {
    struct fake_task head;
    void (*run)(const void *argument);
    max_align_t argument[];
};

static bool run_launch(struct fake_task *task)
{
    struct launch_task *t = (struct launch_task *)task;
    t->run(t->argument);
    return true;
}

static void drop_launch(struct fake_task *task)
{
    free(task);
}

void fake_launch(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                 size_t bytes)
{
    struct launch_task *task = malloc(sizeof *task + bytes);
    *task = (struct launch_task){.head = {.poll = run_launch, .drop = drop_launch}, .run = run};
    memcpy(task->argument, argument, bytes);
    fake_put(stream, &task->head);
}

struct copy {
    void *to;
    const void *from;
    size_t bytes;
    int value;
};

static void run_copy(const void *argument)
{
    const struct copy *c = argument;
    memcpy(c->to, c->from, c->bytes);
}

static void run_set(const void *argument)
{
    const struct copy *c = argument;
    memset(c->to, c->value, c->bytes);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const struct copy copy = {.to = to, .from = from, .bytes = bytes};
    (void)kind;
    fake_launch(stream, run_copy, &copy, sizeof copy);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const struct copy copy = {.to = to, .bytes = bytes, .value = value};
    fake_launch(stream, run_set, &copy, sizeof copy);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t code)
{
    return code == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
                                           : "another error of the fake device";
}
