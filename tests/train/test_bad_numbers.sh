#!/bin/bash
# NaN, infinities and loss spikes under each policy, on any number of ranks, interrupted and not;
# and copies of the parameters that differ.
. "$(dirname "$0")/lib.sh"
make_text

samples=$TRIREME_BIN/../tests/trireme-train-bad-samples # bad samples: they come back
faults=$TRIREME_BIN/../tests/trireme-train-faults       # a fault of the machine strikes once
export TRIREME_ATTEMPT=1 TRIREME_FAULT="" BAD_SAMPLES="" BAD_LOSS=nan
export OMPI_MCA_odls_base_sigkill_timeout=0

# run NAME RANKS CODE [--key value ...]: a run that ends with that exit code.
run() {
    local name=$1 ranks=$2 expected=$3 code=0
    shift 3
    train "$name" "$ranks" "$@" || code=$?
    [ "$code" = "$expected" ] || { cat "$scratch/$name.err"; fail "run $name exits $code, not $expected"; }
}
says() { # says NAME TEXT
    grep -q -- "$2" "$scratch/$1.err" || { cat "$scratch/$1.err"; fail "run $1 does not say: $2"; }
}
newest() { # newest NAME STEP: the newest checkpoint is of that step
    [ "$(basename "$(final "$1")")" = "$(printf 'step-%08d' "$2")" ] || fail "run $1 ends with $(final "$1"), not step $2"
}
manifest() { # manifest NAME KEY
    grep "^\"$2\": " "$(final "$1")/manifest.json" | sed 's/^[^:]*: //; s/,$//'
}

# --- stop: nothing of the bad step is kept, on any rank.
TRAINER=$samples
BAD_SAMPLES=45 # of step 6
for ranks in 1 2 3; do
    run "stop$ranks" "$ranks" 76 --save-interval 2
    newest "stop$ranks" 4
    "$TRIREME_BIN/trireme" ckpt verify "$(final "stop$ranks")" >/dev/null || fail "the checkpoint before the NaN is damaged"
done
says stop3 'step 6: loss is nan on rank 2 ('
[ "$(grep -c '"loss"' "$scratch/stop3/metrics.jsonl")" = 5 ] || fail "metrics of five steps"
grep -q '"step": 6, "bad_step": 6, "reason": "not finite", "action": "stop", "bad_samples": \[40, 8\]' "$scratch/stop3/metrics.jsonl" ||
    fail "the bad step is not in metrics.jsonl"
pass "stop: 1, 2 and 3 ranks exit 76 with the newest checkpoint from before"

BAD_SAMPLES=""
must_train clean 2
TRAINER=$faults
for phase in optimizer updated; do
    TRIREME_FAULT="1,6,$phase,1,inf"
    run "inf_$phase" 3 76 --save-interval 2 --replica-check-interval 0
    newest "inf_$phase" 4
done
says inf_updated 'that is not finite'
TRIREME_FAULT=""
pass "an infinite gradient, and an infinite parameter after an update, are never saved"

# --- skip: the same bits on any number of ranks, and the samples are recorded.
TRAINER=$samples
BAD_SAMPLES="45 48 100" # steps 6, its second try, and 11
for ranks in 1 2 3; do
    run "skip$ranks" "$ranks" 0 --nonfinite-policy skip --save-interval 4
done
same skip1 skip2 "skip: 1 and 2 ranks"
same skip1 skip3 "skip: 1 and 3 ranks"
differ skip1 clean "samples were left out"
[ "$(manifest skip1 skips)" = "[[40, 16], [96, 8]]" ] || fail "skips: $(manifest skip1 skips)"
[ "$(manifest skip1 next_sample)" = 184 ] || fail "20 steps and three skips end at sample $(manifest skip1 next_sample)"
[ "$(grep -c '"loss"' "$scratch/skip1/metrics.jsonl")" = 20 ] || fail "each step is in metrics.jsonl once"
[ "$(grep -c '"action": "skip"' "$scratch/skip1/metrics.jsonl")" = 3 ] || fail "each skip is in metrics.jsonl"
says skip1 'step 6: .*skipped samples 48 to 55 (try 2 of at most 8)'
pass "skip: what was left out is in the checkpoint and in metrics.jsonl"

# A step of the run without the bad samples is the same step: nothing of the bad one was applied.
BAD_SAMPLES=45
run skip_end 2 0 --nonfinite-policy skip --train-iters 10 --lr-decay-iters 20
BAD_SAMPLES=""
run skip_at_5 2 75 --exit-interval 5 --lr-decay-iters 20 --train-iters 10
TRAINER=$faults
TRIREME_FAULT="0,6,optimizer,1,nan"
run skip_at_5 3 0 --nonfinite-policy skip --train-iters 10 --lr-decay-iters 20
TRIREME_FAULT=""
same skip_end skip_at_5 "skip: bad samples, and a fault that strikes once in a resumed run"

