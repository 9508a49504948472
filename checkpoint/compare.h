/*
 * Two checkpoints, tensor by tensor, whatever the layouts they were written in; and of their
 * counters those that decide how a run goes on: step, place in the data, skips, guard.
 *
 * Slice by slice: a slice of the first, and the same rectangle gathered from the second, of which
 * more is read the less the cuts agree. Memory: three slices and the tables. Bits are compared, so
 * that NaN equals itself and 0 differs from -0.
 */
#ifndef TRM_CHECKPOINT_COMPARE_H
#define TRM_CHECKPOINT_COMPARE_H

#include "checkpoint/stored.h"

/* What differs in one tensor and kind. */
struct trm_difference {
    int64_t elements;                          /* compared */
    int64_t different;                         /* in bits */
    double largest_absolute, largest_relative; /* of |a - b|, and over max(|a|, |b|); infinite where
                                                  a NaN or an infinity meets something else */
};

struct trm_compare_report {
    void *context;
    /* One sentence each: a tensor, kind, type, shape or counter that only one side has. */
    void (*unequal)(void *context, const char *what);
    /* A tensor (of the first checkpoint) whose elements differ. */
    void (*differs)(void *context, const struct trm_ckpt_tensor *tensor, enum trm_ckpt_kind kind,
                    const struct trm_difference *difference);
    /* Bytes of the first checkpoint compared so far; may be NULL. */
    void (*progress)(void *context, int64_t bytes);
};

/* *identical is true when nothing was reported. An error means that one of them could not be read.
 */
enum trm_status trm_compare(const struct trm_stored *first, const struct trm_stored *second,
                            const struct trm_compare_report *report, bool *identical,
                            struct trm_error *err);

#endif
