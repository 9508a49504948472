/* Initial weights: an element is a pure function of (seed, tensor name, its place in the global
 * tensor), so no layout changes it. */
#ifndef TRM_TRAINER_MODEL_INIT_H
#define TRM_TRAINER_MODEL_INIT_H

#include "trainer/plan/layout.h"

/* Writes the initial values of local elements [begin, end) of tensors[tensor] to `out`, in order.
 * Padding rows are zero. Threaded. */
void trm_init_fill(const struct trm_layout *layout, int tensor, int64_t begin, int64_t end,
                   uint64_t seed, float *out);

#endif
