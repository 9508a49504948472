/*
 * What happened to a run: a line of JSON each in RUN_DIR/events.jsonl, a sentence each for people,
 * and the operator's hook.
 *
 * The file is appended to by libuv's threads, in order, so that a slow file system holds up
 * nothing; destroying waits for what is queued, at most 4,096 lines. Those that found no room, or
 * that the file system did not take, are counted, and told of once lines can be written again. A
 * line that was written in part alone is ended, so that the next begins on its own. The hook
 * (`recovery.on_event`) is a shell command that gets the same line on standard input; it runs
 * beside everything else, a few at a time, and what it returns is not looked at.
 */
#ifndef TRM_LAUNCH_SUPERVISOR_EVENTS_H
#define TRM_LAUNCH_SUPERVISOR_EVENTS_H

#include <uv.h>

#include "base/log.h"
#include "base/status.h"

enum trm_event_kind {
    TRM_HAPPENED_BEGIN,     /* a supervisor has begun */
    TRM_HAPPENED_ATTEMPT,   /* an attempt is started, on which nodes */
    TRM_HAPPENED_STEPPING,  /* every rank of it made a step: recovered */
    TRM_HAPPENED_FAULT,     /* what broke, who, where */
    TRM_HAPPENED_HANG,      /* no progress: the verdict */
    TRM_HAPPENED_STRAGGLER, /* a rank that stands out */
    TRM_HAPPENED_WAITING,   /* ranks wait for storage */
    TRM_HAPPENED_NODE,      /* a node came, went, failed its check, was left out */
    TRM_HAPPENED_STRANGER,  /* somebody else talked to the supervisor */
    TRM_HAPPENED_STOP,      /* a stop was asked for */
    TRM_HAPPENED_END,       /* the run is over for this supervisor */
    TRM_HAPPENED_KIND_COUNT
};

/* What is not known is left as trm_event_init made it, and is not written. */
struct trm_event {
    enum trm_event_kind kind;
    int64_t attempt; /* 0: none */
    int rank, ranks, signal;
    int exit_code;
    int64_t step, steps_lost;
    const char *node, *cause, *phase, *source, *nodes;
    /* Seconds: from the first sign to the decision; to the proof that nothing is left; from there
     * to the start of mpirun; from that to all ranks being up; reading state back; from the
     * decision to the next step that is done. */
    double detection_s, fence_s, check_s, start_s, restore_s, recovery_s;
};

struct trm_event trm_event_init(enum trm_event_kind kind);

struct trm_events;

/* Opens RUN_DIR/events.jsonl for appending; borrows loop and log. `hook` may be empty; copied; what
 * it prints goes to `hook_output`. *out is returned owned. */
enum trm_status trm_events_open(uv_loop_t *loop, const struct trm_log *log, int hook_output,
                                const char *run_dir, const char *hook, struct trm_events **out,
                                struct trm_error *err);

/* Writes one down, and says `sentence` (formatted) to people at `level`. */
void trm_events_add(struct trm_events *events, const struct trm_event *event,
                    enum trm_log_level level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Not from a callback of the loop, which it runs: writes what is still queued, and leaves hooks
 * that go on to themselves. Takes NULL. */
void trm_events_close(struct trm_events *events);

#endif
