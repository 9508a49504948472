/*
 * What MPI tests share: the world as the group's state, and verdicts that all ranks agree on. A
 * rank that asserts alone leaves its peers hanging, so tests collect what they find in a bool, and
 * assert it once with assert_on_all_ranks, which is collective.
 */
#ifndef TRM_TESTS_MPI_WORLD_H
#define TRM_TESTS_MPI_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "collectives/agree.h"
#include "collectives/comm.h"
#include "collectives/mpi/mpi.h"

/* Group set-up and tear-down for cmocka_run_group_tests; *state is the world's struct trm_comm. */
static inline int world_start(void **state)
{
    struct trm_error err;
    struct trm_comm *world = NULL;
    if (trm_mpi_start(NULL, NULL, &world, &err)) {
        fprintf(stderr, "cannot start: %s\n", err.text);
        return -1;
    }
    *state = world;
    return 0;
}

static inline int world_finish(void **state)
{
    trm_mpi_finish(*state);
    return 0;
}

/* The agreed verdict: true when `ok` is true on every rank. Says which rank found fault. */
static inline bool true_on_all_ranks(struct trm_comm *world, bool ok, const char *what, int line)
{
    bool any_failed = true;
    if (!ok)
        fprintf(stderr, "rank %d of %d, line %d: not true: %s\n", world->rank, world->size, line,
                what);
    return trm_agree_any(world, !ok, &any_failed, NULL) == TRM_OK && !any_failed;
}

#define assert_on_all_ranks(world, ok) assert_true(true_on_all_ranks((world), (ok), #ok, __LINE__))

#endif