# Stopped between a skip and the next save, and resumed.
TRAINER=$samples
BAD_SAMPLES="45 48 100"
run skip_half 3 75 --nonfinite-policy skip --exit-interval 7
run skip_half 2 0 --nonfinite-policy skip
same skip1 skip_half "skip: stopped at 7 on 3 ranks and resumed on 2"

# Stopped between a skip and the try that follows: the step before is saved, with what was skipped.
BAD_STOP=yes run skip_between 3 75 --nonfinite-policy skip
newest skip_between 5
[ "$(manifest skip_between skips)" = "[[40, 8]]" ] && [ "$(manifest skip_between next_sample)" = 48 ] ||
    fail "stopped after a skip: $(manifest skip_between skips), $(manifest skip_between next_sample)"
[ "$(manifest skip_between guard)" = '{"recent_losses": [], "skips_in_row": 1}' ] || fail "tries: $(manifest skip_between guard)"
run skip_between 2 0 --nonfinite-policy skip
same skip1 skip_between "skip: stopped between two tries and resumed"

# The same where that step was saved before: it is saved again.
BAD_STOP=yes run skip_saved 3 75 --nonfinite-policy skip --save-interval 1
newest skip_saved 5
[ "$(manifest skip_saved skips)" = "[[40, 8]]" ] || fail "stopped after a skip and a save: $(manifest skip_saved skips)"
run skip_saved 2 0 --nonfinite-policy skip
same skip1 skip_saved "skip: stopped between two tries of a step behind one that was saved"

run skip_bound 2 76 --nonfinite-policy skip --max-consecutive-skips 1 --save-interval 2
says skip_bound 'step 6: .*; that is the end of max_consecutive_skips'
newest skip_bound 4
pass "skip: bounded"

# --- rollback: back to the newest checkpoint, on without the samples, all of it recorded.
for ranks in 1 2 3; do
    run "back$ranks" "$ranks" 0 --nonfinite-policy rollback --save-interval 4
done
says back1 'step 6: .*; went back to step 4, and on without samples 40 to 47 (rollback 1 of at most 4)'
[ "$(manifest back1 lineage)" = 3 ] || fail "three rollbacks make lineage $(manifest back1 lineage)"
[ "$(manifest back1 skips)" = "[[40, 16], [96, 8]]" ] || fail "skips: $(manifest back1 skips)"
[ "$(manifest back1 next_sample)" = 184 ] || fail "next_sample: $(manifest back1 next_sample)"
[ "$(grep -c '"loss"' "$scratch/back1/metrics.jsonl")" = 20 ] || fail "each step is in metrics.jsonl once"
[ "$(grep -c '"action": "rollback"' "$scratch/back1/metrics.jsonl")" = 3 ] || fail "each rollback is in metrics.jsonl"
same back1 back2 "rollback: 1 and 2 ranks"
same back1 back3 "rollback: 1 and 3 ranks"
# The same samples in the same order as with skip, whose rolling hash counts skipped ones as well.
"$TRIREME_BIN/trireme" ckpt diff "$(final back1)" "$(final skip1)" >"$scratch/diff" || true
[ "$(grep -c . "$scratch/diff")" = 1 ] && grep -q '^data_hash: ' "$scratch/diff" ||
    { cat "$scratch/diff"; fail "rollback and skip of the same samples do not end with the same weights"; }
pass "rollback: the weights are those of skip"

# A fault that strikes once: what was left out stays so when the run is started again.
TRAINER=$faults
TRIREME_FAULT="1,6,optimizer,1,nan"
run once 2 0 --nonfinite-policy rollback --save-interval 4
[ "$(manifest once skips)" = "[[40, 8]]" ] && [ "$(manifest once lineage)" = 1 ] || fail "skips $(manifest once skips)"
for stop in 5 7; do
    TRIREME_ATTEMPT=1
    run "once$stop" 3 75 --nonfinite-policy rollback --save-interval 4 --exit-interval "$stop"
    TRIREME_ATTEMPT=2
    [ "$stop" = 7 ] || TRIREME_FAULT="1,6,optimizer,2,nan"
    run "once$stop" 2 0 --nonfinite-policy rollback --save-interval 4
    TRIREME_FAULT="1,6,optimizer,1,nan"
    same once "once$stop" "rollback: stopped at $stop and resumed"
