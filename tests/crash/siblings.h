/*
 * A communicator of processes that one process forked: memory that they share and a barrier.
 *
 * It starts in a millisecond where mpirun takes half a second, so that a save by several ranks can
 * be interrupted at every call. Float reductions are TRM_ERR_UNSUPPORTED. A rank that dies leaves
 * the others waiting: whoever forked them ends them.
 */
#ifndef TRM_TESTS_CRASH_SIBLINGS_H
#define TRM_TESTS_CRASH_SIBLINGS_H

#include "collectives/comm.h"

#define SIBLINGS_MAX 4

struct siblings;

/* Before the fork; NULL with errno on failure. Unmapped when the process ends. */
struct siblings *siblings_create(int size);

/* In each process, after the fork. *out is returned owned. */
enum trm_status siblings_join(struct siblings *siblings, int rank, struct trm_comm **out,
                              struct trm_error *err);

#endif
