/* The list of token files as people write it: each "PATH" or "WEIGHT PATH". */
#ifndef TRM_TRAINER_DATA_MIXTURE_H
#define TRM_TRAINER_DATA_MIXTURE_H

#include <stdint.h>

#include "base/status.h"

struct trm_mixture_item {
    const char *path; /* points into the item's text: borrowed */
    double weight;    /* 0 when none was given */
};

/* Either all items have a weight (a number above 0, at most 1e12) or none has: weights against
 * sizes would mean nothing. A path may hold blanks when what precedes the first one is no number,
 * or when the whole is the name of a file. TRM_ERR_INPUT naming the item. items[count]. */
enum trm_status trm_mixture_parse(const char *const *texts, int count,
                                  struct trm_mixture_item *items, struct trm_error *err);

/* Every file's slots per block, and their running sums slot_begin[count + 1]. TRM_ERR_INPUT when a
 * weight is too small for a single slot: its file would never be read. */
enum trm_status trm_mixture_deal(const struct trm_mixture_item *items, int count,
                                 int32_t *slot_begin, struct trm_error *err);

#endif
