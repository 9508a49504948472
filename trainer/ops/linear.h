/*
 * Matrix products and linear layers, part of the table of ops.h and under its contracts, with one
 * exception: on a GPU their bits may differ by the alignment of operands to 16 bytes (docs/gpu.md).
 */
#ifndef TRM_TRAINER_OPS_LINEAR_H
#define TRM_TRAINER_OPS_LINEAR_H

#include <stdbool.h>

#include "trainer/ops/device.h"
#include "trainer/ops/tensor.h"

/* c[M, N] (+)= a[M, K] b[K, N]; a and b may be transposed views (one stride is 1). */
typedef void trm_matmul_fn(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                           struct trm_tensor b, bool accumulate);

/* y[N, F] = act(x[N, C] w[F, C]^T + bias[F]). With an activation, `pre` [N, F] receives its
 * argument (needed by backward). bias.data may be NULL; pre.data may be NULL without activation or
 * when no backward follows. */
typedef void trm_linear_forward_fn(struct trm_device *dev, struct trm_tensor y,
                                   struct trm_tensor pre, struct trm_tensor x, struct trm_tensor w,
                                   struct trm_tensor bias, enum trm_activation activation);

/* dx[N, C] = dy[N, F] w[F, C], and, with an activation, times act'(pre[N, C]): the layer's input
 * was x = act(pre), and dx is the gradient of `pre`. dw[F, C] (+)= dy^T x; dbias[F] (+)= column
 * sums of dy, where (+)= adds when `accumulate` and overwrites otherwise. dx.data or dbias.data may
 * be NULL: not wanted; pre.data may be NULL without activation. */
typedef void trm_linear_backward_fn(struct trm_device *dev, struct trm_tensor dx,
                                    struct trm_tensor dw, struct trm_tensor dbias,
                                    struct trm_tensor dy, struct trm_tensor x, struct trm_tensor w,
                                    struct trm_tensor pre, enum trm_activation activation,
                                    bool accumulate);

#endif
