#!/bin/bash
# Training steps of GPT-2 sizes in bfloat16 on one GPU (sequence 1024), against the largest matrix
# product measured in the same process, and AdamW against a copy:
#   bench/train_gpu.sh [STEPS]
# Forward, backward and update of one micro-batch, without data files, ranks or checkpoints. Exits 77
# where there is no GPU, 69 where there is no nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-20}

command -v nvcc >/dev/null || { echo "there is no nvcc on the PATH; install the CUDA Toolkit"; exit 69; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset cuda >"$log" 2>&1 && cmake --build --preset cuda --target gpu_programs >>"$log" 2>&1 ||
    { cat "$log"; echo "the build of preset cuda failed"; exit 1; }

while read -r model batch; do
    build/cuda/gpu/bench_train_gpu "$model" "$batch" "$steps" || exit $?
done <<'MODELS'
124M 32
350M 16
774M 8
1558M 4
MODELS
