/*
 * Which ranks write one shard together, and what of it is whose.
 *
 * With a file for each of thousands of ranks, a view of them takes long to make and to open, and a
 * tensor lies in more files than a process may open. So neighbouring ranks of one machine may share
 * a file. Its first rank, the leader, lays it out; then each rank writes its slices and their
 * checksums at places that were dealt out when the plan was made. A group never spans machines:
 * its ranks' odd ends meet in one page cache (stream.h), which network file systems do not keep
 * alike between machines.
 *
 * Memory: 8 bytes for each slice of the rank; on the leader 80 for each of the group.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_SHARD_GROUP_H
#define TRM_CHECKPOINT_PARALLEL_SHARD_GROUP_H

#include "checkpoint/shard.h"
#include "collectives/comm.h"

/* Up to so many ranks a file for each is no burden on anybody, and shared by none. */
#define TRM_SHARD_GROUP_ALONE_MAX 64

struct trm_shard_group {
    int shard, shard_count;     /* of this group; groups */
    int *members, member_count; /* owned: its ranks, ascending; the first is the leader */
    int index;                  /* of this rank in `members` */
    int64_t *rows;              /* owned: of each of the rank's slices in the shard's table */
    /* On the leader: */
    int64_t *counts;            /* owned: slices of each member */
    int64_t *all_rows;          /* owned: `rows` of all members, one after the other */
    struct trm_slice_set table; /* owned: the whole shard; no data */
};

/* Pure: the group of rank `rank`. nodes[size] tells the ranks' machines apart. At most `group_size`
 * ranks share a shard; 0: all of a machine when there are over TRM_SHARD_GROUP_ALONE_MAX ranks,
 * else 1. Tables are empty yet. To be destroyed by the caller; written on success alone. */
enum trm_status trm_shard_group_find(const uint64_t *nodes, int size, int rank, int group_size,
                                     struct trm_shard_group *out, struct trm_error *err);
void trm_shard_group_destroy(struct trm_shard_group *group); /* what it owns, not the struct */

bool trm_shard_group_leads(const struct trm_shard_group *group);

/* Collective; agreed. Deals out the places: sorts `mine` as the shard has it and sets its offsets.
 */
enum trm_status trm_shard_group_place(struct trm_comm *comm, struct trm_shard_group *group,
                                      struct trm_slice_set *mine, struct trm_error *err);

/* Collective; agreed. The leader's file record (where the datasets lie) to its group. */
enum trm_status trm_shard_group_tell(struct trm_comm *comm, const struct trm_shard_group *group,
                                     struct trm_ckpt_file *file, struct trm_error *err);

/* Collective; agreed. The checksums of the ranks' slices into the leaders' tables. */
enum trm_status trm_shard_group_collect(struct trm_comm *comm, struct trm_shard_group *group,
                                        const struct trm_slice_set *mine, struct trm_error *err);

/* Collective; agreed. Each rank brings the `status` it has so far: messages travel when all are
 * well. */
enum trm_status trm_exchange_agreed(struct trm_comm *comm, enum trm_status status,
                                    const struct trm_message *sends, int send_count,
                                    const struct trm_message *receives, int receive_count,
                                    struct trm_error *err);

#endif