done
TRIREME_ATTEMPT=1
# Killed on the way again: the rollback itself is durable before training goes on.
TRIREME_FAULT="1,6,optimizer,1,nan;*,7,forward,1,kill"
code=0
train killed 2 --nonfinite-policy rollback --save-interval 4 || code=$?
[ "$code" != 0 ] || fail "a killed run exits 0"
newest killed 4
[ "$(manifest killed lineage)" = 1 ] && [ "$(manifest killed skips)" = "[[40, 8]]" ] || fail "the rollback was not durable"
TRIREME_ATTEMPT=2 run killed 2 0 --nonfinite-policy rollback --save-interval 4
same once killed "rollback: killed after it, and started again"

# Killed before it has removed what it gave up: a restart doesn't go on from there.
flags="--nonfinite-policy rollback --save-interval 1 --no-save-async --rollback-skip-steps 3"
TRIREME_FAULT="1,6,optimizer,1,nan" run left 2 0 $flags
TRIREME_FAULT="" run torn 2 75 $flags --exit-interval 5
cp -a "$scratch/torn/checkpoints" "$scratch/kept"
code=0
TRIREME_ATTEMPT=2 TRIREME_FAULT="1,6,optimizer,2,nan;*,4,forward,2,kill" train torn 2 $flags || code=$?
[ "$code" != 0 ] || fail "a killed run exits 0"
newest torn 3
cp -a "$scratch"/kept/step-0000000[45] "$scratch/torn/checkpoints/"
TRIREME_ATTEMPT=3 TRIREME_FAULT="" run torn 2 0 $flags
says torn 'passed over checkpoint .*step-00000005": .*lineage 0, which was given up'
same left torn "rollback: killed before it removed what it gave up"

# What a rollback left is damaged: on from before it, and the rollback comes again.
TRAINER=$samples TRIREME_ATTEMPT=1 TRIREME_FAULT="" BAD_SAMPLES=45
run sound 2 0 --nonfinite-policy rollback --save-interval 2
BAD_STOP=yes run hurt 2 75 --nonfinite-policy rollback --save-interval 2
newest hurt 4
[ "$(manifest hurt lineage)" = 1 ] || fail "the rollback is of lineage $(manifest hurt lineage)"
python3 - "$(final hurt)" <<'PY'
import json, sys
step = sys.argv[1]
entry = json.load(open(step + "/manifest.json"))["files"][1]
with open(step + "/" + entry["name"], "r+b") as shard:
    shard.seek(entry["exp_avg"][0])
    byte = shard.read(1)[0]
    shard.seek(entry["exp_avg"][0])
    shard.write(bytes([byte ^ 4]))
PY
run hurt 2 0 --nonfinite-policy rollback --save-interval 2
says hurt 'passed over checkpoint .*step-00000004'
same sound hurt "rollback: the checkpoint that it left is damaged"
TRAINER=$faults

# Before there is a checkpoint: from the beginning.
TRIREME_FAULT="0,3,optimizer,1,nan"
run first 2 0 --nonfinite-policy rollback
says first 'went back to step 0, and on without samples 16 to 23'
TRAINER=$samples TRIREME_FAULT="" BAD_SAMPLES=20 run first_again 1 0 --nonfinite-policy rollback --save-interval 2
same first first_again "rollback: to the beginning, and to step 2"

# Several steps' samples are left out, and a parameter that an update spoilt is no step to skip.
TRIREME_FAULT="0,8,optimizer,1,nan"
run wide 2 0 --nonfinite-policy rollback --save-interval 4 --rollback-skip-steps 3
[ "$(manifest wide skips)" = "[[40, 24]]" ] || fail "three steps before 8 are $(manifest wide skips)"
says wide 'went back to step 4, and on without samples 40 to 63'
# Back behind all of them: checkpoints in between are given up, or a restart would go on from there.
for ranks in 2 3; do
    TRAINER=$samples TRIREME_FAULT="" BAD_SAMPLES=60 run "deep$ranks" "$ranks" 0 --nonfinite-policy rollback \
        --save-interval 2 --rollback-skip-steps 6
done
says deep2 'went back to step 2, and on without samples 16 to 63'
says deep2 'removed step 6, of the history that was given up'
[ "$(manifest deep2 skips)" = "[[16, 48]]" ] || fail "six steps up to 8 are $(manifest deep2 skips)"
same deep2 deep3 "rollback: behind several checkpoints, on 2 and 3 ranks"
TRAINER=$samples TRIREME_FAULT="" BAD_SAMPLES=60 BAD_STOP=yes run deep_stop 2 75 --nonfinite-policy rollback \
    --save-interval 2 --rollback-skip-steps 6
