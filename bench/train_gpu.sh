#!/bin/bash
# Training steps of GPT-2 sizes in bfloat16 on one GPU (sequence 1024):
#   bench/train_gpu.sh [STEPS]
# step:   forward, backward and update of one micro-batch, without data files, ranks or checkpoints, against
#         the largest matrix product measured in the same process; then its time by class of op, each against
#         its floor (FLOPs of that product, bytes of a copy)
# sum:    the ordered sum of gradients against the bytes that it moves
# stall:  how long trireme-train stands still per asynchronous save, with GPT-2 124M
# Exits 77 where there is no GPU, 69 where there is no nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-20}

command -v nvcc >/dev/null || { echo "there is no nvcc on the PATH; install the CUDA Toolkit"; exit 69; }
log=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$log" "$work"' EXIT
cmake --preset cuda >"$log" 2>&1 && cmake --build --preset cuda --target gpu_programs trireme trireme-train >>"$log" 2>&1 ||
    { cat "$log"; echo "the build of preset cuda failed"; exit 1; }

while read -r model batch; do
    build/cuda/gpu/bench_train_gpu "$model" "$batch" "$steps" || exit $?
done <<'MODELS'
124M 32
350M 16
774M 8
1558M 4
MODELS

build/cuda/gpu/bench_ordered_sum_cuda

. bench/lib.sh
bench_text "$work" build/cuda/bin/trireme
mpirun --allow-run-as-root --bind-to none -np 1 build/cuda/bin/trireme-train examples/configs/gpt2-124m.yaml \
    --device cuda --precision bf16 --train-data-path "$work/text.bin" --run-dir "$work/run" --mbs 32 --gbs 32 --lanes 1 \
    --train-iters 65 --lr-decay-iters 100000 --eval-iters 0 --save-interval 10 --keep-latest 1 \
    >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }
grep 'step     65/65' "$work/out"
python3 bench/stall.py "$work/err" "$work/run/metrics.jsonl"
