/* How a function is marked that is compiled for the device by sum.cu, and for the host by tests. */
#ifndef TRM_COLLECTIVES_NCCL_KERNEL_H
#define TRM_COLLECTIVES_NCCL_KERNEL_H

#ifdef __CUDACC__
#define TRM_KERNEL static __device__ __forceinline__
#else
#define TRM_KERNEL static inline
#endif

#endif
