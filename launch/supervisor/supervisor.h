/*
 * ★ trm_supervisor: `trireme run`. Starts agents and mpirun, watches, and starts again.
 *
 * The life of a run is the table in states.h; this is what acts. It works on one libuv loop in one
 * thread and blocks nowhere: what touches the run's file system (claims, status, events) is done by
 * libuv's threads. Who decides what:
 *
 *   liveness   an agent that is not heard of for `lease_ms` is lost with its node; the ranks there
 *              end by themselves when the same lease lapses on their side
 *   progress   ranks whose records do not change for longer than their steps explain hang; the
 *              verdict over all records names who holds up the others
 *   storage    ranks in a phase that waits for storage are told of, and waited for (io_timeout)
 *
 * A new attempt starts when every node of the one before has proved that no rank lives there, or
 * its lease and a margin are over; and when the next number is claimed on the run's file system.
 *
 * Nothing is left when it returns: agents have cleaned up and gone, or were given the time to.
 */
#ifndef TRM_LAUNCH_SUPERVISOR_SUPERVISOR_H
#define TRM_LAUNCH_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "base/status.h"
#include "launch/hostfile.h"
#include "trainer/config/config.h"

struct trm_supervisor_settings {
    const struct trm_config *config; /* checked against `ranks` */
    const struct trm_host *hosts;    /* [host_count]; local: one */
    int host_count;
    bool local;                     /* everything on this machine, without a remote shell */
    int ranks;                      /* of a run that nothing happened to */
    const char *remote_shell;       /* "ssh": called as SHELL HOST COMMAND... */
    bool foreground;                /* the shell stays while its agent does: a job step */
    int64_t rank_memory_bytes;      /* that a rank needs at least; 0: not known */
    bool srun;                      /* srun starts the ranks, not mpirun */
    const char *launcher_shell;     /* the shell for mpirun; NULL: Open MPI's own choice */
    const char *orphan_command;     /* what an agent does when this supervisor is lost; or NULL */
    const char *version;            /* of this program: agents of another one are not used */
    const char *program;            /* absolute path of `trireme`, on every node */
    const char *trainer;            /* absolute path of `trireme-train`, on every node */
    char *const *trainer_arguments; /* [trainer_argument_count]: configuration file, flags */
    int trainer_argument_count;
    const char *temporary; /* node-local: "/tmp" */
    bool preempted;        /* this start follows one that was stopped from outside */
    int output_fd;         /* where the ranks' standard output goes */
    int64_t farewell_ms;   /* for mpirun to pass on what ranks that left said last; 0: 2000 */
    struct trm_log log;
};

struct trm_supervised {
    int exit_code;   /* of docs/exit-codes.md; the reason was logged */
    int stop_signal; /* that asked it to stop, here or at a node of a job step; 0: none */
};

/* Runs until the run is over or was stopped, or cannot go on; SIGTERM, SIGUSR1 and SIGINT ask it to
 * stop with a checkpoint. An error is returned when nothing could be started. */
enum trm_status trm_supervise(const struct trm_supervisor_settings *settings,
                              struct trm_supervised *out, struct trm_error *err);

#endif
