/*
 * mpirun: how an attempt is started, and what its end says. Pure: words in, words out.
 *
 * Measured on Open MPI 4.1.4: with odls_base_sigkill_timeout 0 it leaves 10 ms after a rank died
 * (else seconds), and it must not be sent SIGTERM, which would kill ranks that are saving. Its exit
 * status is evidence of the second order: what agents and ranks report comes first.
 */
#ifndef TRM_LAUNCH_JOB_MPIRUN_H
#define TRM_LAUNCH_JOB_MPIRUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "launch/nodes.h"

/* A list of words for exec; NULL-terminated. */
struct trm_words {
    char **items; /* owned */
    int count, room;
    bool failed; /* memory ran out: the list must not be used */
};

void trm_words_add(struct trm_words *words, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void trm_words_destroy(struct trm_words *words);

struct trm_mpirun_settings {
    const struct trm_nodes *nodes; /* with ranks assigned */
    bool local;                    /* all ranks on this machine, without a launch agent */
    const char *remote_shell; /* what reaches other nodes: "ssh", a path; NULL: Open MPI's own */
    const char *runtime;      /* prefix of node-local directories */
    int64_t attempt;
    char *const *extra; /* the operator's arguments, [extra_count] */
    int extra_count;
    const char *trainer;            /* path of trireme-train */
    char *const *trainer_arguments; /* [trainer_argument_count]: configuration, flags */
    int trainer_argument_count;
};

/* Appends the command line; words->failed tells when memory ran out. */
void trm_mpirun_words(const struct trm_mpirun_settings *settings, struct trm_words *words);

/* Whether a line is one of the rules that mpirun draws before and behind what it says. */
bool trm_mpirun_is_rule(const char *line);

/* What a line of mpirun's own output says: "... process rank 3 with PID 7 on node n2 exited on
 * signal 9 (Killed)". False for every other line. */
bool trm_mpirun_parse_signal(const char *line, int *rank, int *signal_number);

/* What mpirun's end means on its own, in words: "mpirun was killed (signal 9)", "mpirun lost a node
 * (status 205)". `term_signal` 0: it exited with `exit_status`. Returns text. */
char *trm_mpirun_describe(int64_t exit_status, int term_signal, char *text, size_t text_bytes);

#endif
