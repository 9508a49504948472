/*
 * A thread that does slow file work, so that nothing else waits for a disk: the writer of a rank
 * that saves, and the reader ahead of one that loads.
 *
 * Tasks run one after the other, in the order in which they were submitted. The thread calls
 * neither MPI nor HDF5 and takes no signals. Between submitting a task and seeing it done its
 * context belongs to the thread; afterwards everything the task wrote is visible to the caller. One
 * thread (the main one) makes all calls below. A task that fails says so in its own status; the
 * writer goes on.
 */
#ifndef TRM_CHECKPOINT_WRITER_H
#define TRM_CHECKPOINT_WRITER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/status.h"

struct trm_writer;

/* Owned by the caller; stays in place until it is done. `run` and `context` are the caller's to
 * set, the rest is the writer's. */
struct trm_task {
    enum trm_status (*run)(void *context, struct trm_error *err);
    void *context;
    struct trm_task *next;
    enum trm_status status; /* once done */
    struct trm_error error;
    atomic_bool done;
};

/* Starts the thread. *out is returned owned. */
enum trm_status trm_writer_create(struct trm_writer **out, struct trm_error *err);

/* Waits for the task at hand and leaves those behind it undone. Takes NULL. */
void trm_writer_destroy(struct trm_writer *writer);

/* Returns at once. */
void trm_writer_submit(struct trm_writer *writer, struct trm_task *task);

/* One atomic load. */
bool trm_task_done(const struct trm_task *task);

/* Waits until a task that was submitted is done; returns its status. */
enum trm_status trm_writer_wait(struct trm_writer *writer, const struct trm_task *task);

#endif
