/*
 * The plan, and why it is minimal. A rank may own at most C = ceil(lanes / ranks) lanes. A cut of
 * the tree consists of blocks of 2^j lanes and at most one *ragged* node: a suffix of the lanes
 * whose count is no power of two. With the ragged node chosen (or none), let M_j be the lanes that
 * lie in blocks of 2^j or more: the number of blocks is M_0 - sum over j >= 1 of M_j / 2^j, so each
 * M_j should be as large as possible. It is at most 2^j times floor(lanes left / 2^j) and at most
 * what the ranks hold in units of 2^j, and dealing blocks from the largest down reaches both bounds
 * at every j at once. There are at most 20 ragged nodes to try. Blocks in descending order from
 * lane 0 are aligned, and so nodes of the tree.
 */
#include "collectives/lanes.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/assert.h"

#define LEVELS 21 /* blocks of 2^0 .. 2^20 lanes */
_Static_assert(1 << (LEVELS - 1) == TRM_LANES_MAX, "a level for each block size");

struct cut {
    int ragged;         /* lanes of the ragged node, 0 for none; the last rank owns it */
    int blocks[LEVELS]; /* how many of 2^j lanes */
    int node_count;
};

static int min_int(int64_t a, int64_t b)
{
    return (int)(a < b ? a : b);
}

static int floor_log2(int n)
{
    return 31 - __builtin_clz((unsigned)n);
}

int trm_lanes_left(int count)
{
    TRM_ASSERT(count > 1);
    return 1 << floor_log2(count - 1);
}

static struct cut cut_with_ragged(int lanes, int ranks, int most, int ragged)
{
    struct cut cut = {.ragged = ragged, .node_count = ragged > 0};
    int placed = 0;
    for (int j = LEVELS - 1; j >= 0; j--) {
        int64_t room = (int64_t)(ranks - 1) * (most >> j) + ((most - ragged) >> j);
        int covered = min_int(room, (lanes - ragged) >> j) << j;
        cut.blocks[j] = (covered - placed) >> j;
        cut.node_count += cut.blocks[j];
        placed = covered;
    }
    TRM_ASSERT(placed == lanes - ragged);
    return cut;
}

static struct cut choose_cut(int lanes, int ranks, int most)
{
    struct cut best = cut_with_ragged(lanes, ranks, most, 0);
    /* Suffixes that are nodes: the count without its highest bits, one after the other. */
    for (int ragged = lanes; ragged & (ragged - 1); ragged -= 1 << floor_log2(ragged)) {
        if (ragged > most)
            continue;
        struct cut cut = cut_with_ragged(lanes, ranks, most, ragged);
        if (cut.node_count < best.node_count)
            best = cut;
    }
    return best;
}

/* One block of `size` lanes to each rank with room, in rank order; a single one to the rank with
 * the fewest lanes. One pass is enough: after the larger blocks, no rank has room for two. */
static void deal_blocks(struct trm_lanes *lanes, int *loads, int size, int blocks, int most,
                        int *node, int *lane)
{
    int rank = 0;
    if (blocks == 1) {
        for (int r = 1; r < lanes->rank_count; r++) {
            if (loads[r] < loads[rank])
                rank = r;
        }
    }
    for (; blocks > 0; rank++) {
        TRM_ASSERT(rank < lanes->rank_count);
        if (loads[rank] + size > most)
            continue;
        lanes->nodes[(*node)++] = (struct trm_lane_node){*lane, size, rank};
        *lane += size;
        loads[rank] += size;
        blocks--;
    }
}

static void deal_nodes(struct trm_lanes *lanes, const struct cut *cut, int *loads, int most)
{
    int node = 0, lane = 0, last = lanes->rank_count - 1;
    loads[last] = cut->ragged;
    for (int j = LEVELS - 1; j >= 0; j--)
        deal_blocks(lanes, loads, 1 << j, cut->blocks[j], most, &node, &lane);
    if (cut->ragged)
        lanes->nodes[node++] = (struct trm_lane_node){lane, cut->ragged, last};
    TRM_ASSERT(node == lanes->node_count && lane + cut->ragged == lanes->lane_count);
    for (int r = 0; r <= last; r++) {
        if (lanes->max_lanes_per_rank < loads[r])
            lanes->max_lanes_per_rank = loads[r];
    }
}

/* A counting sort of the nodes by owner, stable, so ascending within a rank. */
static void group_by_rank(struct trm_lanes *lanes)
{
    int *begin = lanes->rank_node_begin; /* zeroed */
    for (int i = 0; i < lanes->node_count; i++)
        begin[lanes->nodes[i].rank + 1]++;
    for (int r = 0; r < lanes->rank_count; r++)
        begin[r + 1] += begin[r];
    for (int i = 0; i < lanes->node_count; i++)
        lanes->rank_nodes[begin[lanes->nodes[i].rank]++] = i;
    /* The fill moved each begin to its end: move them back by one rank. */
    for (int r = lanes->rank_count; r > 0; r--)
        begin[r] = begin[r - 1];
    begin[0] = 0;
}

/* True when the neighbours `left` and `right` are the children of one node of the tree, given that
 * everything before `left` is already summed as far as it goes. */
