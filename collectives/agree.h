/* One status for all ranks: operations that can fail on one rank alone (open, save, load, plan)
 * agree before they return, so that no rank goes on alone. */
#ifndef TRM_COLLECTIVES_AGREE_H
#define TRM_COLLECTIVES_AGREE_H

#include "collectives/comm.h"

/* Collective over `comm`. Every rank brings its own status and error; all return the status of the
 * lowest rank that failed and its words in `err`, prefixed "rank N: " when comm has several ranks.
 */
enum trm_status trm_agree(struct trm_comm *comm, enum trm_status mine, struct trm_error *err);

/* Collective: true when any rank says true (stop requests, bad numbers). */
enum trm_status trm_agree_any(struct trm_comm *comm, bool mine, bool *any, struct trm_error *err);

#endif
