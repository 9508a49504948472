#!/bin/bash
# bfloat16 parameters and activations with float32 master weights: near the CPU's losses in float32,
# the same bits on any number of data-parallel ranks, and checkpoints that lose no bit of the masters
# and that a float32 run on a CPU takes as its own.
. "$(dirname "$0")/device.sh"
bf16="--precision bf16"

on_cpu cpu 1
device one 1 $bf16
near one cpu 6 1e-2 "the losses in bf16 are near those of the CPU in fp32"
device fp32 1
differ fp32 one "bf16 gives other bits than fp32"
for order in "2 2" "4 3"; do
    set -- $order
    TRIREME_FAKE_GPU_SEED=$2 device "dp$1" "$1" $bf16 --save-interval 2
    same one "dp$1" "data-parallel 1 and $1"
done
device recompute 2 $bf16 --recompute-granularity attention
same one recompute "with and without recomputation"

device tp2 2 $bf16 --tp 2
near tp2 cpu 6 1e-2 "tensor-parallel 2: the losses are near those of the CPU"
TRIREME_FAKE_GPU_SEED=7 device tp2_dp2 4 $bf16 --tp 2 --recompute-granularity full
same tp2 tp2_dp2 "tensor-parallel 2: data-parallel 1 and 2"
device tp4 4 $bf16 --tp 4 --sequence-parallel
near tp4 cpu 6 1e-2 "tensor-parallel 4, with sequence parallelism: the losses are near those of the CPU"

device_ends stopped 2 75 $bf16 --exit-interval 3
cp -r "$scratch/stopped" "$scratch/to_cpu"
device stopped 4 $bf16
same one stopped "stopped on 2 ranks, resumed on 4"
on_cpu to_cpu 2
near to_cpu cpu 6 1e-2 "saved in bf16 by the device, resumed in fp32 on the CPU"
says to_cpu 'precision was bf16 in the checkpoint and is fp32 now'

code=0
train refused 1 $short $bf16 --device cpu || code=$?
[ "$code" = 78 ] || fail "bf16 on the CPU exits $code"
says refused 'precision is bf16, and this run computes on the CPU'
pass "bf16 on a CPU is refused in one sentence"
finish
