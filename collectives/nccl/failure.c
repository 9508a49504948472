/* Errors, deadlines, and the abort that follows. */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "collectives/nccl/internal.h"

#define EAGER_TURNS 2000  /* of a wait: most operations are short */
#define PAUSE_NS    20000 /* from then on */
#define DRAIN_MS    10000 /* for kernels to see that they are aborted */

/* NCCL keeps the words of its last error per process; empty when there was none. */
static const char *last_words(ncclComm_t handle)
{
    const char *words = ncclGetLastError(handle);
    return words ? words : "";
}

/* Aborting returns before the kernels have: their buffers are the caller's to free after this. */
static void drain(struct nccl_family *family)
{
    int64_t deadline_ns = trm_clock_deadline_ns(DRAIN_MS);
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    for (struct nccl_state *s = family->members; s; s = s->next)
        while (s->stream && cudaStreamQuery(s->stream) == cudaErrorNotReady &&
               !trm_clock_passed(deadline_ns))
            nanosleep(&pause, NULL);
}

/* One group for all: aborting them one after the other can wait for a kernel of the next. False
 * when there is none. */
static bool abort_group(struct nccl_family *family)
{
    bool any = false;

    ncclGroupStart();
    for (struct nccl_state *s = family->members; s; s = s->next) {
        ncclComm_t handle = __atomic_load_n(&s->handle, __ATOMIC_ACQUIRE);
        if (!handle)
            continue;
        ncclCommAbort(handle);
        s->handle = NULL;
        any = true;
    }
    ncclGroupEnd();
    return any;
}

/* Aborting a communicator that is being split ends the split, and NCCL's thread writes the child's
 * handle at the end of a split that fails, too: what has one only now is in the next group. */
void trm_nccl_abort_all(struct nccl_family *family)
{
    while (abort_group(family))
        continue;
    drain(family);
}

enum trm_status trm_nccl_sound(const struct nccl_family *family, struct trm_error *err)
{
    if (family->failure.status != TRM_OK && err)
        *err = family->failure;
    return family->failure.status;
}

enum trm_status trm_nccl_fail(struct nccl_family *family, struct trm_error *err,
                              enum trm_status status, const char *format, ...)
{
    if (family->failure.status == TRM_OK) {
        char text[TRM_ERROR_TEXT_BYTES];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        trm_error_set(&family->failure, status, "%s", text);
        if (family->settings.failed_fn)
            family->settings.failed_fn(family->settings.failed_context, status, text);
        trm_nccl_abort_all(family);
    }
    return trm_nccl_sound(family, err);
}

enum trm_status trm_nccl_check(struct nccl_family *family, ncclResult_t code, const char *what,
                               struct trm_error *err)
{
    if (code == ncclSuccess || code == ncclInProgress)
        return TRM_OK;
    const char *words = last_words(NULL);
    return trm_nccl_fail(family, err, TRM_ERR_COMM, "%s failed: NCCL says: %s%s%s", what,
                         ncclGetErrorString(code), *words ? ": " : "", words);
}

enum trm_status trm_nccl_check_cuda(struct nccl_family *family, cudaError_t code, const char *what,
                                    struct trm_error *err)
{
    if (code == cudaSuccess)
        return TRM_OK;
    return trm_nccl_fail(family, err, TRM_ERR_COMM, "%s failed: CUDA says: %s", what,
                         cudaGetErrorString(code));
}

/* The state of one communicator; *in_progress where the last call on it is still under way. */
static enum trm_status look(struct nccl_state *state, bool *in_progress, struct trm_error *err)
{
    ncclResult_t now = ncclSuccess;
    ncclResult_t code = ncclCommGetAsyncError(state->handle, &now);

    *in_progress = now == ncclInProgress;
    return trm_nccl_check(state->family, code == ncclSuccess ? now : code,
                          "communication between devices", err);
}

enum trm_status trm_nccl_poll(struct nccl_family *family, struct trm_error *err)
{
    enum trm_status status = trm_nccl_sound(family, err);
    bool in_progress;

    for (struct nccl_state *s = family->members; s && status == TRM_OK; s = s->next)
        if (s->handle)
            status = look(s, &in_progress, err);
    return status;
}

enum trm_status trm_nccl_pause(struct nccl_state *state, int64_t deadline_ns, const char *what,
                               int turns, struct trm_error *err)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    if (trm_clock_passed(deadline_ns))
        return trm_nccl_fail(state->family, err, TRM_ERR_TIMEOUT,
                             "%s over %d devices did not complete in time: a rank is gone, stuck, "
                             "or did not start it",
                             what, state->host->size);
    if (turns < EAGER_TURNS)
        sched_yield();
    else
        nanosleep(&pause, NULL);
    return TRM_OK;
}

enum trm_status trm_nccl_await(struct nccl_state *state, int64_t deadline_ns, const char *what,
                               struct trm_error *err)
{
    bool in_progress = state->handle != NULL;
    enum trm_status status = trm_nccl_sound(state->family, err);

    for (int turns = 0; in_progress && status == TRM_OK; turns++) {
        status = look(state, &in_progress, err);
        if (status == TRM_OK && in_progress)
            status = trm_nccl_pause(state, deadline_ns, what, turns, err);
    }
    return status;
}
