/*
 * An ordered sum as a program for a small stack machine, so that a device reads every operand once
 * and writes only what is left: the additions of ordered.h, in registers instead of in memory.
 * Pure.
 *
 * A step loads an operand on top of the stack, adds the top into what lies below it, or stores the
 * top and drops it. Additions in the order of the summing tree (lanes.h) need a stack as high as
 * the tree. Where that or the room of a program doesn't do, sums are stored and loaded again:
 * the bits stay the same for types that are added as they are stored.
 */
#ifndef TRM_COLLECTIVES_SUM_PROGRAM_H
#define TRM_COLLECTIVES_SUM_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collectives/lanes.h"

#define TRM_SUM_DEPTH     8
#define TRM_SUM_ADDRESSES 384
#define TRM_SUM_STEPS     (2 * TRM_SUM_ADDRESSES) /* each addition follows a load of its own */

/* A step and the place on the stack that it is about: load into it, add it into the place below, or
 * store it. */
#define TRM_SUM_LOAD(place)  (place)
#define TRM_SUM_ADD(place)   (TRM_SUM_DEPTH + (place))
#define TRM_SUM_STORE(place) (2 * TRM_SUM_DEPTH + (place))

/* Small enough to be an argument of a kernel. */
struct trm_sum_program {
    void *addresses[TRM_SUM_ADDRESSES]; /* of loads and stores, in their order */
    int step_count, address_count;
    uint8_t steps[TRM_SUM_STEPS];
};

/* The sum that is translated. */
struct trm_sum {
    void *const *operands;           /* borrowed */
    const struct trm_lane_add *adds; /* borrowed: operands[target] += operands[source], in order */
    int add_count;
    void *into; /* operands[0] goes here at the end instead of to its own place; NULL: there */
    int next;   /* additions translated so far; 0 to begin with */
    bool done;
    bool spilled; /* a sum was stored before it was complete */
};

/* Translates as much of `sum` as fits into `program`; again until sum->done. Of operands that are
 * added into others, the contents are undefined afterwards. */
void trm_sum_translate(struct trm_sum *sum, struct trm_sum_program *program);

#endif
