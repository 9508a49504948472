/*
 * Lines for people on their way to an output that may not be read: a terminal that was stopped, a
 * pipe whose reader hangs. Whoever writes there stands still, and a supervisor that stands still
 * loses its nodes. So lines go into a pipe of its own, whose end for writing never blocks, and a
 * thread carries them on.
 *
 * What the pipe has no room for (1 MiB, where the system allows it) is lost and counted; the thread
 * tells how many lines are missing once the output takes lines again. The thread touches nothing
 * else, and blocks all signals.
 */
#ifndef TRM_LAUNCH_SUPERVISOR_LOG_RELAY_H
#define TRM_LAUNCH_SUPERVISOR_LOG_RELAY_H

#include "base/log.h"
#include "base/status.h"

struct trm_log_relay;

/* Lines of *log will go to `output` (not owned) by way of the relay, until it is closed: sets its
 * fd and lost. *relay is returned owned. */
enum trm_status trm_log_relay_open(int output, struct trm_log *log, struct trm_log_relay **relay,
                                   struct trm_error *err);

/* Waits until all lines are written, or for `limit_ms` of an output that takes none; the thread is
 * given up then, and goes with the process. *log is not to be used any more. Takes NULL. */
void trm_log_relay_close(struct trm_log_relay *relay, int limit_ms);

#endif
