/*
 * srun, where it starts the ranks of an attempt: one step over the nodes of the job that are left.
 * The counterpart of mpirun.h, with the same settings. Pure: words in, words out.
 *
 * The step overlaps with those of the agents and of attempts that Slurm believes to be alive on a
 * node that is lost; it survives the loss of a node as far as Slurm is concerned, so that nobody
 * but the supervisor decides what happens then.
 */
#ifndef TRM_LAUNCH_JOB_SRUN_H
#define TRM_LAUNCH_JOB_SRUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launch/job/mpirun.h"

/* Appends the command line; words->failed tells when memory ran out. */
void trm_srun_words(const struct trm_mpirun_settings *settings, struct trm_words *words);

/* What a line of srun's says: "srun: error: n2: task 3: Killed". False for every other line; true
 * for one rank alone, as several that end together have a cause outside of them. */
bool trm_srun_parse_signal(const char *line, int *rank, int *signal_number);

struct trm_srun_end {
    int rank;      /* the first, of several */
    int signal;    /* 0: it exited */
    int exit_code; /* never 0 then */
};

/* That ranks ended, and how: "...: task 3: Killed", "...: tasks 0-2: Exited with exit code 2". */
bool trm_srun_parse_end(const char *line, struct trm_srun_end *end);

/* As trm_mpirun_describe. */
char *trm_srun_describe(int64_t exit_status, int term_signal, char *text, size_t text_bytes);

#endif
