#!/bin/bash
# Everything that can end a process, a node or a link, in every phase of a run, one after the other in
# one supervised run over four hosts and a spare: it ends with the weights of a run that nothing
# happened to, and events.jsonl tells each fault. By default each fault meets some phases and each
# phase some faults; with TRIREME_FULL=1 every fault meets every phase.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 5 head
write_hostfile node1 node2 node3 node4 node5
export SPARES=1

actions=(kill segv stop kill_parent stop_parent hang node_kill node_crash cut mute deaf mpirun_kill agent_kill agent_stop)
phases=(startup comm_init forward grad_exchange optimizer snapshot save evaluate)

# Which faults meet which phases: pairs that differ each time, so that a few cover much.
meets() { # ACTION_NUMBER PHASE_NUMBER
    [ "${TRIREME_FULL:-}" = 1 ] || [ $((($1 * 3 + $2) % 8)) -lt 2 ]
}

# What the record of a fault must say, by action.
told() { # ACTION RANK PHASE
    case $1:$3 in
    hang:save) # all wait for the save, and nobody can tell who holds it up
        echo "fault cause~storage"
        return
        ;;
    esac
    case $1 in
    kill) echo "fault rank=$2 signal=9" ;;
    segv) echo "fault rank=$2 signal=11" ;;
    stop | hang) echo "fault cause~rank.$2" ;;
    node_kill | node_crash | cut | mute | deaf | agent_kill | agent_stop | kill_parent | stop_parent) echo "fault node~node" ;;
    mpirun_kill) echo "fault cause~mpirun" ;;
    esac
}

faults=() expected=() step=1 rank=0
for ((a = 0; a < ${#actions[@]}; a++)); do
    for ((p = 0; p < ${#phases[@]}; p++)); do
        meets $a $p || continue
        case ${phases[p]} in
        startup | comm_init) at=0 ;;
        forward | grad_exchange | optimizer) step=$((step + 1)) at=$step ;;
        # A save goes on behind training: the run is some steps further when it strikes.
        save) at=$(((step / 8 + 1) * 8)) step=$((at + 32)) ;;
        snapshot | evaluate) step=$(((step / 8 + 1) * 8)) at=$step ;;
        esac
        faults+=("${actions[a]}:${phases[p]}:$at:$rank")
        expected+=("$(told "${actions[a]}" $rank "${phases[p]}")")
        rank=$(((rank + 1) % 4))
    done
done

run_arguments=(--train-iters $((step + 20)) --save-interval 8 --eval-interval 8 --eval-iters 1 --keep-latest 2
    --start-timeout-ms 8000 --io-timeout-ms 6000) # a hang in a save is told from a slow disk by that alone
must_train quiet 4 "${run_arguments[@]}"

suffer storm "${faults[@]}"
same quiet storm "after ${#faults[@]} faults"
must_tell storm begin "${expected[@]}" "end exit_code=0"
pass "each of them is told in events.jsonl"
[ "$(count_events storm fault)" = ${#faults[@]} ] || fail "$(count_events storm fault) faults are told, and there were ${#faults[@]}"
pass "and nothing else is called a fault"
nothing_left node1 node2 node3 node4 node5 head
finish
