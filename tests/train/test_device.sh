#!/bin/bash
# A whole training on a device: the CPU's losses, the same bits on any number of data-parallel ranks
# and in any order of the streams, and checkpoints that go to and fro between device and CPU.
. "$(dirname "$0")/device.sh"

on_cpu cpu 1
device one 1
near one cpu 6 1e-5 "the losses of the device are those of the CPU"
for order in "2 2" "4 3" "2 4"; do
    set -- $order
    TRIREME_FAKE_GPU_SEED=$2 device "dp$1_$2" "$1"
    same one "dp$1_$2" "data-parallel 1 and $1, streams in order $2"
done
device groups 4 --exchange-group-size 2 --ddp-bucket-size 0 --save-interval 2
same one groups "ranks that sum in groups, a bucket per layer, and saves on the way"
[ "$(ls -d "$scratch"/groups/checkpoints/step-* | wc -l)" = 3 ] || fail "three checkpoints"
for level in attention full; do
    device "recompute_$level" 2 --recompute-granularity "$level"
    same one "recompute_$level" "without recomputation and with that of $level"
done
device fastest 2 --reduction fastest
near fastest one 6 1e-5 "the vendor's reduction"

on_cpu cpu_tp2 2 --tp 2
device tp2 2 --tp 2
near tp2 cpu_tp2 6 1e-5 "tensor-parallel 2: the losses of the CPU"
TRIREME_FAKE_GPU_SEED=7 device tp2_dp2 4 --tp 2
same tp2 tp2_dp2 "tensor-parallel 2: data-parallel 1 and 2"
device sp2 2 --tp 2 --sequence-parallel
near sp2 cpu_tp2 6 1e-5 "sequence parallelism: the losses of the CPU"
TRIREME_FAKE_GPU_SEED=11 device sp2_dp2 4 --tp 2 --sequence-parallel --recompute-granularity attention
same sp2 sp2_dp2 "sequence parallelism: data-parallel 1 and 2"

# To and fro.
device_ends stopped 2 75 --exit-interval 3
cp -r "$scratch/stopped" "$scratch/to_cpu"
device stopped 4
same one stopped "stopped on 2 ranks, resumed on 4"
on_cpu to_cpu 1
near to_cpu cpu 6 1e-5 "saved by the device, resumed on the CPU"
says to_cpu 'device was cuda in the checkpoint and is cpu now'
code=0
train to_device 2 $short --device cpu --exit-interval 3 || code=$?
[ "$code" = 75 ] || fail "a stop at step 3 exits 75, not $code"
device to_device 1
near to_device cpu 6 1e-5 "saved by the CPU, resumed on the device"

# What a profiler shows: the phases of a step, none in another.
TRIREME_FAKE_NVTX=$scratch/ranges.txt device ranges 1 --eval-iters 0
expected="reading data|forward|backward|forward|backward|forward|backward|forward|backward|gradient exchange|optimizer"
grep -q "|$expected|" <(sed 's/^0 //' "$scratch/ranges.txt" | uniq | tr '\n' '|') ||
    { cat "$scratch/ranges.txt"; fail "a profiler does not see the phases of a step"; }
pass "phases are ranges for profilers"

# The log line, with an NVML that is a fake.
LD_LIBRARY_PATH=$TRIREME_BIN/../tests/nvml-whole device gauges 1
grep -q '| [0-9.e-]* TFLOP/s per GPU, MFU [0-9.]* % of 66.91 | 61 GiB of 80 GiB, 64 C, 1755 MHz$' "$scratch/gauges.out" ||
    { cat "$scratch/gauges.out"; fail "the log line has no gauges"; }
says gauges 'MFU is of 66.9 TFLOP/s per GPU: 132 multiprocessors x 1980 MHz x 256 FLOPs a clock'
grep -q '"mfu": .*"gpu_clock_mhz": 1755' "$scratch/gauges/metrics.jsonl" || fail "metrics.jsonl has no gauges"
pass "TFLOP/s, MFU with its peak, and the state of the GPU in the log line"

# A rank takes the GPU of its number on the node, of those that it sees; if it sees one alone, that.
takes() { # takes NAME GPU...
    local name=$1 rank=0 expected=
    shift
    for gpu in "$@"; do
        expected+="rank $rank takes GPU $gpu"$'\n'
        rank=$((rank + 1))
    done
    [ "$(sort -u "$scratch/$name.gpus")" = "${expected%?}" ] || { cat "$scratch/$name.gpus"; fail "$name: other GPUs than $*"; }
}
CUDA_VISIBLE_DEVICES=5,3 TRIREME_FAKE_GPU_NOTE=$scratch/visible.gpus device visible 2
takes visible 5 3
printf '#!/bin/sh\nCUDA_VISIBLE_DEVICES=$((OMPI_COMM_WORLD_LOCAL_RANK + 2)) exec %q "$@"\n' "$emulated" >"$scratch/own_gpu"
chmod +x "$scratch/own_gpu"
(emulated=$scratch/own_gpu TRIREME_FAKE_GPU_NOTE=$scratch/own.gpus device own 2)
takes own 2 3
pass "each rank takes a GPU of its own"

# The health check of a node looks at each of its GPUs.
TRIREME_FAKE_GPUS=2 "$emulated" --self-test --device auto >"$scratch/well.out"
grep -q '"fingerprint": "emulated GPU, .*"gpus": 2' "$scratch/well.out" || { cat "$scratch/well.out"; fail "two GPUs are not tested"; }
code=0
TRIREME_FAKE_GPUS=2 TRIREME_FAKE_GPU_ILL=1 "$emulated" --self-test --device cuda 2>"$scratch/ill.err" || code=$?
[ "$code" = 70 ] || fail "a self-test on a GPU that computes nothing exits $code"
says ill 'GPU 1: this GPU computes wrongly: a matrix product with an activation is off'
pass "the self-test passes GPUs that are well, and names the one that is not"

# What can't be, said before anything is allocated or trained.
TRIREME_FAKE_GPUS=1 device_ends gpus 2 78
says gpus 'ranks number 1 and 2 of this node would drive one GPU (0000:01:00.0); start one rank per GPU'
TRIREME_FAKE_GPUS=2 device_ends more 3 78
says more 'this node has 2 GPUs for its rank number 3; start one rank per GPU'
TRIREME_FAKE_GPU_BYTES=1650000 device_ends memory 2 71 --micro-batch-size 2
says memory 'needs 1.* MiB per GPU, has 1.6 MiB: use .*--micro-batch-size 1'
[ -z "$(ls "$scratch/memory/checkpoints" 2>/dev/null)" ] || fail "a run that has no memory saves"
TRIREME_FAKE_GPU_BYTES=100000 device_ends nothing 1 71
says nothing 'neither recomputation nor a smaller micro batch is enough'
# 30 rows are not shared by 4 ranks: half the micro batch is no way out.
TRIREME_FAKE_GPU_BYTES=100000 device_ends rows 4 71 --tp 4 --sequence-parallel --micro-batch-size 2 --seq-length 30
says rows 'neither recomputation nor a smaller micro batch is enough'
pass "too few GPUs, and too little memory, are told in one sentence with what would fit"
finish
