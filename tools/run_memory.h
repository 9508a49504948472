/* What a run needs of a node's memory, as far as it is known before it starts. */
#ifndef TRM_TOOLS_RUN_MEMORY_H
#define TRM_TOOLS_RUN_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/config/config.h"

/* Parameters, gradients and this rank's share of AdamW's moments, unless they lie `on_gpu`, and the
 * memory tier's slots (of a run `spread` over nodes: a partner's, too): a lower bound, without
 * activations. The configuration is checked against `ranks`. */
enum trm_status trm_run_rank_bytes(const struct trm_config *config, int ranks, bool on_gpu,
                                   bool spread, int64_t *bytes, struct trm_error *err);

#endif
