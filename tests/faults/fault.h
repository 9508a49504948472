/*
 * Faults of a test run, as the variable TRIREME_FAULT tells them:
 *
 *   TRIREME_FAULT="RANK,STEP,PHASE,ATTEMPT,ACTION;..."
 *
 * '*' is any rank, step, phase or attempt. Rank is the world's, attempt what TRIREME_ATTEMPT says
 * (1 without it), step the optimizer step that is being worked on, 0 before there is one. A fault
 * strikes the first time that its place is passed in a process, so once per attempt.
 *
 *   phase          where                                                      data
 *   startup        configuration read, MPI not yet started
 *   comm_init      MPI started, groups of ranks not yet made
 *   load           groups made, memory and state not yet looked at
 *   forward        before the first micro-batch
 *   grad_exchange  gradients are computed and on their way
 *   optimizer      gradients are summed, nothing updated                      owned gradients
 *   updated        the optimizer is done, nothing gathered                    own parameters
 *   replicas       before copies of the parameters are compared               all parameters
 *   snapshot       before the state is copied or written
 *   memory         under an agent, as a step begins: a copy in memory may just have begun
 *   save           a rank's shard is about to be written (the saving thread's)
 *   commit         all shards written, no manifest yet (rank 0, the same thread)
 *   evaluate       before each batch of a validation
 *
 *   action         what happens
 *   kill           SIGKILL, as by the out-of-memory killer
 *   segv, abort    those signals
 *   stop           SIGSTOP, this process
 *   kill_parent    SIGKILL to the parent: the node's daemon, or mpirun, or slurmstepd
 *   stop_parent    SIGSTOP to it
 *   exit:CODE      ends at once with that code
 *   hang           spins for ever
 *   slow:MS        sleeps so long, each time it passes here: a straggler
 *   park           makes $TRIREME_FAULT_DIR/parked.RANK.STEP.PHASE, whose text is "HOST PID
 * ATTEMPT", and waits for that name with .release behind it; then removes both nan, inf       a
 * float in the middle of the data becomes that: the first there that is not zero, since zeros may
 * be padding corrupt        one bit of that float flips
 *
 * Parsing is pure; failpoint.c acts.
 */
#ifndef TRM_TESTS_FAULTS_FAULT_H
#define TRM_TESTS_FAULTS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define FAULTS_MAX 256
#define FAULT_ANY  (-1) /* '*' as rank, step, phase or attempt */

enum fault_action {
    FAULT_KILL,
    FAULT_SEGV,
    FAULT_ABORT,
    FAULT_STOP,
    FAULT_KILL_PARENT,
    FAULT_STOP_PARENT,
    FAULT_EXIT,
    FAULT_HANG,
    FAULT_SLOW,
    FAULT_PARK,
    FAULT_NAN,
    FAULT_INF,
    FAULT_CORRUPT,
    FAULT_ACTION_COUNT
};

struct fault {
    int64_t rank, step, attempt;
    int phase; /* what fault_phase gives, or FAULT_ANY */
    enum fault_action action;
    int64_t argument; /* of exit and slow */
};

/* The number of a phase's name, -1 for one that the table lacks. */
int fault_phase(const char *name);

/* Up to FAULTS_MAX faults. TRM_ERR_INPUT quotes the one that is wrong. */
enum trm_status faults_parse(const char *text, struct fault faults[FAULTS_MAX], int *count,
                             struct trm_error *err);

bool fault_is_at(const struct fault *fault, int64_t rank, int64_t step, int phase, int64_t attempt);

#endif
