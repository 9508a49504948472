#!/bin/bash
# Every phase is passed by the trainer, every action does what fault.h says, a fault strikes in its
# attempt alone, and the program that is installed knows nothing of it.
set -euo pipefail
. "$TRIREME_SOURCE/tests/train/lib.sh"
make_text

faulty=$TRIREME_BIN/../tests/trireme-train-faults
TRAINER=$faulty
options=(--train-iters 6 --save-interval 2 --eval-interval 3)
export OMPI_MCA_odls_base_sigkill_timeout=0 # mpirun pauses between signals otherwise
export TRIREME_FAULT TRIREME_FAULT_DIR=$scratch TRIREME_ATTEMPT=1

# A fault's run in a directory of its own, on 2 ranks; sets $code.
strike() {
    local name=$1
    TRIREME_FAULT=$2
    code=0
    train "$name" 2 "${options[@]}" || code=$?
}

# Rank 0, where the phase is that rank's alone; else 1, so that it isn't the one that reports.
while read -r phase step rank; do
    strike "$phase" "$rank,$step,$phase,1,exit:42"
    [ "$code" = 42 ] || { cat "$scratch/$phase.err"; fail "$phase at step $step: exit code $code, not 42"; }
done <<'END'
startup 0 1
comm_init 0 1
forward 3 1
grad_exchange 3 1
optimizer 3 1
snapshot 4 1
save 4 1
commit 4 0
evaluate 3 1
END
pass "a fault strikes in each phase"

strike none "*,*,*,2,exit:42"
[ "$code" = 0 ] || fail "a fault of attempt 2 struck in attempt 1: exit code $code"
TRIREME_ATTEMPT=2 strike second "1,3,forward,2,exit:42"
[ "$code" = 42 ] || fail "a fault of attempt 2 did not strike in attempt 2: exit code $code"
pass "a fault strikes in its attempt alone"

TRAINER=$TRIREME_BIN/trireme-train strike installed "*,*,*,*,kill"
[ "$code" = 0 ] || fail "the program that is installed was struck: exit code $code"
same none installed "the program with failpoints computes what the other does"

# one ACTION STATUS: a single process, without mpirun, so that its own end is seen.
one() {
    rm -rf "$scratch/one"
    code=0
    (TRIREME_FAULT="0,3,optimizer,1,$1" exec timeout -s KILL "${3:-60}" "$faulty" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/one" "${options[@]}") \
        >"$scratch/one.out" 2>"$scratch/one.err" </dev/null || code=$?
    [ "$code" = "$2" ] || { cat "$scratch/one.err"; fail "$1: exit code $code, not $2"; }
}
ulimit -c 0
one kill 137
one segv 139
one abort 134
one nan 76
one inf 76
one hang 137 2
one stop 137 2
one slow:1 0
one corrupt 0
exec 9>"$scratch/lock"
flock 9
one kill_parent 137
exec 9>&-
flock "$scratch/lock" true # until the orphan has ended, too
one exit:300 64
grep -q 'no such action' "$scratch/one.err" || fail "a fault that can't be read was not told"
pass "each action does what it says"

# A parked rank waits until it is let go; that others wait for it is no hang.
TRIREME_FAULT="1,3,grad_exchange,1,park"
train parked 2 "${options[@]}" --progress-timeout-floor-ms 120000 &
run=$!
name=$scratch/parked.1.3.grad_exchange
until [ -e "$name" ]; do kill -0 "$run" 2>/dev/null || fail "no rank was parked: $(cat "$scratch/parked.err")"; sleep 0.05; done
read -r host pid attempt <"$name"
[ "$host" = "$(hostname)" ] && [ "$attempt" = 1 ] && kill -0 "$pid" || fail "the parked rank says: $host $pid $attempt"
kill -0 "$run" || fail "the run ended although a rank is parked"
touch "$name.release"
wait "$run" || fail "the run did not go on after its rank was let go"
[ ! -e "$name" ] && [ ! -e "$name.release" ] || fail "a rank that went on left its mark"
same none parked "a rank that was parked and let go"
finish
