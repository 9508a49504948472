/*
 * Where the time of a step goes on a GPU: every op between two events, added up by class, against
 * the least time that its class can take: FLOPs at the rate of a large matrix product, or bytes
 * (each operand read or written once) at the rate of a large copy, both measured by the caller.
 */
#ifndef TRM_BENCH_OP_TIMES_H
#define TRM_BENCH_OP_TIMES_H

#include <stdio.h>

#include "trainer/ops/ops.h"

struct op_times;

/* Takes the place of the ops of `dev`, a CUDA device, for models that are made from now on; ops are
 * timed after op_times_start. Owned; NULL when there is no memory. */
struct op_times *op_times_open(struct trm_device *dev);

void op_times_start(struct op_times *times);

/* Waits for the device, and prints a table: milliseconds of one of `steps` steps since the start.
 * Nothing is timed from now on. */
void op_times_print(struct op_times *times, FILE *file, int steps, double flops_per_second,
                    double bytes_per_second);

/* The device's ops are as before, which no model may use that was made since. Takes NULL. */
void op_times_close(struct op_times *times);

#endif
