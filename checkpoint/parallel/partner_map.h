/*
 * Who keeps a second copy of whose shard: always in another failure domain, spread evenly. Pure.
 *
 * A failure domain is what is lost together: a node, or what the operator calls one (a rack). Ranks
 * are lined up by domain; with n of them, and none of the domains larger than half, the partner of
 * place p is place p + m, m being the size of the largest domain: nobody of p's domain is as far
 * away, and everybody gets one copy. So with equal nodes each node's copies are on the next, and
 * only two neighbours that are lost together take a shard with them. Where one domain has more than
 * half, its ranks share the others among them, and the others' partners are spread over it.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_PARTNER_MAP_H
#define TRM_CHECKPOINT_PARALLEL_PARTNER_MAP_H

#include <stdint.h>

#include "base/status.h"

/* domains[size]: the domain of each rank, any numbers, equal for the same domain. partners[size]
 * becomes each rank's partner; -1 for all when there is one domain alone. */
enum trm_status trm_partner_map(const uint64_t *domains, int size, int *partners,
                                struct trm_error *err);

#endif
