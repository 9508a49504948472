#!/bin/bash
# The algorithms of matrix products: rank 0 finds the fastest, all ranks use them, and checkpoints
# keep them. On the emulated GPU each algorithm has bits of its own, and each rank and each attempt
# another that is the fastest (tests/fake/gpu/cublaslt.c).
. "$(dirname "$0")/device.sh"

TRIREME_FAKE_GPU_FASTEST=1 device one 1
says one 'rank 0 chose algorithms for [0-9]* matrix products'
TRIREME_FAKE_GPU_FASTEST=2 device other 1
differ one other "another algorithm is other bits"
TRIREME_FAKE_GPU_FASTEST=1 device many 4
same one many "all ranks use what rank 0 found"
TRIREME_FAKE_GPU_FASTEST=1 device_ends stopped 2 75 --exit-interval 3
cp -r "$scratch/stopped" "$scratch/moved"
TRIREME_FAKE_GPU_FASTEST=2 device stopped 1
says stopped "matrix products go on with the checkpoint's algorithms"
same one stopped "an attempt that would find others goes on with those of the checkpoint"

TRIREME_FAKE_GPU_LIBRARY=7 TRIREME_FAKE_GPU_FASTEST=2 device moved 1
says moved 'the checkpoint was written on "emulated GPU, sm_90, cuBLASLt 0", this is "emulated GPU, sm_90, cuBLASLt 7": results agree to rounding'
says moved 'rank 0 chose algorithms for [0-9]* matrix products'
near moved one 6 1e-5 "with another library they are searched again, and that is said"

device first 1
TRIREME_FAKE_GPU_FASTEST=1 device unsearched 2 --no-matmul-search
same first unsearched "matmul_search: false takes the library's first"
finish