newest deep_stop 2
TRAINER=$samples TRIREME_FAULT="" BAD_SAMPLES=60 run deep_stop 1 0 --nonfinite-policy rollback --save-interval 2 --rollback-skip-steps 6
same deep2 deep_stop "rollback: stopped right after it and started again"
# Where retention left nothing so old, from before the bad step.
TRAINER=$samples TRIREME_FAULT="" BAD_SAMPLES=60 run shallow 2 0 --nonfinite-policy rollback \
    --save-interval 2 --no-save-async --keep-latest 1 --rollback-skip-steps 6
says shallow 'went back to step 6, and on without samples 48 to 63'
TRIREME_FAULT="0,8,updated,1,inf"
run updated 2 0 --nonfinite-policy skip --save-interval 4
says updated 'step 8 left something in .* went back to step 4, and on without samples 56 to 63'
# What was skipped since the checkpoint that comes back stays so.
TRIREME_FAULT="1,6,optimizer,1,nan;0,8,updated,1,inf"
run both 2 0 --nonfinite-policy skip --save-interval 4
[ "$(manifest both skips)" = "[[40, 8], [64, 8]]" ] || fail "a skip, then a rollback: $(manifest both skips)"
run validated 3 0 --nonfinite-policy rollback --save-interval 4 --eval-interval 8
says validated 'validation loss is .*nan.* went back to step 4'
pass "rollback: several steps, and a state that is not finite"

TRAINER=$samples TRIREME_FAULT=""
BAD_SAMPLES="45 48 100"
run back_bound 2 76 --nonfinite-policy rollback --save-interval 4 --max-rollbacks 1
says back_bound 'that is the end of max_rollbacks'
[ "$(manifest back_bound lineage)" = 1 ] || fail "lineage $(manifest back_bound lineage)"
pass "rollback: bounded over the run's life"

# --- loss spikes: judged by the losses before, which a resumed run knows.
BAD_LOSS=4000 BAD_SAMPLES="30 100" # before the window is full, and after
spike=(--loss-spike-factor 1.5 --loss-spike-window 6 --loss-spike-policy skip)
for ranks in 1 3; do
    run "spike$ranks" "$ranks" 0 "${spike[@]}"
done
same spike1 spike3 "spike: 1 and 3 ranks"
[ "$(manifest spike1 skips)" = "[[96, 8]]" ] || fail "spike: skips $(manifest spike1 skips)"
says spike1 'step 13: loss .* is a spike, above 1.5 times the median of the last 6'
run spike_half 2 75 "${spike[@]}" --exit-interval 12
run spike_half 3 0 "${spike[@]}"
same spike1 spike_half "spike: stopped right before it and resumed"
run spike_off 2 0
[ "$(manifest spike_off skips)" = "[]" ] || fail "without a factor nothing is a spike"
run spike_stop 2 76 "${spike[@]:0:4}"
pass "spike: no rule, no spike; stop stops"

# --- replicas: who deviates is named, nothing is saved.
TRAINER=$faults BAD_SAMPLES=""
TRIREME_FAULT="2,6,replicas,1,corrupt"
run replicas 4 68 --replica-check-interval 3 --save-interval 2 --no-save-async
says replicas "step 6: the parameters of rank 2 ($(hostname)) are not those of the other"
newest replicas 4
grep -q '"step": 6, "diverged": "rank 2 (.*)", "majority_is_right": true' "$scratch/replicas/metrics.jsonl" || fail "no line in metrics.jsonl"
TRIREME_FAULT="1,6,replicas,1,corrupt"
run tie 2 68 --replica-check-interval 1
says tie 'differ among rank 0 (.*), rank 1 (.*), and no more than half agree'
# Columns of a mesh vote for themselves; here data-parallel 3 x tensor-parallel 2.
TRIREME_FAULT="3,6,replicas,1,corrupt"
run mesh 6 68 --replica-check-interval 1 --tp 2 --gbs 6
says mesh 'the parameters of rank 3 ([^)]*) are not those'
pass "replicas: the rank that deviates is named, a tie is called one"
# A NaN that comes from a spoilt copy: the node is to blame, not the samples.
TRIREME_FAULT="1,6,optimizer,1,nan;2,6,replicas,1,nan"
run blame 3 68 --nonfinite-policy skip --replica-check-interval 1000
says blame 'step 6: the parameters of rank 2'
# What is begun to be saved is compared too.
TRIREME_FAULT="2,4,replicas,1,corrupt"
run blame_save 3 68 --save-interval 4 --replica-check-interval 1000
! ls -d "$scratch"/blame_save/checkpoints/step-* 2>/dev/null || fail "copies that differ were saved"
TRIREME_FAULT=""
run compared 3 0 --replica-check-interval 1
same clean compared "replicas: comparing changes nothing"
finish
