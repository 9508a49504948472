/*
 * Which checkpoints may go. Pure.
 *
 * A checkpoint stays when it is among the newest `keep_latest`, when its step is a multiple of
 * `keep_every`, or when it is among the `keep_best` of lowest validation loss. Whatever the rules
 * say, the newest two that were verified stay, and nothing goes before there are two.
 */
#ifndef TRM_CHECKPOINT_RETENTION_H
#define TRM_CHECKPOINT_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

struct trm_retention {
    int64_t keep_latest; /* 0: all, so nothing ever goes */
    int64_t keep_every;  /* steps; 0: no such rule */
    int64_t keep_best;   /* 0: no such rule */
};

struct trm_retention_item {
    int64_t step;
    bool verified;     /* every byte was read and checked since it was written */
    double valid_loss; /* NaN: none. Among equals the oldest counts: later ones carry its loss on */
    bool keep;         /* the answer */
};

/* `items` in any order, steps distinct; sets `keep` of each. Returns how many may go. */
int trm_retention_decide(const struct trm_retention *rules, struct trm_retention_item *items,
                         int count);

#endif
