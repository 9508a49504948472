#!/bin/bash
# A run that hangs under plain mpirun ends by itself and names who holds it up; under an agent its
# ranks end when the lease lapses or the agent goes, and stop when the agent asks.
. "$(dirname "$0")/lib.sh"

tests=$TRIREME_BIN/../tests
TRAINER=$tests/trireme-train-faults
make_text
host=$(hostname)
# A hang is told from a slow machine by time alone: the bounds are longer than a process is ever kept
# from running, and only the ranks that hang wait for them. They do not grow with a step that was long.
limits=(--progress-timeout-floor-ms 10000 --progress-timeout-ceiling-ms 20000 --progress-timeout-factor 1)

# hangs NAME RANKS FAULT SENTENCE [--key value ...]: exit code 69 and a line that matches.
hangs() {
    local name=$1 ranks=$2 fault=$3 sentence=$4 code=0
    shift 4
    TRIREME_FAULT=$fault train "$name" "$ranks" --train-iters 8 "${limits[@]}" "$@" || code=$?
    [ "$code" = 69 ] || { cat "$scratch/$name.err"; fail "$fault: exit code $code, not 69"; }
    grep -Eq "error: no progress for [0-9.]+ .*, so the job ends: $sentence" "$scratch/$name.err" ||
        { cat "$scratch/$name.err"; fail "$fault: nobody says \"$sentence\""; }
    [ "$(grep -c 'so the job ends' "$scratch/$name.err")" = 1 ] || fail "$fault: it is said more than once"
    pass "$fault: $(grep -o 'so the job ends: .*' "$scratch/$name.err" | cut -c 18-)"
}

# What is started in the background is completed by the ranks together.
missed="(did not arrive at|has started and does not complete) [a-z-]+ [0-9]+ of the"
hangs forward 2 "1,3,forward,*,hang" \
    "rank 1 on $host $missed (data group|world) \(step 3\): in forward for [0-9.]+ s; rank 0 waits for "
hangs stopped 2 "0,2,optimizer,*,stop" \
    "rank 0 on $host $missed world \(step 2\): in optimizer for [0-9.]+ s, stopped by a signal; rank 1 waits for "
# It is missed in both of its groups, first by whoever came first.
hangs tensor 4 "2,3,forward,*,hang" \
    "rank 2 on $host $missed (tensor|data) group \(step 3\): in forward for [0-9.]+ s; rank [03] waits for [0-9.]+ s, and 2 more behind it" \
    --tensor-model-parallel-size 2
hangs evaluate 2 "1,4,evaluate,*,hang" \
    "rank 1 on $host $missed world \(step 4\): in evaluation for " --eval-interval 4
hangs start 2 "1,0,comm_init,*,hang" "rank 1 on $host $missed world: in communicator set-up for "

# Storage has a limit of its own, and is told before.
hangs storage 2 "0,4,save,*,hang" "rank [01] on $host .*waiting for storage, in saving for " \
    --save-interval 4 --no-save-async --io-timeout-ms 20000
grep -q "warning: no progress: rank [01] on $host .*waiting for storage" "$scratch/storage.err" ||
    { cat "$scratch/storage.err"; fail "waiting for storage is not told"; }
pass "waiting for storage is told before it is a hang"

# Flight records have lost their name before the first step, so that no end of a run leaves it.
TRIREME_FAULT="0,1,forward,*,park" TRIREME_FAULT_DIR=$scratch \
    train named 2 --train-iters 5 --progress-timeout-floor-ms 120000 &
run=$!
parked=$scratch/parked.0.1.forward
until [ -e "$parked" ]; do kill -0 "$run" 2>/dev/null || fail "no rank was parked: $(cat "$scratch/named.err")"; sleep 0.05; done
read -r _ pid _ <"$parked"
names=$(grep -o '/dev/shm/trireme-flight-.*' "/proc/$pid/maps" | sort -u) || true
touch "$parked.release"
wait "$run" || fail "a rank that was let go fails: $(cat "$scratch/named.err")"
[[ $names = *" (deleted)" && $names != *$'\n'* ]] || fail "flight records of a run that trains are \"$names\""
pass "nothing is left in /dev/shm"

# under_agent NAME ACTION [--key value ...]: two ranks under a test agent that acts at step 3.
under_agent() {
    local name=$1 action=$2
    shift 2
    code=0
    "$tests/agent_run" "$action" 2 3 mpirun -np 2 "$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" --train-iters 100000 \
        --log-interval 1000 "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null || code=$?
}
# says NAME CODE TEXT: how it ended, and what the agent found in a record. The rank that exits first
# has mpirun end the other, wherever that one is by then.
says() {
    [ "$code" = "$2" ] || { cat "$scratch/$1".*; fail "$1: exit code $code, not $2"; }
    grep -q "^rank [01]: exit code $2, .*$3" "$scratch/$1.out" ||
        { cat "$scratch/$1".*; fail "$1: no record says \"$3\""; }
    pass "$1: exit code $2, \"$3\" in the records"
}

under_agent lapse lapse
says lapse 69 "lease has lapsed"
under_agent gone close
[ "$code" = 69 ] && grep -q "the agent of this node is gone" "$scratch/gone.err" ||
    { cat "$scratch/gone.err"; fail "ranks outlive their agent: exit code $code"; }
pass "ranks end when their agent is gone"
under_agent stop stop
says stop 75 "stopped on request"
[ -n "$(final stop)" ] || fail "a stop leaves no checkpoint"
under_agent refuse refuse
[ "$code" = 69 ] && grep -q "refused: this attempt is over" "$scratch/refuse.err" ||
    { cat "$scratch/refuse.err"; fail "refused ranks: exit code $code"; }
pass "a refused rank leaves, and says why"
under_agent config none --lr -1
says config 78 "lr"
finish
