/* Ranges for profilers: NVTX by its headers alone, which do nothing where no tool listens. */
#include <nvtx3/nvToolsExt.h>

#include "trainer/ops/cuda/internal.h"

void trm_cuda_mark(struct trm_device *dev, const char *name)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    if (cuda->marked)
        nvtxRangePop();
    cuda->marked = name != NULL;
    if (cuda->marked)
        nvtxRangePushA(name);
}
