#!/bin/bash
# Faults that meet what repairs others, over four hosts and two spares: a second one during a recovery,
# a node together with its partner, copies in memory that are spoilt, a node that spoils its parameters, deaths
# in collectives of tensor-parallel ranks; and what must not be tried again for ever, bad numbers and a crash that repeats.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 6 head
all=(node1 node2 node3 node4 node5 node6 head)
write_hostfile "${all[@]:0:6}"
export SPARES=2
arguments=(--train-iters 60 --save-interval 10)
no_loss=(--lease-ms 20000) # where no node is lost, and so none waited for
must_train quiet 4 "${arguments[@]}"

# begin NAME FAULTS [--key value ...]: in the background; $run.
begin() {
    local name=$1 faults=$2
    shift 2
    TRAINER=$(faulty_trainer "$faults") supervise "$name" "${arguments[@]}" "$@" &
    run=$!
}

must_finish() { # NAME
    local code=0
    wait $run || code=$?
    [ $code = 0 ] || { cat "$scratch/$1.err"; fail "the run $1 exited $code"; }
}

# A rank dies while the next attempt loads, and in the one after that a whole node while it loads.
begin again "1,23,forward,1,park;3,0,load,2,kill;2,0,load,3,park"
parked 1 23 forward
hosts_kill "$parked_host"
first=$parked_host
forget 1 23 forward
parked 2 0 load
[ "$parked_attempt" = 3 ] || fail "it is attempt $parked_attempt that loads, not 3"
hosts_kill "$parked_host"
second=$parked_host
forget 2 0 load
must_finish again
same quiet again "a node, then a rank that loads, then a node that loads"
must_tell again "fault attempt=1 node=$first" "fault attempt=2 rank=3 signal=9" "fault attempt=3 node=$second" \
    "recovered attempt=4" "end exit_code=0"
pass "and each is told"
hosts_boot "$first"
hosts_boot "$second"

# A node and the one that keeps its copies: back to the disk, and that is said. What is there was saved
# before training went on.
begin both "1,23,forward,1,park" --no-save-async
parked 1 23 forward
partner=$(sed -n "s/.*twice, in different failure domains (.*$parked_host to \(node[0-9]\).*/\1/p" "$scratch/both.err")
[ -n "$partner" ] || { cat "$scratch/both.err"; fail "the log does not say where $parked_host has its copies"; }
hosts_kill "$parked_host" &
hosts_kill "$partner"
wait $!
forget 1 23 forward
must_finish both
same quiet both "a node and its partner lost together"
must_tell both "fault attempt=1" "recovered attempt=2 source=disk" "end exit_code=0"
grep -q 'resumed at step [12]0 from disk' "$scratch/both.err" || { cat "$scratch/both.err"; fail "no sentence says that it was the disk"; }
pass "the disk is what is left, and the sentence says so"
hosts_boot "$parked_host"
hosts_boot "$partner"

# All copies on one node are spoilt: named, and taken from the partners. Steps take as long as their copies
# need, and those of the last three are newer than what is on disk.
begin spoilt "*,*,forward,1,slow:50;1,29,forward,1,park" "${no_loss[@]}"
parked 1 29 forward
python3 "$TRIREME_SOURCE/tests/cluster/spoil_memory.py" "$(agent_pid "$parked_host")"
kill -9 "$(hosts_pids "$parked_host" trireme-train-f)"
forget 1 29 forward
must_finish spoilt
same quiet spoilt "copies in memory that are spoilt"
must_tell spoilt "fault attempt=1 rank=1 signal=9" "recovered attempt=2 source=memory steps_lost~^[0-3]$" "end exit_code=0"
grep -q 'passed over' "$scratch/spoilt.err" || { cat "$scratch/spoilt.err"; fail "no word of the copies that were passed over"; }
pass "they are named, and the newest step that is whole elsewhere is taken"

# A node whose parameters go bad: the rank is named by the others, and its node is left out.
begin rotten "2,18,replicas,1,corrupt" --replica-check-interval 3 --quarantine-after 1 "${no_loss[@]}"
must_finish rotten
same quiet rotten "a node that spoilt its copy of the parameters"
rotten=$(sed -n 's/.*"event":"attempt","attempt":1,.*"nodes":"\([^"]*\)".*/\1/p' "$scratch/rotten/events.jsonl" | grep -o 'node[0-9]' | sed -n 3p)
must_tell rotten "fault attempt=1 rank=2 node=$rotten cause~68" "node node=$rotten text~quarantined" "attempt attempt=2" "end exit_code=0"
! sed -n 's/.*"event":"attempt","attempt":2.*"nodes":"\([^"]*\)".*/\1/p' "$scratch/rotten/events.jsonl" | grep -q "$rotten" || fail "$rotten is used again"
pass "it is blamed and left out"

# Ranks die inside collectives of either kind of group, where two ranks on two nodes share each layer.
must_train shared 4 "${arguments[@]}" --tp 2 --sequence-parallel
begin groups "1,23,forward,1,kill;2,35,grad_exchange,2,kill;0,47,optimizer,3,kill" --tp 2 --sequence-parallel "${no_loss[@]}"
must_finish groups
same shared groups "ranks that died in collectives of their tensor and data group"
must_tell groups "fault rank=1 signal=9 step=23" "fault rank=2 signal=9 step=35" "fault rank=0 signal=9 step=47" "end exit_code=0"

# NaN on one rank: all agree to stop, nothing of it is saved, and a start later goes on from what is sound.
begin numbers "1,13,optimizer,1,nan" "${no_loss[@]}"
code=0
wait $run || code=$?
[ $code = 76 ] || { cat "$scratch/numbers.err"; fail "a run with bad numbers exited $code"; }
[ "$(basename "$(final numbers)")" = step-00000010 ] || fail "a checkpoint of bad numbers: $(final numbers)"
[ "$(count_events numbers attempt)" = 1 ] || fail "a run that stopped for bad numbers was started again"
must_supervise numbers "${arguments[@]}" "${no_loss[@]}"
same quiet numbers "bad numbers on one rank: 76, and a start later goes on"

# The same crash after each restart: given up, and why (before any save, which would be left half done).
begin crashes "2,8,forward,*,segv" --max-same-failures 3 "${no_loss[@]}"
code=0
wait $run || code=$?
[ $code = 72 ] || { cat "$scratch/crashes.err"; fail "a run that crashes each time exited $code"; }
must_tell crashes "fault rank=2 signal=11 step=8" "fault rank=2 signal=11 step=8" "fault rank=2 signal=11 step=8" "end exit_code=72 text~3.times.in.a.row"
[ "$(count_events crashes attempt)" = 3 ] || fail "it was tried $(count_events crashes attempt) times"
pass "a crash that repeats is given up after three times, with the reason"

nothing_left "${all[@]}"
finish
