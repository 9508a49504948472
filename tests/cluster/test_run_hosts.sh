#!/bin/bash
# `trireme run` over hosts, apart from the table of faults: supervisors that die or meet, links that
# are bad but not broken, spares, shrinking and growing, the operator's files, strangers.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 4 head login
all=(node1 node2 node3 node4 head login)
write_hostfile node1 node2 node3
must_train quiet 3 --train-iters 60 --save-interval 5

# Where no node is lost, and so none waited for, or where a link is bad for a while and that is no loss.
no_loss=(--lease-ms 30000 --linger-ms 60000)

# A supervisor that is killed takes its job with it; the next one waits out the leases and goes on.
run_arguments=(--train-iters 60 --save-interval 5)
TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise orphan "${run_arguments[@]}" &
run=$!
parked 1 23 forward
ranks() { for h in node1 node2 node3; do hosts_pids $h trireme-train-f; done; }
[ "$(ranks | wc -l)" = 3 ] || fail "there are ranks $(ranks), not 3"
kill -9 "$(supervisor_pid)"
wait $run || true
ranks_are_gone() { [ -z "$(ranks)" ]; }
wait_until 60 "the ranks of a dead supervisor end" ranks_are_gone
forget 1 23 forward
pass "the ranks of a supervisor that was killed end by themselves"
must_supervise orphan "${run_arguments[@]}"
same quiet orphan "a new supervisor carries on"
grep -q 'waiting .* until none of its ranks can be alive' "$scratch/orphan.err" || { cat "$scratch/orphan.err"; fail "it did not wait"; }
must_tell orphan "begin" "attempt attempt=1" "begin" "attempt attempt=2" "end exit_code=0"
pass "after the leases of the first"

# Two supervisors for one run: the newer one wins, and never are there two jobs.
TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise twice "${run_arguments[@]}" &
first=$!
parked 1 23 forward
(supervisor_host=login OUTPUT=newer && must_supervise twice "${run_arguments[@]}")
code=0
wait $first || code=$?
[ $code = 69 ] || { cat "$scratch/twice.err"; fail "the older supervisor exited $code"; }
forget 1 23 forward
same quiet twice "two supervisors, one run"
pass "the older supervisor gives way, with 69"

# A link that flaps for less than the time-out, and one that is slow and loses packets: no restart.
TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise flap "${run_arguments[@]}" "${no_loss[@]}" &
run=$!
parked 1 23 forward
hosts_cut node2
sleep 1
hosts_mend node2
release 1 23 forward
wait $run || { cat "$scratch/flap.err"; fail "a short flap ended the run"; }
[ "$(count_events flap fault)" = 0 ] || fail "a short flap was taken for a fault"
same quiet flap "a link that flaps is waited for"
hosts_delay node2 200 1 7
write_hostfile node1 node2
must_supervise far --train-iters 4 "${no_loss[@]}"
hosts_delay node2 0
[ "$(count_events far fault)" = 0 ] || { cat "$scratch/far.err"; fail "a slow link was taken for a fault"; }
write_hostfile node1 node2 node3
must_train near 2 --train-iters 4
same near far "200 ms and 1 % of loss are no fault"

# Without a spare: fewer ranks where that is allowed, growing again when the node returns; else 69.
run_arguments=(--train-iters 300 --save-interval 5)
must_train long 3 "${run_arguments[@]}"
TRAINER=$(faulty_trainer "1,23,forward,1,park;1,40,forward,2,park;1,290,forward,2,park") \
    supervise shrunk "${run_arguments[@]}" --min-data-parallel-size 2 &
run=$!
parked 1 23 forward
hosts_kill node2
forget 1 23 forward
parked 1 40 forward
wait_until 60 "two ranks go on" grep -q '"event":"recovered","attempt":2' "$scratch/shrunk/events.jsonl"
hosts_boot node2
wait_until 60 "node2 is back" grep -q '"node":"node2","text":"node2 is back"' "$scratch/shrunk/events.jsonl"
release 1 40 forward
wait_until 60 "the run is asked to save, and to grow" has_events shrunk stop 1
wait_until 60 "its ranks know" ranks_know shrunk
release 1 290 forward # should it have come so far
wait $run || { cat "$scratch/shrunk.err"; fail "the run that shrank ended badly"; }
same long shrunk "a run that shrank and grew again"
must_tell shrunk "fault node=node2" "attempt ranks=2" "recovered" "node node=node2 text~back" "stop ranks=3" "attempt ranks=3" "end exit_code=0"
pass "and it is told"
TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise short "${run_arguments[@]}" --node-wait-ms 500 &
run=$!
parked 1 23 forward
hosts_kill node2
forget 1 23 forward
code=0
wait $run || code=$?
[ $code = 69 ] || { cat "$scratch/short.err"; fail "a run without enough nodes exited $code"; }
hosts_boot node2
must_supervise short "${run_arguments[@]}"
same long short "without a spare and without leave to shrink it ends with 69, and can be started again"

# A node that failed twice is not used again, though it is back; one that the operator excludes is left.
write_hostfile node1 node2 node3 node4
TRAINER=$(faulty_trainer "1,11,forward,1,park;1,21,forward,2,park") SPARES=1 supervise flaps "${run_arguments[@]}" \
    --quarantine-after 1 --exclude-file "$scratch/exclude" --on-event "cat >>$scratch/hook.log" &
run=$!
parked 1 11 forward
lost=$parked_host
hosts_kill "$lost"
forget 1 11 forward
wait_until 60 "the loss is noticed" has_events flaps fault 1
hosts_boot "$lost"
parked 1 21 forward
[ "$parked_host" != "$lost" ] || fail "a quarantined node is used"
echo "$parked_host # the operator does not trust it" >"$scratch/exclude"
wait_until 60 "the excluded node is noticed" grep -q excluded "$scratch/flaps.err"
release 1 21 forward
wait $run || true
must_tell flaps "fault node=$lost" "node node=$lost text~quarantined" "node text~excluded"
[ "$(grep -c '"event":"fault"' "$scratch/hook.log")" = 1 ] || { cat "$scratch/hook.log"; fail "the hook was not told"; }
pass "quarantine, the exclude file and the hook"

# A node that is ill is left out, with the reason. The first nodes that answer would do without it: their
# checks go on until its own has failed.
ill='test "$(hostname)" != node3 || { echo no licence; exit 3; }'
SPARES=1 must_supervise ill --train-iters 60 --save-interval 5 "${no_loss[@]}" \
    --health-command "$ill; until grep -qs left.out $scratch/ill/events.jsonl; do sleep 0.1; done"
same quiet ill "a node that fails the operator's check is left out"
must_tell ill "node node=node3 text~left.out" "attempt attempt=1 nodes~node1.*node2.*node4" "end exit_code=0"

# Strangers.
TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise strange --train-iters 60 --save-interval 5 "${no_loss[@]}" &
run=$!
parked 1 23 forward
hosts_exec login python3 "$TRIREME_SOURCE/tests/cluster/strangers.py" head "$(supervisor_port)"
release 1 23 forward
wait $run || { cat "$scratch/strange.err"; fail "strangers ended the run"; }
must_tell strange stranger "end exit_code=0"
[ "$(count_events strange fault)" = 0 ] || fail "strangers were taken for a fault"
same quiet strange "strangers who connect, send noise and false heartbeats"

nothing_left "${all[@]}"
finish
