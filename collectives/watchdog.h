/*
 * The watchdog: a thread of each rank that ends the process with exit code 69 when it must not, or
 * cannot, go on. It says why in one line on standard error and in the flight record.
 *
 * Under an agent it ends the rank when the lease has lapsed (the supervisor may have started the
 * job elsewhere by then) or the agent's connection has closed; who hangs is for the supervisor to
 * find, and there is no deadline for progress. Without an agent it ends the rank, and so by mpirun
 * the job, when no rank of this node has got on for too long (stall.h), with the verdict on who
 * holds up the others: one rank of the node speaks. Ranks that wait for storage are told, and
 * waited for until io_ms.
 *
 * It never waits for another thread, so it acts whatever the main thread is stuck in. It blocks all
 * signals, reads flight records and /proc, and touches nothing else of the process. 50 looks a
 * second; about 650 bytes per local rank.
 */
#ifndef TRM_COLLECTIVES_WATCHDOG_H
#define TRM_COLLECTIVES_WATCHDOG_H

#include "collectives/attach.h"
#include "collectives/stall.h"

struct trm_watchdog;

/* Borrows `attach` until the stop; its flight record may be missing, and then only the connection
 * is watched. `limits`: NULL under an agent. *out is returned owned. */
enum trm_status trm_watchdog_start(struct trm_attach *attach, const struct trm_stall_limits *limits,
                                   struct trm_watchdog **out, struct trm_error *err);

/* Ends the thread. Takes NULL. */
void trm_watchdog_stop(struct trm_watchdog *watchdog);

#endif
