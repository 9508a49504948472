#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "launch/supervisor/first_cause.h"

/* A fault as it was seen, what is known besides, and what must be told. */
struct a_case {
    const char *what;
    enum fault_kind seen;
    int seen_rank;
    struct trm_clues clues;
    enum fault_kind kind;
    int rank, signal;
    const char *node, *cause;
    bool blames_node;
};

static const struct a_case cases[] = {
    {"a rank that dies",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = -1},
     FAULT_RANK_GONE,
     3,
     0,
     "node4",
     "died without a word",
     false},
    {"a rank of whose signal mpirun knows",
     FAULT_RANK_GONE,
     3,
     {.mpirun_ended = true, .mpirun_status = 137, .signal_rank = 3, .signal_number = SIGKILL},
     FAULT_RANK_GONE,
     3,
     SIGKILL,
     "node4",
     "was killed (signal 9)",
     false},
    {"a rank, when mpirun's status alone tells the signal",
     FAULT_RANK_GONE,
     3,
     {.mpirun_ended = true, .mpirun_status = 139, .signal_rank = -1},
     FAULT_RANK_GONE,
     3,
     SIGSEGV,
     "node4",
     "crashed (signal 11",
     false},
    {"a rank whose node tells the signal, when mpirun says nothing yet",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = -1, .died_of = SIGSEGV},
     FAULT_RANK_GONE,
     3,
     SIGSEGV,
     "node4",
     "crashed (signal 11",
     false},
    {"a rank that mpirun ended for another",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = 1, .signal_number = SIGSEGV, .signal_node = "node2", .died_of = SIGKILL},
     FAULT_RANK_GONE,
     1,
     SIGSEGV,
     "node2",
     "crashed (signal 11",
     false},
    {"ranks that died with mpirun",
     FAULT_RANK_GONE,
     3,
     {.mpirun_ended = true, .mpirun_signal = SIGKILL, .signal_rank = -1},
     FAULT_LAUNCHER,
     -1,
     SIGKILL,
     "",
     "mpirun was killed",
     false},
    {"a daemon that died with mpirun",
     FAULT_DAEMON,
     -1,
     {.mpirun_ended = true, .mpirun_signal = SIGKILL, .signal_rank = -1},
     FAULT_LAUNCHER,
     -1,
     SIGKILL,
     "",
     "mpirun was killed",
     false},
    {"a daemon that mpirun ended for a rank elsewhere",
     FAULT_DAEMON,
     -1,
     {.mpirun_ended = true, .signal_rank = 1, .signal_number = SIGKILL, .signal_node = "node2"},
     FAULT_RANK_GONE,
     1,
     SIGKILL,
     "node2",
     "was killed (signal 9)",
     false},
    {"a daemon that mpirun ended for a node elsewhere",
     FAULT_DAEMON,
     -1,
     {.signal_rank = -1, .lost_node = "node2", .lost_reason = "the connection closed"},
     FAULT_NODE,
     -1,
     0,
     "node2",
     "was lost: the connection closed",
     true},
    {"a rank that mpirun ended for a node elsewhere",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = -1, .lost_node = "node2", .lost_reason = "the connection closed"},
     FAULT_NODE,
     -1,
     0,
     "node2",
     "was lost: the connection closed",
     true},
    {"a rank that mpirun ended for a rank elsewhere",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = 1, .signal_number = SIGKILL, .signal_node = "node2"},
     FAULT_RANK_GONE,
     1,
     SIGKILL,
     "node2",
     "was killed (signal 9)",
     false},
    {"a rank that was killed, and a node besides",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = 3, .signal_number = SIGKILL, .lost_node = "node2", .lost_reason = "gone"},
     FAULT_RANK_GONE,
     3,
     SIGKILL,
     "node4",
     "was killed (signal 9)",
     false},
    {"a node that ended its ranks by itself",
     FAULT_RANK_GONE,
     3,
     {.signal_rank = -1, .proved_itself = true},
     FAULT_NODE,
     -1,
     0,
     "node4",
     "did not hear from here",
     true},
    {"a daemon that was killed",
     FAULT_DAEMON,
     -1,
     {.signal_rank = -1},
     FAULT_DAEMON,
     -1,
     0,
     "node4",
     "lost its daemon",
     true},
    {"a hang, which no clue changes",
     FAULT_HANG,
     -1,
     {.mpirun_ended = true,
      .mpirun_signal = SIGKILL,
      .signal_rank = 1,
      .lost_node = "node2",
      .lost_reason = "gone"},
     FAULT_HANG,
     -1,
     0,
     "node4",
     "lost its daemon",
     true},
};

static void the_first_cause_is_told_and_not_what_followed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct a_case *c = &cases[i];
        struct fault fault = {.kind = c->seen, .rank = c->seen_rank, .node = "node4"};
        fault.blames_node = c->seen != FAULT_RANK_GONE;
        snprintf(fault.cause, sizeof fault.cause, "%s",
                 c->seen == FAULT_RANK_GONE ? "died without a word" : "lost its daemon");
        trm_first_cause(&fault, &c->clues);
        if (fault.kind != c->kind || fault.rank != c->rank || fault.signal != c->signal ||
            fault.blames_node != c->blames_node || strcmp(fault.node, c->node) != 0 ||
            !strstr(fault.cause, c->cause))
            fail_msg("%s: kind %d, rank %d, signal %d, node \"%s\", blames %d: %s", c->what,
                     (int)fault.kind, fault.rank, fault.signal, fault.node, fault.blames_node,
                     fault.cause);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_cause_is_told_and_not_what_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
