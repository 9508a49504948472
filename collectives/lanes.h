/*
 * Lanes: who owns which part of the summing tree. Pure arithmetic, no communication.
 *
 * A run fixes its number of lanes (logical data-parallel width) for life; ranks come and go. Lanes
 * are summed along one binary tree: a node covers lanes [first, first + count); the left child of a
 * node of n > 1 lanes takes the largest power of two below n. Float addition commutes but doesn't
 * associate: keeping this bracketing, wherever the additions happen, keeps every bit.
 *
 * A rank owns a set of disjoint nodes of the tree, and computes the partial sum of each. The plan
 * minimises first the largest number of lanes on a rank, ceil(lanes / ranks), then the number of
 * partial sums. A rank may own none.
 */
#ifndef TRM_COLLECTIVES_LANES_H
#define TRM_COLLECTIVES_LANES_H

#include <stdint.h>

#include "base/status.h"

#define TRM_LANES_MAX (1 << 20)

struct trm_lane_node {
    int first, count; /* lanes [first, first + count): always a node of the tree */
    int rank;         /* its owner */
};

/* An addition: operand `source` is added into operand `target`. Operands are numbered as `nodes`.
 */
struct trm_lane_add {
    int target, source;
};

struct trm_lanes {
    int lane_count, rank_count;
    int node_count;
    struct trm_lane_node *nodes; /* [node_count], sorted by first lane */
    int *rank_node_begin;        /* [rank_count + 1] into rank_nodes */
    int *rank_nodes;             /* node numbers grouped by rank, ascending */
    struct trm_lane_add
        *adds; /* [node_count - 1], in the order of the tree; the sum is in node 0 */
    int max_lanes_per_rank;
};

/* A pure function of its arguments: all ranks compute the same plan. Requires 1 <= ranks <= lanes,
 * else TRM_ERR_CONFIG in words. *out is returned owned. */
enum trm_status trm_lanes_create(int lane_count, int rank_count, struct trm_lanes **out,
                                 struct trm_error *err);
void trm_lanes_destroy(struct trm_lanes *lanes);

/* The steps of one rank through its lanes, in ascending order of lanes. After lane `lane` its sum
 * lies in gradient buffer `buffer`; then `merge_count` times the newest buffer is added into the
 * one before it (left += right) and is free again. What remains at the end are the rank's partial
 * sums, one per owned node, in buffers 0, 1, ... by ascending node. */
struct trm_lane_step {
    int lane, buffer, merge_count;
};

/* Writes at most `max_steps` steps; returns how many lanes the rank owns. */
int trm_lanes_schedule(const struct trm_lanes *lanes, int rank, struct trm_lane_step *steps,
                       int max_steps);

/* Gradient buffers that `rank` needs at once to follow its schedule (0 when it owns no lane). */
int trm_lanes_buffer_count(const struct trm_lanes *lanes, int rank);

/* Lanes of the left child of a node of `count` > 1 lanes. */
int trm_lanes_left(int count);

#endif
