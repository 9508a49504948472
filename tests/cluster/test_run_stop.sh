#!/bin/bash
# Asked to stop in every phase, bad numbers, and deaths in a collective, under `trireme run` on this
# machine.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/local.sh"
TRAINER=$faulty
cat >>"$scratch/tiny.yaml" <<'YAML'
# A rank that is parked for as long as this script needs is not to be taken for one that hangs.
recovery: {heartbeat_interval_ms: 50, lease_ms: 20000, progress_timeout_floor_ms: 60000, memory_interval: 1}
YAML
numbers=(--train-iters 40 --save-interval 10 --eval-interval 10 --eval-iters 1)

# stopped SIGNAL PHASE STEP: a run whose rank 1 is parked there when the supervisor gets the signal. It
# saves, leaves with 75, and the same command ends with the weights of a run that nothing happened to.
stopped() {
    local signal=$1 phase=$2 step=$3 name=$1.$2
    TRIREME_FAULT="1,$step,$phase,1,park" begin "$name" 2 "${numbers[@]}"
    parked "$name" 1 "$step" "$phase"
    kill -"$signal" $supervised
    # The supervisor's word that it was asked says less: the few steps that are left may be over sooner
    # than its own word arrives.
    await "$name" "its ranks know" ranks_know "$name"
    release 1 "$step" "$phase"
    ends "$name" 75
    [ -n "$(ls -d "$scratch/$name"/checkpoints/step-* 2>/dev/null)" ] || fail "$signal in $phase: no checkpoint"
    tell "$name" stop "end exit_code=75"
    [ "$(grep -c '"event":"fault"' "$scratch/$name/events.jsonl")" = 0 ] || fail "$signal in $phase: a stop was taken for a fault"
    must_end "$name" 0 2 "${numbers[@]}"
    same quiet "$name" "$signal in $phase of step $step: a checkpoint, 75, and a start that goes on"
}

must_train quiet 2 "${numbers[@]}"
stopped TERM startup 0
stopped USR1 comm_init 0
stopped TERM forward 1
stopped USR1 optimizer 13
stopped TERM snapshot 10
stopped USR1 save 10
stopped TERM evaluate 10

# Bad numbers on one rank: the policy decides, and the supervisor does not start a run again that stopped.
TRIREME_FAULT="1,13,optimizer,1,nan" must_end stops 76 2 "${numbers[@]}"
tell stops "attempt attempt=1" "end exit_code=76"
[ "$(grep -c '"event":"attempt"' "$scratch/stops/events.jsonl")" = 1 ] || fail "76 was tried again"
[ "$(basename "$(final stops)")" = step-00000010 ] || fail "a checkpoint of bad numbers: $(final stops)"
pass "NaN on one rank, policy stop: 76, once, and no checkpoint of it"
for policy in skip rollback; do
    TRIREME_FAULT="1,13,optimizer,1,nan" must_end $policy 0 2 "${numbers[@]}" --nonfinite-policy $policy
    tell $policy "attempt attempt=1" "end exit_code=0"
    [ "$(grep -c '"event":"attempt"' "$scratch/$policy/events.jsonl")" = 1 ] || fail "$policy began another attempt"
    grep -q "\"action\": \"$policy\"" "$scratch/$policy/metrics.jsonl" || fail "$policy is not in metrics.jsonl"
    pass "NaN on one rank, policy $policy: done in one attempt"
done

# A rank that dies in a collective of either kind of group.
must_train square 4 "${numbers[@]}" --tensor-model-parallel-size 2
TRIREME_FAULT="1,13,forward,1,kill;2,21,grad_exchange,2,kill;3,27,optimizer,3,segv" \
    must_end killed 0 4 "${numbers[@]}" --tensor-model-parallel-size 2
same square killed "deaths while others wait in tensor- and data-parallel groups"
tell killed "fault attempt=1 rank=1 signal=9" "fault attempt=2 rank=2 signal=9" "fault attempt=3 rank=3 signal=11" "end exit_code=0"
pass "and each is named"

agents_are_gone
pass "nothing is left"
finish
