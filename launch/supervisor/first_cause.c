#include "launch/supervisor/first_cause.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launch/job/mpirun.h"

static void blame_mpirun(struct fault *fault, const struct trm_clues *clues)
{
    fault->kind = FAULT_LAUNCHER;
    fault->rank = -1;
    fault->signal = clues->mpirun_signal;
    fault->node[0] = '\0';
    fault->blames_node = false;
    trm_mpirun_describe(0, clues->mpirun_signal, fault->cause, sizeof fault->cause);
}

static void blame_node(struct fault *fault, const char *reason)
{
    fault->kind = FAULT_NODE;
    fault->rank = -1;
    fault->blames_node = true;
    snprintf(fault->cause, sizeof fault->cause, "was lost: %.900s", reason);
}

/* Ranks end when their lease does, and their node tells of it as of any other end. */
static void blame_supervisor(struct fault *fault)
{
    fault->kind = FAULT_LEASE;
    fault->rank = -1;
    fault->signal = 0;
    fault->node[0] = '\0';
    fault->blames_node = false;
    snprintf(fault->cause, sizeof fault->cause,
             fault->stood_still
                 ? "this supervisor stood still for %.1f s, so leases ran out and ranks ended"
                 : "the run's directory could not be looked at for %.1f s, so leases ran out and "
                   "ranks ended",
             fault->starved_s);
}

static void blame_rank(struct fault *fault, const struct trm_clues *clues)
{
    fault->kind = FAULT_RANK_GONE;
    fault->rank = clues->signal_rank;
    fault->blames_node = false;
    fault->phase = clues->signal_phase;
    snprintf(fault->node, sizeof fault->node, "%s", clues->signal_node ? clues->signal_node : "");
}

/* What mpirun says of the signal, when it speaks of the same rank; while it says nothing, the
 * kernel's word, which older ones do not give. */
static void learn_signal(struct fault *fault, const struct trm_clues *clues)
{
    int number = clues->signal_rank == fault->rank ? clues->signal_number : 0;

    if (number == 0 && clues->signal_rank < 0)
        number = clues->died_of;
    if (number == 0 && clues->signal_rank < 0 && clues->mpirun_status > 128 &&
        clues->mpirun_status < 128 + NSIG)
        number = (int)clues->mpirun_status - 128;
    if (number == 0 || fault->kind != FAULT_RANK_GONE)
        return;
    fault->signal = number;
    snprintf(fault->cause, sizeof fault->cause,
             number == SIGKILL ? "was killed (signal %d)" : "crashed (signal %d, %s)", number,
             strsignal(number));
}

void trm_first_cause(struct fault *fault, const struct trm_clues *clues)
{
    bool by_lease = fault->kind == FAULT_RANK_GONE || fault->kind == FAULT_RANK_LEFT ||
                    fault->kind == FAULT_DAEMON;
    bool named = fault->kind == FAULT_RANK_GONE && clues->signal_rank == fault->rank;

    if (by_lease && fault->starved_s > 0)
        blame_supervisor(fault);
    if (fault->kind != FAULT_RANK_GONE && fault->kind != FAULT_DAEMON)
        return;
    if (clues->mpirun_ended && clues->mpirun_signal != 0) {
        blame_mpirun(fault, clues);
    } else if (clues->lost_node && !named) {
        /* Its end made mpirun end the daemons and ranks of the other nodes. */
        snprintf(fault->node, sizeof fault->node, "%s", clues->lost_node);
        fault->sign_ns = clues->lost_heard_ns;
        blame_node(fault, clues->lost_reason);
    } else if (clues->signal_rank >= 0 && !named &&
               (fault->kind == FAULT_RANK_GONE || clues->mpirun_ended)) {
        /* It made mpirun end the others, and its own node is yet to say so. */
        blame_rank(fault, clues);
    } else if (clues->proved_itself) {
        blame_node(fault, "it did not hear from here any more, and ended its ranks");
    }
    learn_signal(fault, clues);
}
