#!/bin/bash
# Stop and resume: the same bits at another data-parallel size, equal tensors at another
# tensor-parallel size, and a request to stop at any moment loses nothing.
. "$(dirname "$0")/lib.sh"
make_text

must_train whole 2
code=0
train resumed 2 --exit-interval 10 || code=$?
[ "$code" = 75 ] || fail "a stop at step 10 exits 75, not $code: $(cat "$scratch/resumed.err")"
must_train resumed 3
same whole resumed "stopped at 10 on 2 ranks, resumed on 3"
[ "$(grep -c '"loss"' "$scratch/resumed/metrics.jsonl")" = 20 ] || fail "metrics.jsonl has a line per step"
[ "$(grep -o '"data_hash": "[^"]*"' "$scratch/whole/metrics.jsonl")" = \
  "$(grep -o '"data_hash": "[^"]*"' "$scratch/resumed/metrics.jsonl")" ] || fail "the data hash differs"
pass "every step is in metrics.jsonl once, with the same data hash"

must_train half 1 --train-iters 10 --lr-decay-iters 20
for layout in "1 1" "2 1" "2 2" "4 1"; do
    set -- $layout
    name="tp$1_dp$2"
    must_train "$name" $(($1 * $2)) --tp "$1" --load "$(final half)" --train-iters 10 --lr-decay-iters 20 --eval-iters 0
    "$TRIREME_BIN/trireme" ckpt diff "$(final half)" "$(final "$name")" >/dev/null ||
        fail "loaded at tensor-parallel $1, data-parallel $2, the tensors differ"
    pass "loaded at tensor-parallel $1 x data-parallel $2: every tensor bit for bit"
done
must_train back 2 --load "$(final tp2_dp2)" --train-iters 10 --lr-decay-iters 20 --eval-iters 0
"$TRIREME_BIN/trireme" ckpt diff "$(final half)" "$(final back)" >/dev/null || fail "there and back differs"
pass "tensor-parallel 2 and back: every tensor bit for bit"

for signal in TERM USR1; do
    name="stop_$signal"
    mpirun -np 1 sh -c 'echo $$ >"$0"; exec "$@"' "$scratch/pid" "$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" --train-iters 1000000 \
        --lr-decay-iters 20 --eval-iters 0 --log-interval 1 >"$scratch/$name.out" 2>"$scratch/$name.err" &
    launcher=$!
    until [ -s "$scratch/$name.out" ]; do kill -0 "$launcher"; sleep 0.05; done
    kill -s "$signal" "$(cat "$scratch/pid")"
    code=0
    wait "$launcher" || code=$?
    [ "$code" = 75 ] || fail "SIG$signal exits 75, not $code: $(cat "$scratch/$name.err")"
    grep -q 'stopped on request' "$scratch/$name.err" || fail "SIG$signal: no word of it"
    step=$(basename "$(final "$name")" | sed 's/step-0*//')
    [ "$step" -ge 1 ] || fail "SIG$signal left no checkpoint"
    must_train "$name" 2 --train-iters $((step + 3)) --lr-decay-iters 20 --eval-iters 0
    must_train "straight_$signal" 1 --train-iters $((step + 3)) --lr-decay-iters 20 --eval-iters 0
    same "$name" "straight_$signal" "SIG$signal at step $step: exit 75, and the rest is equal"
done
# Ranks that run different things are found out before the first step.
sed 's/lr: 3.0e-3/lr: 2.0e-3/' "$scratch/tiny.yaml" >"$scratch/other.yaml"
code=0
mpirun -np 1 "$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" --train-data-path "$scratch/text.bin" --run-dir "$scratch/mixed" : \
    -np 1 "$TRIREME_BIN/trireme-train" "$scratch/other.yaml" --train-data-path "$scratch/text.bin" --run-dir "$scratch/mixed" \
    >"$scratch/mixed.out" 2>"$scratch/mixed.err" </dev/null || code=$?
[ "$code" = 78 ] && grep -q "rank 1: its configuration's values differ from rank 0's" "$scratch/mixed.err" ||
    fail "ranks of different configurations exit $code: $(cat "$scratch/mixed.err")"
pass "ranks of different configurations are refused"

# A run that began from another's checkpoint goes on from its own when the same command comes again.
for steps in 14 20; do
    must_train seeded 2 --load "$(final half)" --train-iters "$steps" --lr-decay-iters 20
done
grep -q 'going on from them' "$scratch/seeded.err" || fail "no word of going on: $(cat "$scratch/seeded.err")"
grep -q 'step-00000014" (step 14)' "$scratch/seeded.err" || fail "the second start did not go on from step 14"
must_train straight 1 --train-iters 20
same seeded straight "the same command with --load goes on, and ends equal"

# Going back behind the newest step is for another directory.
code=0
train seeded 2 --ckpt-step 14 --train-iters 30 --lr-decay-iters 20 || code=$?
[ "$code" = 78 ] && grep -q 'holds step 20, newer than the step 14 asked for' "$scratch/seeded.err" ||
    fail "going back exits $code: $(cat "$scratch/seeded.err")"
pass "going back in the same directory is refused"

# A directory of checkpoints that can't be looked at may hold some: neither afresh, nor from `load`.
ln -s loop "$scratch/loop"
for load in auto "$(final seeded)"; do
    code=0
    train looped 2 --save "$scratch/loop" --load "$load" --train-iters 30 || code=$?
    [ "$code" = 74 ] || fail "checkpoints that can't be looked at exit $code: $(cat "$scratch/looped.err")"
    grep -q '^step' "$scratch/looped.out" && fail "it trained, where its checkpoints can't be looked at"
done
pass "checkpoints that can't be looked at: no fresh start"

# A finished run that is started again has nothing to do, and does it on any number of ranks.
must_train resumed 2
pass "a finished run started again"

# The matrix kernels keep their stack pointer in the heap: signals must not hit it. The run that is
# asked to stop is kept from ending until no signal comes any more: its mpirun would be ended by one.
TRIREME_FAULT="0,*,save,*,park" TRIREME_FAULT_DIR=$scratch \
    mpirun -np 2 "$TRIREME_BIN/../tests/trireme-train-faults" "$scratch/tiny.yaml" --train-data-path "$scratch/text.bin" --run-dir "$scratch/storm" \
    --hidden-size 512 --num-layers 4 --seq-length 128 --gbs 16 --mbs 8 --train-iters 100000 --eval-iters 0 --log-interval 1 \
    >"$scratch/storm.out" 2>"$scratch/storm.err" </dev/null &
launcher=$!
until [ -s "$scratch/storm.out" ]; do kill -0 "$launcher"; sleep 0.05; done
sent=0
until parked=$(ls "$scratch"/parked.0.*.save 2>/dev/null); do
    kill -s USR1 "$launcher" || fail "after $sent SIGUSR1 mpirun is gone: $(cat "$scratch/storm.err")"
    sent=$((sent + 1))
    sleep 0.01
done
touch "$parked.release"
code=0
wait "$launcher" || code=$?
[ "$code" = 75 ] || fail "a storm of SIGUSR1 to mpirun exits $code: $(cat "$scratch/storm.err")"
[ -d "$(final storm)" ] || fail "the storm left no checkpoint"
pass "a storm of $sent SIGUSR1 to mpirun: exit 75 and a checkpoint"
finish