static bool are_siblings(struct trm_lane_node left, struct trm_lane_node right, int lane_count)
{
    return right.count == left.count ||
           (right.count < left.count && right.first + right.count == lane_count);
}

/* Nodes from left to right on a stack; siblings on top become their parent. The stack never holds
 * more than one subtree per level and the ragged one. */
static void list_adds(struct trm_lanes *lanes)
{
    struct trm_lane_node stack[LEVELS + 2]; /* .rank: the operand that holds the sum */
    int depth = 0, added = 0;
    for (int i = 0; i < lanes->node_count; i++) {
        TRM_ASSERT(depth < LEVELS + 2);
        stack[depth++] = (struct trm_lane_node){lanes->nodes[i].first, lanes->nodes[i].count, i};
        while (depth > 1 && are_siblings(stack[depth - 2], stack[depth - 1], lanes->lane_count)) {
            struct trm_lane_node right = stack[--depth];
            stack[depth - 1].count += right.count;
            lanes->adds[added++] = (struct trm_lane_add){stack[depth - 1].rank, right.rank};
        }
    }
    TRM_ASSERT(depth == 1 && added == lanes->node_count - 1);
}

enum trm_status trm_lanes_create(int lane_count, int rank_count, struct trm_lanes **out,
                                 struct trm_error *err)
{
    if (lane_count < 1 || lane_count > TRM_LANES_MAX)
        return trm_error_set(err, TRM_ERR_CONFIG, "%d lanes: use between 1 and %d", lane_count,
                             TRM_LANES_MAX);
    if (rank_count < 1 || rank_count > lane_count)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%d data-parallel ranks cannot share %d lanes, as a lane is never "
                             "split: use between 1 and %d ranks",
                             rank_count, lane_count, lane_count);

    int most = (lane_count - 1) / rank_count + 1;
    struct cut cut = choose_cut(lane_count, rank_count, most);
    size_t node_count = (size_t)cut.node_count;
    int *loads = calloc((size_t)rank_count, sizeof *loads);
    struct trm_lanes *lanes = calloc(1, sizeof *lanes);
    enum trm_status status = TRM_ERR_MEMORY;
    if (!lanes || !loads)
        goto done;
    *lanes = (struct trm_lanes){
        .lane_count = lane_count,
        .rank_count = rank_count,
        .node_count = cut.node_count,
        .nodes = calloc(node_count, sizeof *lanes->nodes),
        .rank_node_begin = calloc((size_t)rank_count + 1, sizeof *lanes->rank_node_begin),
        .rank_nodes = calloc(node_count, sizeof *lanes->rank_nodes),
        .adds = calloc(node_count, sizeof *lanes->adds),
    };
    if (!lanes->nodes || !lanes->rank_node_begin || !lanes->rank_nodes || !lanes->adds)
        goto done;
    deal_nodes(lanes, &cut, loads, most);
    group_by_rank(lanes);
    list_adds(lanes);
    *out = lanes;
    lanes = NULL;
    status = TRM_OK;
done:
    free(loads);
    trm_lanes_destroy(lanes);
    if (status)
        return trm_error_set(err, status, "no memory to plan %d lanes on %d ranks", lane_count,
                             rank_count);
    return TRM_OK;
}

void trm_lanes_destroy(struct trm_lanes *lanes)
{
    if (!lanes)
        return;
    free(lanes->nodes);
    free(lanes->rank_node_begin);
    free(lanes->rank_nodes);
    free(lanes->adds);
    free(lanes);
}

/* Within a node the buffers work like a binary counter: before lane i (from the node's first) there
 * is one open sum for each bit set in i, and lane i carries as an increment does. The last lane
 * closes them all. */
int trm_lanes_schedule(const struct trm_lanes *lanes, int rank, struct trm_lane_step *steps,
                       int max_steps)
{
    TRM_ASSERT(rank >= 0 && rank < lanes->rank_count);
    int written = 0, owned = 0;
    const int begin = lanes->rank_node_begin[rank], end = lanes->rank_node_begin[rank + 1];
    for (int n = begin; n < end; n++) {
        const struct trm_lane_node *node = &lanes->nodes[lanes->rank_nodes[n]];
        for (int i = 0; i < node->count && written < max_steps; i++) {
            int open = __builtin_popcount((unsigned)i);
            int carries = __builtin_ctz((unsigned)i + 1);
            steps[written++] = (struct trm_lane_step){
                .lane = node->first + i,
                .buffer = n - begin + open,
                .merge_count = i + 1 == node->count ? open : carries,
            };
        }
        owned += node->count;
    }
    return owned;
}

int trm_lanes_buffer_count(const struct trm_lanes *lanes, int rank)
{
    TRM_ASSERT(rank >= 0 && rank < lanes->rank_count);
    int buffers = 0;
    const int begin = lanes->rank_node_begin[rank], end = lanes->rank_node_begin[rank + 1];
    for (int n = begin; n < end; n++) {
        /* The sums of earlier nodes, and the most bits that a number below count has, plus one. */
        int used = n - begin + floor_log2(lanes->nodes[lanes->rank_nodes[n]].count) + 1;
        buffers = used > buffers ? used : buffers;
    }
    return buffers;
}
