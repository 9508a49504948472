/*
 * The reference device: plain loops, every sum in double and in index order, float32 and float64
 * tensors of any strides. It is the oracle that the fast devices are tested against, and slow.
 *
 * One thread. Tensors of other types set the sticky error TRM_ERR_UNSUPPORTED; shapes that disagree
 * are a bug of the caller and assert. Only attention needs the workspace.
 */
#ifndef TRM_TRAINER_OPS_REFERENCE_REFERENCE_H
#define TRM_TRAINER_OPS_REFERENCE_REFERENCE_H

#include "trainer/ops/ops.h"

/* Fills *dev in, without a workspace: the caller sets it, of workspace_bytes(), before attention.
 * Nothing to free. */
void trm_device_reference(struct trm_device *dev);

#endif
