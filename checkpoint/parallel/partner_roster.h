/* Who is whose partner in a run: the nodes of all ranks, this rank's partner, and its wards (the
 * ranks that it is the partner of). */
#ifndef TRM_CHECKPOINT_PARALLEL_PARTNER_ROSTER_H
#define TRM_CHECKPOINT_PARALLEL_PARTNER_ROSTER_H

#include "collectives/comm.h"

#define TRM_NODE_NAME_BYTES 72 /* Linux has host names of up to 64 */

struct trm_partner_ward {
    int rank;
    int64_t image_bytes; /* of its slots */
};

struct trm_partner_roster {
    char *text; /* owned: as slots carry it (slot.h) */
    size_t text_bytes;
    int partner; /* -1: all ranks are in one failure domain */
    int ward_count;
    struct trm_partner_ward *wards; /* owned, [ward_count], ranks ascending */
};

/* Collective; agreed. `domain`: what is lost together, of any length. To be destroyed by the
 * caller; written on success alone. */
enum trm_status trm_partner_roster_create(struct trm_comm *comm, const char *node,
                                          const char *domain, struct trm_partner_roster *out,
                                          struct trm_error *err);

/* Collective; agreed. Fills in the wards' sizes; *largest: of all ranks. */
enum trm_status trm_partner_roster_sizes(struct trm_partner_roster *roster, struct trm_comm *comm,
                                         int64_t image_bytes, int64_t *largest,
                                         struct trm_error *err);

/* "node1 to node3, node2 to node4": where copies of each node's shards go, in the order of ranks;
 * cut behind so many pairs. "" without partners. Returns text. */
#define TRM_PARTNER_ROSTER_SHOWN 8
char *trm_partner_roster_describe(const struct trm_partner_roster *roster, char *text,
                                  size_t text_bytes);

void trm_partner_roster_destroy(struct trm_partner_roster *roster); /* what it owns */

#endif
