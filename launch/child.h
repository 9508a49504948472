/*
 * A child process on a loop: started without waiting for its program to be loaded (it may lie on a
 * file system that hangs), watched by its pidfd, its output caught, bounded. It is a session of its
 * own, and ends with all that it started. One thread.
 */
#ifndef TRM_LAUNCH_CHILD_H
#define TRM_LAUNCH_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "base/status.h"

#define TRM_CHILD_OUT_BYTES 8192
#define TRM_CHILD_ERR_BYTES 2048

struct trm_child;

struct trm_child_stream {
    struct trm_child *child;
    int fd; /* -1: closed */
    uv_poll_t poll;
    char *text;
    size_t capacity, length; /* the text's, with room for a NUL */
};

struct trm_child {
    pid_t pid; /* 0: not started, or over */
    int pidfd;
    uv_poll_t death;
    struct trm_child_stream out, err;
    char out_text[TRM_CHILD_OUT_BYTES], err_text[TRM_CHILD_ERR_BYTES]; /* the beginning of each */
    int status; /* as waitpid tells it, once it is over */
    void (*on_end)(struct trm_child *child, void *context); /* may be called from the loop, once */
    void (*on_closed)(void *context); /* for each of the three handles: it is not used any more */
    void *context;
};

#define TRM_CHILD_HANDLES 3

/* Starts arguments[0], found by PATH, with standard input empty. `arguments` ends in NULL. On
 * success three handles are on the loop. */
enum trm_status trm_child_start(uv_loop_t *loop, char *const *arguments, struct trm_child *child,
                                struct trm_error *err);

/* SIGKILL to it and what it started. */
void trm_child_kill(struct trm_child *child);

/* Kills it and goes on waiting for its end, without keeping the loop alive for that. */
void trm_child_abandon(struct trm_child *child);

/* Closes its handles, which on_closed tells; kills it first if it still runs. */
void trm_child_close(struct trm_child *child);

#endif
