#!/bin/bash
# `trireme run` with GPUs, which are emulated (tests/train/device.sh): ranks that die go on from memory,
# with the algorithms that the first attempt chose, to the same bits.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/local.sh"
cat >>"$scratch/tiny.yaml" <<'YAML'
recovery: {heartbeat_interval_ms: 50, lease_ms: 3000, memory_interval: 1}
YAML
TRAINER=$TRIREME_BIN/../tests/trireme-train-emulated
export CUDA_VISIBLE_DEVICES=0,1 TRIREME_FAKE_GPU_SEED=1 BAD_SAMPLES="" BAD_LOSS=nan TRIREME_FAULT=""
device="--device cuda --train-iters 8 --gbs 4"

must_end calm 0 2 $device
TRIREME_FAULT="1,4,grad_exchange,1,kill;0,6,optimizer,2,segv" must_end struck 0 2 $device
same calm struck "ranks on GPUs that died"
tell struck "fault attempt=1 rank=1 signal=9 step=4" "recovered attempt=2 source=memory steps_lost=0" \
    "fault attempt=2 rank=0 signal=11 step=6" "recovered attempt=3 source=memory steps_lost=0" "end exit_code=0"
[ "$(grep -c 'chose algorithms for' "$scratch/struck.err")" = 1 ] &&
    [ "$(grep -c "go on with the checkpoint's algorithms" "$scratch/struck.err")" = 2 ] ||
    { cat "$scratch/struck.err"; fail "attempts do not go on with the algorithms of the first"; }
pass "from memory, with the algorithms of the first attempt"
finish
