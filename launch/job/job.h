/*
 * What starts the ranks of an attempt, mpirun or srun, as a process of this one: its words, line by
 * line, and its end.
 *
 * It leads a process group of its own, which is killed with it: it starts remote shells that would
 * go on for as long as their node does not answer. It ends with this process, whatever ends that
 * (`trireme tether`). Children of it may hold its standard error for longer than it lives, so that
 * stream may end late or never; a job that was closed is not held up by it.
 *
 * Not blocking; one thread, the loop's. Memory: one line and a read buffer, 10 KiB.
 */
#ifndef TRM_LAUNCH_JOB_JOB_H
#define TRM_LAUNCH_JOB_JOB_H

#include <stdint.h>
#include <uv.h>

#include "base/status.h"
#include "launch/job/mpirun.h"

struct trm_job;

struct trm_job_events {
    /* A line of its standard error, without its end; one that is too long comes in pieces. */
    void (*on_line)(const char *line, void *context);
    /* Once. `term_signal` 0: it exited with `exit_status`. Lines may still come. */
    void (*on_end)(int64_t exit_status, int term_signal, void *context);
};

/* Starts `words`, whose first is the path of a program; its standard output is `output_fd`. *job is
 * returned owned. TRM_ERR_IO with the reason, and nothing is left. */
enum trm_status trm_job_start(uv_loop_t *loop, const struct trm_words *words, int output_fd,
                              const struct trm_job_events *events, void *context,
                              struct trm_job **job, struct trm_error *err);

/* SIGKILL to it and its group, unless it has ended. */
void trm_job_kill(struct trm_job *job);

/* Gives it up: kills it, and calls back no more; the loop frees it, and does not wait for a process
 * that does not end. NULL is fine. */
void trm_job_close(struct trm_job *job);

#endif
