#!/bin/bash
# Training over several hosts computes what it computes on one, also over a long and bad cable; a host
# that dies ends the run.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
make_text
hosts_up 3

must_train one 1
must_train_on three node1,node2,node3
same one three "three hosts compute what one process does"
must_train_on uneven node1:2,node3:1
same one uneven "two ranks on one host and one on another, too"
hosts_delay node2 2 0.5
must_train_on far node1,node2
same one far "a long and bad cable changes nothing"
hosts_delay node2 0
nothing_left node1 node2 node3

TRAINER=$(faulty_trainer "1,7,grad_exchange,1,park") train_on lost node1,node2,node3 &
run=$!
parked 1 7 grad_exchange
[ "$parked_host" = node2 ] || fail "rank 1 is on $parked_host"
hosts_kill "$parked_host"
code=0
wait $run || code=$?
[ $code != 0 ] || fail "a run that lost a host ended well"
forget 1 7 grad_exchange
nothing_left node1 node3
hosts_boot node2
must_train_on lost node1,node2,node3
same one lost "a run that lost a host, started again"
finish
