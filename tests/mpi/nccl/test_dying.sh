#!/bin/bash
# A rank that dies, stops or aborts in the middle of NCCL operations: every other rank leaves within
# its deadline, by itself, with all its communicators aborted. test_dying.sh PROGRAM MPIRUN RANKS
set -euo pipefail
program=$1 mpirun=$2 ranks=$3
communicators=$((ranks > 2 ? 3 : 2)) # of a rank: the world's, data, and tensor where it has peers
folder=$(mktemp -d)
job=
cleanup() {
    [ -z "$job" ] || kill -KILL "$job" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $*"
    cat "$folder/out" "$folder/err"
    exit 1
}

# start MODE [OPTION]: mpirun in the background.
start() {
    : >"$folder/out"
    timeout 100 "$mpirun" ${2:+"$2"} -np "$ranks" "$program" "$1" >"$folder/out" 2>"$folder/err" &
    job=$!
}

lines() { grep -c "$1" "$folder/out" || true; }

# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

all_told() { [ "$(lines '^rank ')" = $((ranks - 1)) ]; }

for mode in kill stop; do
    start $mode --enable-recovery # mpirun leaves the others alone when one dies
    wait_until 60 all_told || fail "$mode: not every rank noticed"
    [ "$(lines "^rank [0-9]*: timeout: .* did not complete in time: .*; aborted $communicators in 1 group$")" = \
        $((ranks - 1)) ] || fail "$mode: wrong words"
    if [ $mode = stop ]; then # the harness ends whom it stopped
        kill -KILL "$(sed -n 's/^pid //p' "$folder/out")"
    fi
    wait "$job" 2>/dev/null || true
    job=
    echo "$mode: $((ranks - 1)) ranks noticed by their deadlines"
done

start abort
code=0
wait "$job" || code=$?
job=
[ "$code" = 69 ] || fail "abort: exit code $code instead of 69"
[ "$(lines '^rank ')" = 0 ] || fail "abort: a rank lived long enough to speak"
echo "abort: the job ended with the code that was given"
