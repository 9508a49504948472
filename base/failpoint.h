/*
 * Named places in a run where tests make things go wrong.
 *
 * In the programs that are installed a failpoint is a call to an empty function: nothing in them
 * reads a fault from the environment. The tests link a second program, trireme-train-faults, from
 * the same objects and a trm_failpoint of their own, which kills, stops or parks the process there
 * (tests/faults/fault.h). So what is tested is what is shipped.
 *
 * A new place needs its call, and its name in the table of tests/faults/fault.c.
 */
#ifndef TRM_BASE_FAILPOINT_H
#define TRM_BASE_FAILPOINT_H

#include <stddef.h>
#include <stdint.h>

/* Passes the place `phase` of `step` (0 before there is one). Any thread. A test may not return
 * from here, or damage the `bytes` bytes of `data`, which is borrowed; NULL where there is nothing
 * to damage. */
void trm_failpoint(const char *phase, int64_t step, void *data, size_t bytes);

#endif
