#!/bin/bash
# trireme-train itself on one GPU, started by tests/gpu/run.sh: twenty steps against the CPU's
# losses, the same bits run after run, with and without recomputation, stopped and resumed, and
# checkpoints to and fro between GPU and CPU; in fp32 and bf16, the latter also at sizes that tensor
# cores and fused attention take. (tests/train/test_device.sh does more of that on an emulated GPU.)
. "$(dirname "$0")/../train/device.sh"
emulated=${TRIREME_DEVICE_TRAINER:-$TRIREME_BIN/trireme-train}
short="--train-iters 20 --gbs 4 --no-matmul-search" # two searches may find different algorithms
wide="--precision bf16 --hidden-size 256 --seq-length 128 --micro-batch-size 2"

on_cpu cpu 1
device one 1
near one cpu 20 1e-4 "fp32: the losses are those of the CPU"
device again 1 --save-interval 4
same one again "fp32: the same bits again, with saves on the way"
for level in attention full; do
    device "recompute_$level" 1 --recompute-granularity "$level"
    same one "recompute_$level" "fp32: without recomputation and with that of $level"
done
device_ends stopped 1 75 --exit-interval 10
cp -r "$scratch/stopped" "$scratch/to_cpu"
device stopped 1
same one stopped "fp32: stopped and resumed"
on_cpu to_cpu 1
near to_cpu cpu 20 1e-4 "saved by the GPU, resumed on the CPU"
code=0
train to_gpu 1 $short --device cpu --exit-interval 10 || code=$?
[ "$code" = 75 ] || fail "a stop at step 10 exits 75, not $code"
device to_gpu 1
near to_gpu cpu 20 1e-4 "saved by the CPU, resumed on the GPU"

device half 1 --precision bf16
near half cpu 20 2e-2 "bf16: the losses are near those of the CPU"
device wide 1 $wide
device_ends wide_stopped 1 75 $wide --exit-interval 10
device wide_stopped 1 $wide
same wide wide_stopped "bf16, fused attention: stopped and resumed"
device wide_recompute 1 $wide --recompute-granularity attention
same wide wide_recompute "bf16, fused attention: with and without recomputation"
finish
