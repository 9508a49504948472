/*
 * The CPU device: float32, matrix products by oneDNN, everything else in vector loops of our own,
 * threads by OpenMP.
 *
 * The same bits at any number of threads: work is cut by shape alone (matrix products into output
 * tiles, each one single-threaded product), and float sums have one fixed order. The vector loops
 * are compiled for several instruction sets and give the same bits on each; matrix products don't,
 * which is why the instruction set is part of trm_device_describe.
 *
 * Denormal numbers count as zero inside ops, in every thread (x86-64 and aarch64): products with
 * them are a hundred times slower. The caller's floating-point mode is left as it was.
 *
 * Threads: ops of one device are called from one thread at a time; each op starts the team, and is
 * done when it returns. Memory: none of its own but what the libraries keep; scratch is the
 * workspace. Tensors of other types set the sticky error TRM_ERR_UNSUPPORTED, a workspace that is
 * too small TRM_ERR_INTERNAL; shapes that disagree are a bug of the caller and assert.
 */
#ifndef TRM_TRAINER_OPS_CPU_CPU_H
#define TRM_TRAINER_OPS_CPU_CPU_H

#include "trainer/ops/ops.h"

#define TRM_CPU_MAX_THREADS 1024

/* Fills *dev in, without a workspace: the caller sets it, of workspace_bytes(). `threads` per
 * process, 1 to TRM_CPU_MAX_THREADS. TRM_ERR_CONFIG when out of range, TRM_ERR_UNSUPPORTED when
 * OpenMP does not give that many. Nothing to free. */
enum trm_status trm_device_cpu(struct trm_device *dev, int threads, struct trm_error *err);

/* The largest GFLOP/s of a 2048 x 2048 x 2048 float32 product by the matrix library with as many
 * threads as the device has, over `repeats` tries: what a training step is measured against.
 * Allocates 48 MiB for the time; 0 when that fails. */
double trm_cpu_peak_gflops(struct trm_device *dev, int repeats);

#endif
