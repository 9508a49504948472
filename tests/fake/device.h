/*
 * A device that isn't one, for tests on machines without a GPU: the few functions of the CUDA
 * runtime that the orchestration calls, over host memory. It computes nothing faster than the host
 * and proves nothing about kernels, drivers or speed; what it shows is that streams, events and
 * waits are used so that the results are right in whatever order a device runs them.
 *
 * "Device memory" is host memory. A stream is a queue of tasks; they run when the host asks for
 * progress (a query or a synchronisation, never a call that only puts work on a stream), a task at
 * a time, from streams in pseudo-random order. So work that isn't ordered by an event does run in a
 * wrong order under some seed, and a result that is read without waiting isn't there yet. One
 * thread.
 */
#ifndef TRM_TESTS_FAKE_DEVICE_H
#define TRM_TESTS_FAKE_DEVICE_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Work on a stream. `poll` is called when everything before it on its stream is done, until it says
 * true; `drop` then, or when the stream ends, frees the task. */
struct fake_task {
    struct fake_task *next;
    bool (*poll)(struct fake_task *task);
    void (*drop)(struct fake_task *task);
};

/* Takes the task. */
void fake_put(cudaStream_t stream, struct fake_task *task);

/* A kernel: run(argument) with a copy of `bytes` at `argument`, in its turn. */
void fake_launch(cudaStream_t stream, void (*run)(const void *argument), const void *argument,
                 size_t bytes);

/* Lets every stream that is ready run its next task, in the order of the seed. */
void fake_progress(void);

/* Until no stream has work left. */
void fake_drain(void);

/* Another order from now on. */
void fake_seed(uint64_t seed);

/* Called on each progress: what else goes on beside the streams. */
void fake_beside(void (*hook)(void));

/* The device's clock goes on by so much; events take its time when they complete. */
void fake_spend(double ms);

/* Every query and synchronisation says `code` from now on, as after a fault on a device;
 * cudaSuccess ends that. */
void fake_fault(cudaError_t code);

#endif
