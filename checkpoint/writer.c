#include "checkpoint/writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct trm_writer {
    pthread_t thread;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t wake, finished;
    struct trm_task *first, *last;
    bool stop;
};

/* The next task, taken off the queue; NULL when the writer is to end. */
static struct trm_task *next_task(struct trm_writer *writer)
{
    pthread_mutex_lock(&writer->mutex);
    while (writer->first == NULL && !writer->stop)
        pthread_cond_wait(&writer->wake, &writer->mutex);
    struct trm_task *task = writer->stop ? NULL : writer->first;
    if (task != NULL)
        writer->first = task->next;
    pthread_mutex_unlock(&writer->mutex);
    return task;
}

static void *thread_main(void *context)
{
    struct trm_writer *writer = context;
    struct trm_task *task;
    while ((task = next_task(writer)) != NULL) {
        task->status = task->run(task->context, &task->error);
        pthread_mutex_lock(&writer->mutex);
        atomic_store_explicit(&task->done, true, memory_order_release);
        pthread_cond_signal(&writer->finished);
        pthread_mutex_unlock(&writer->mutex);
    }
    return NULL;
}

enum trm_status trm_writer_create(struct trm_writer **out, struct trm_error *err)
{
    sigset_t all, before;
    struct trm_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the thread that saves");
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->wake, NULL);
    pthread_cond_init(&writer->finished, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int reason = pthread_create(&writer->thread, NULL, thread_main, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (reason != 0) {
        pthread_cond_destroy(&writer->finished);
        pthread_cond_destroy(&writer->wake);
        pthread_mutex_destroy(&writer->mutex);
        free(writer);
        return trm_error_set_errno(err, reason, "could not start the thread that saves");
    }
    *out = writer;
    return TRM_OK;
}

void trm_writer_destroy(struct trm_writer *writer)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->mutex);
    writer->stop = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->mutex);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->finished);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}

void trm_writer_submit(struct trm_writer *writer, struct trm_task *task)
{
    task->next = NULL;
    atomic_store_explicit(&task->done, false, memory_order_relaxed);
    pthread_mutex_lock(&writer->mutex);
    if (writer->first == NULL)
        writer->first = task;
    else
        writer->last->next = task;
    writer->last = task;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->mutex);
}

bool trm_task_done(const struct trm_task *task)
{
    return atomic_load_explicit(&task->done, memory_order_acquire);
}

enum trm_status trm_writer_wait(struct trm_writer *writer, const struct trm_task *task)
{
    pthread_mutex_lock(&writer->mutex);
    while (!trm_task_done(task))
        pthread_cond_wait(&writer->finished, &writer->mutex);
    pthread_mutex_unlock(&writer->mutex);
    return task->status;
}
