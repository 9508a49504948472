/*
 * The device that a trial is about: the test programs of the CPU and of CUDA are made of the same
 * files and one of trial_cpu.c and trial_cuda.c.
 */
#ifndef TRM_TESTS_UNIT_OPS_TRIAL_DEVICE_H
#define TRM_TESTS_UNIT_OPS_TRIAL_DEVICE_H

#include <stdbool.h>

#include "trainer/ops/ops.h"

/* How often a trial runs; all runs must give the same bits. */
int trial_runs(void);

/* "at 3 threads" */
const char *trial_run_name(int run);

/* The device of a run, without a workspace; operands lie `shift` elements behind a boundary. Fails
 * the test when it can't be opened. Nothing to close. */
struct trm_device trial_open(int run, size_t *shift);

/* Does the device take bfloat16? */
bool trial_has_half(void);

/* What tolerances are multiplied by: 1 on the CPU, whose elementary functions are our own. */
double trial_slack(void);

/* Longer sequences would take too long on this device. */
int trial_longest(void);

#endif
