#!/bin/bash
# `trireme run` with GPUs, which are emulated (tests/train/device.sh): ranks that die go on from memory,
# with the algorithms that the first attempt chose, to the same bits.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/local.sh"
cat >>"$scratch/tiny.yaml" <<'YAML'
# A rank that is parked for as long as this script needs is not to be taken for one that hangs.
recovery: {heartbeat_interval_ms: 50, lease_ms: 20000, progress_timeout_floor_ms: 60000, memory_interval: 1}
YAML
TRAINER=$TRIREME_BIN/../tests/trireme-train-emulated
export CUDA_VISIBLE_DEVICES=0,1 TRIREME_FAKE_GPU_SEED=1 BAD_SAMPLES="" BAD_LOSS=nan TRIREME_FAULT=""
device="--device cuda --train-iters 8 --gbs 4"

must_end calm 0 2 $device
# They die when both have updated: by then, the copies in memory that the step began with are made; the
# second also when the supervisor has heard that the run goes on.
TRIREME_FAULT="0,4,updated,1,park;1,4,updated,1,park;1,4,updated,1,kill;1,6,updated,2,park;0,6,updated,2,park;0,6,updated,2,segv" \
    begin struck 2 $device
parked struck 0 4 updated
parked struck 1 4 updated
release 1 4 updated
await struck "it goes on" grep -q '"event":"recovered","attempt":2' "$scratch/struck/events.jsonl"
parked struck 1 6 updated
parked struck 0 6 updated
release 0 6 updated
ends struck 0
same calm struck "ranks on GPUs that died"
tell struck "fault attempt=1 rank=1 signal=9 step=4" "recovered attempt=2 source=memory steps_lost=0" \
    "fault attempt=2 rank=0 signal=11 step=6" "recovered attempt=3 source=memory steps_lost=0" "end exit_code=0"
[ "$(grep -c 'chose algorithms for' "$scratch/struck.err")" = 1 ] &&
    [ "$(grep -c "go on with the checkpoint's algorithms" "$scratch/struck.err")" = 2 ] ||
    { cat "$scratch/struck.err"; fail "attempts do not go on with the algorithms of the first"; }
pass "from memory, with the algorithms of the first attempt"
finish
