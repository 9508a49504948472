/*
 * The nodes of a run: what is known of each, and which of them an attempt gets. Pure.
 *
 *   away         no agent yet, or none any more; `reason` says why
 *   ready        its agent answers: active in an attempt, or a spare; once its health was checked
 *   unhealthy    its health check failed; checked again before the next attempt
 *   quarantined  failed too often, or cannot prove that its ranks are dead; stays so
 *   excluded     named in the exclude file, which is read live
 *
 * An attempt takes nodes in this order: those of the attempt before (their memory holds snapshots),
 * then spares in the order of the host file. When not enough are left for all ranks, the
 * data-parallel size shrinks to what fits, if the configuration allows it.
 */
#ifndef TRM_LAUNCH_NODES_H
#define TRM_LAUNCH_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "launch/hostfile.h"

enum trm_node_state {
    TRM_NODE_AWAY,
    TRM_NODE_READY,
    TRM_NODE_UNHEALTHY,
    TRM_NODE_QUARANTINED,
    TRM_NODE_EXCLUDED,
    TRM_NODE_STATE_COUNT
};

/* "away", "ready", ...; static. */
const char *trm_node_state_name(enum trm_node_state state);

struct trm_node {
    struct trm_host host;
    enum trm_node_state state;
    char reason[256];   /* why it is not ready */
    bool healthy;       /* passed its newest check, and was not lost since */
    int failures;       /* faults that were blamed on it, and are not forgotten */
    int64_t failed_ns;  /* the newest of them, trm_clock_now_ns */
    int ranks;          /* of the attempt at hand; 0: a spare */
    int previous_ranks; /* of the attempt before it */
    int first_rank;
};

struct trm_nodes {
    int count;
    struct trm_node *items; /* owned, in the order of the host file */
};

/* What an attempt needs. */
struct trm_nodes_want {
    int ranks;            /* of a run that nothing happened to */
    int tensor_size;      /* ranks that share a model; ranks is a multiple */
    int min_data_size;    /* smallest allowed data-parallel size; 0: no shrinking */
    int quarantine_after; /* failures */
    int64_t forget_ns;    /* they are forgotten when there was none for so long */
};

enum trm_status trm_nodes_create(const struct trm_host *hosts, int count, struct trm_nodes *out,
                                 struct trm_error *err);
void trm_nodes_destroy(struct trm_nodes *nodes); /* what it owns */

/* NULL when there is none. */
struct trm_node *trm_nodes_find(const struct trm_nodes *nodes, const char *name);

/* Blames a fault on a node: it is away, and quarantined when that was one too many. */
void trm_nodes_blame(struct trm_node *node, const struct trm_nodes_want *want, int64_t now_ns,
                     const char *reason);

/* How many ranks the ready nodes could run: want->ranks, fewer by shrinking, or 0: not enough. */
int trm_nodes_fit(const struct trm_nodes *nodes, const struct trm_nodes_want *want);

/* The same for those of them that are healthy: an attempt gets no others. */
int trm_nodes_fit_healthy(const struct trm_nodes *nodes, const struct trm_nodes_want *want);

/* Assigns `ranks` (of trm_nodes_fit_healthy) to ready and healthy nodes: fills ranks and first_rank
 * of all. Ranks are numbered in the order of the host file. Nodes that are full are preferred over
 * many half-used ones. */
void trm_nodes_assign(struct trm_nodes *nodes, int ranks);

/* The node of a rank of the attempt at hand, or NULL. */
struct trm_node *trm_nodes_of_rank(const struct trm_nodes *nodes, int rank);

/* "node1, node2 and node4": those with ranks. Returns text. */
char *trm_nodes_describe(const struct trm_nodes *nodes, char *text, size_t text_bytes);

/* Between two beats of an agent: `wanted_ms`, or more where all nodes together have so many ranks
 * that who hears of every one at every beat could not keep up, but a quarter of a lease at most. */
int64_t trm_nodes_heartbeat_ms(const struct trm_nodes *nodes, int64_t wanted_ms, int64_t lease_ms);

#endif
