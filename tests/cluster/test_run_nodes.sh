#!/bin/bash
# What nodes have: neighbours, and memory. Failure domains of the host file: the copies in memory are in another one, so that a whole one may be
# lost. Its two nodes are neighbours, and each would be the other's partner if nobody knew.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 4 head
all=(node1 node2 node3 node4 head)
printf '%s\n' "node1 domain=rack1" "node2 domain=rack1" "node3 domain=rack2" "node4 domain=rack2" >"$scratch/hosts.txt"
options=(--train-iters 60)
must_train quiet 4 "${options[@]}"

TRAINER=$(faulty_trainer "1,23,forward,1,park") supervise racks "${options[@]}" --min-data-parallel-size 2 --node-wait-ms 1000 &
run=$!
parked 1 23 forward
wait_until 60 "it is heard that it makes steps" has_events racks recovered 1
hosts_kill node1 &
hosts_kill node2
wait $!
forget 1 23 forward
wait_until 60 "it goes on without the rack" has_events racks recovered 2
wait $run || { cat "$scratch/racks.err"; fail "the run that lost a rack ended badly"; }
hosts_boot node1
hosts_boot node2
same quiet racks "a rack of two nodes is lost at once"
grep -q 'twice, in different failure domains (node1 to node3, node2 to node4, node3 to node1, node4 to node2)' "$scratch/racks.err" ||
    { cat "$scratch/racks.err"; fail "the log does not say whose copies are in which rack"; }
must_tell racks "attempt ranks=4" "recovered source=nothing" "fault" "attempt ranks=2" "recovered source=memory" "end exit_code=0"
pass "the state was in the memory of the other rack"

# A node with too little memory is not tried; here its kernel seems to say so.
sed 's/^MemAvailable:.*/MemAvailable:       1000 kB/' /proc/meminfo >"$scratch/meminfo"
hosts_exec node2 mount -n --bind "$scratch/meminfo" /proc/meminfo
must_supervise small "${options[@]}" --min-data-parallel-size 2
hosts_exec node2 umount -n /proc/meminfo
same quiet small "a node without memory"
must_tell small "node node=node2 text~left.out:.its.ranks.need.*of.memory.at.least,.and.1000.KiB.are.available" "attempt attempt=1 ranks=3" "end exit_code=0"
pass "is left out before an attempt, with the reason"

nothing_left "${all[@]}"
finish
