#!/bin/bash
# Attempts of one run that die in every phase, with agents that keep memory slots: the run goes on
# from memory, without a step lost that was copied, and ends equal. Two nodes of two ranks; a node
# that is lost with its slots; both; and a change of layout.
. "$(dirname "$0")/lib.sh"
make_text

tests=$TRIREME_BIN/../tests
faulty=$tests/trireme-train-faults
mkfifo "$scratch/to_agent"

# The agents of both nodes, until the test ends.
"$tests/slot_agent" "$scratch/n0" "$scratch/n1" <"$scratch/to_agent" >"$scratch/agent.out" &
agent=$!
exec 7>"$scratch/to_agent"
before_leaving() { exec 7>&- && wait "$agent"; }
until grep -q ready "$scratch/agent.out" 2>/dev/null; do kill -0 "$agent"; sleep 0.02; done

# lose NODE: its slots are gone.
lose() {
    local before
    before=$(grep -c lost "$scratch/agent.out" || true)
    echo "lose $scratch/$1" >&7
    until [ "$(grep -c lost "$scratch/agent.out" || true)" -gt "$before" ]; do sleep 0.02; done
}

# Agents are those of one run: another one begins with others.
another_run() {
    lose n0
    lose n1
}

# A step that takes no time leaves none for the thread that copies: here each waits a moment.
moment="*,*,forward,*,slow:50;"

# attempt NAME NUMBER RANKS FAULT [--key value ...]: two ranks to a node; the exit code.
attempt() {
    local name=$1 number=$2 ranks=$3 fault=$4 code=0
    shift 4
    TRIREME_ATTEMPT=$number TRIREME_FAULT=$moment$fault timeout -s KILL 300 mpirun -np "$ranks" \
        -x TRIREME_ATTEMPT -x TRIREME_FAULT sh -c '
            node=n$((OMPI_COMM_WORLD_RANK / 2))
            export TRIREME_RUNTIME="$0/$node" TRIREME_DOMAIN="$node"
            exec "$@"' "$scratch" "$faulty" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" --memory-interval "${interval:-1}" "$@" \
        >"$scratch/$name.$number.out" 2>"$scratch/$name.$number.err" </dev/null || code=$?
    echo "$code"
}

# must_fail, must_end: what is expected of an attempt.
must_fail() {
    local code
    code=$(attempt "$@")
    [ "$code" = 137 ] || { cat "$scratch/$1.$2.err"; fail "attempt $2 of $1 was to be killed ($4), and exits $code"; }
}

must_end() {
    local code
    code=$(attempt "$@")
    [ "$code" = 0 ] || { cat "$scratch/$1.$2.err"; fail "attempt $2 of $1 exits $code"; }
}

# says NAME NUMBER PATTERN
says() {
    grep -Eq "$3" "$scratch/$1.$2.err" "$scratch/$1.$2.out" || { cat "$scratch/$1.$2.err"; fail "attempt $2 of $1 does not say: $3"; }
}

must_train whole 2

# Each attempt dies somewhere else. The copy of the step before has begun, or the one before that is
# still on its way; the machine may keep a thread from running for one more.
number=0
from=0
for place in "3,5,forward" "0,8,grad_exchange" "1,11,optimizer" "2,14,memory" "3,17,updated"; do
    number=$((number + 1))
    must_fail phases "$number" 4 "${place%%,*},${place#*,},*,kill"
    if [ "$number" -gt 1 ]; then
        says phases "$number" "resumed at step ($from|$((from - 1))|$((from - 2))|$((from - 3))) from memory \(own node [0-9.]+ [KM]iB, peers 0 B\)"
    fi
    step=${place#*,}
    from=$((${step%%,*} - 1))
done
number=$((number + 1))
must_end phases "$number" 4 ""
says phases "$number" "resumed at step (16|15|14|13) from memory"
says phases "$number" "copies in memory: training stood still"
same phases whole "killed in five phases, each time resumed from memory"

# A node is lost with its memory: the partner's copies.
another_run
number=$((number + 1))
must_fail node "$number" 4 "2,9,grad_exchange,*,kill"
lose n1
number=$((number + 1))
must_end node "$number" 4 ""
says node "$number" "resumed at step [5-8] from memory \(own node [0-9.]+ [KM]iB, peers [1-9]"
same node whole "a node lost with its memory"

# Fewer ranks go on from the memory of more, and more from that of fewer.
another_run
number=$((number + 1))
must_fail layout "$number" 4 "2,6,optimizer,*,kill"
number=$((number + 1))
must_fail layout "$number" 3 "2,12,optimizer,*,kill"
says layout "$number" "resumed at step [2-5] from memory"
number=$((number + 1))
must_end layout "$number" 4 ""
says layout "$number" "resumed at step (8|9|10|11) from memory"
same layout whole "four ranks, then three, then four"

# Both nodes are lost: the disk, and if there is nothing, the start.
another_run
number=$((number + 1))
must_fail disk "$number" 4 "2,9,grad_exchange,*,kill" --save-interval 4 --save-async=false
lose n0
lose n1
number=$((number + 1))
must_fail disk "$number" 4 "1,16,grad_exchange,*,kill" --save-interval 4 --save-async=false
says disk "$number" 'resumed from ".*" \(step 8\)'
number=$((number + 1))
must_end disk "$number" 4 "" --save-interval 4 --save-async=false
says disk "$number" "resumed at step (12|13|14|15) from memory"
same disk whole "both nodes lost: the disk, then memory again"

# A rollback finds the step before the bad one in memory; a state that is not finite is passed over
# there, and a restart goes on with what the rollback decided. With a copy every 7 steps, that of step
# 7 begins as step 8 does, whatever time others took.
interval=7
TRAINER=$faulty
TRIREME_FAULT="1,8,optimizer,*,nan" must_train back_disk 2 --nonfinite-policy rollback --save-interval 5
another_run
number=$((number + 1))
must_end back "$number" 4 "3,8,optimizer,*,nan" --nonfinite-policy rollback
says back "$number" 'went back to step 7, and on without samples 56 to 63'
same back back_disk "rollback to a step in memory, and to one on disk"
another_run
number=$((number + 1))
must_end spoilt "$number" 4 "1,7,updated,*,inf" --nonfinite-policy rollback
says spoilt "$number" 'passed over step 7 in memory: .*that is not finite'
says spoilt "$number" 'went back to step 0, and on without samples 56 to 63'
same spoilt back_disk "rollback past a state in memory that is not finite"
another_run
number=$((number + 1))
must_fail again "$number" 4 "3,8,optimizer,*,nan;0,9,forward,*,kill" --nonfinite-policy rollback
number=$((number + 1))
must_end again "$number" 3 "" --nonfinite-policy rollback
# The rollback itself is on disk, as step 7; it is as new as what memory holds whole, or older by one.
says again "$number" "resumed at step [78] from memory|resumed from .*step-00000007"
same again back_disk "killed after a rollback, resumed from what is newest"

# Without copies the slots are given back, and the disk is where a run goes on from.
another_run
number=$((number + 1))
interval=0
must_fail off "$number" 4 "2,9,grad_exchange,*,kill" --save-interval 4 --save-async=false
number=$((number + 1))
must_end off "$number" 4 "" --save-interval 4 --save-async=false
says off "$number" 'resumed from ".*" \(step 8\)'
same off whole "memory_interval 0"
finish
