/* What trainer/ops/cuda calls of NVTX, for a profiler that is a file (tests/fake/gpu/nvtx.c). */
#ifndef TRM_TESTS_FAKE_GPU_NVTX3_NVTOOLSEXT_H
#define TRM_TESTS_FAKE_GPU_NVTX3_NVTOOLSEXT_H

int nvtxRangePushA(const char *name);
int nvtxRangePop(void);

#endif
