/*
 * The summing tree in two stages: first inside groups of ranks (a node), then between them. Pure.
 *
 * An addition whose operands both come from one group is done in that group's stage; every other
 * one is left for the second. The bracketing stays that of the tree, so the bits do; what changes
 * is how much crosses between groups: one partial sum per subtree that a group completes, instead
 * of one per rank.
 */
#ifndef TRM_COLLECTIVES_STAGES_H
#define TRM_COLLECTIVES_STAGES_H

#include "collectives/lanes.h"

struct trm_stages {
    int group_size, group_count;
    int within_count, between_count;
    struct trm_lane_add *within;  /* [within_count]: additions of the given group, in order */
    struct trm_lane_add *between; /* [between_count]: additions between groups, in order */
    int *left_begin;              /* [group_count + 1] into left */
    int *left;                    /* operands that a group has left after its stage, ascending */
};

/* For ranks in groups of `group_size` neighbours, seen by `group`. Requires that group_size divides
 * the ranks. *out is returned owned. */
enum trm_status trm_stages_create(const struct trm_lanes *lanes, int group_size, int group,
                                  struct trm_stages **out, struct trm_error *err);
void trm_stages_destroy(struct trm_stages *stages);

#endif
